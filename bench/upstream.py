"""The fake provider: OpenAI's chat completions over HTTP/1.1, and the dialects of Anthropic,
Gemini, Cohere and Ollama at their own paths; far faster than a gateway under test.

What it does is chosen by the model's name, so that an unchanged body drives it: `mock/ok`,
`mock/ok?in=12&out=34`, `mock/ok?latency_ms=5&chunks=50&chunk_ms=10`, `mock/429`, `mock/hang@3`,
`mock/503?times=2`. Grammar, behaviours and parameters: `bench.modes`.

What it bills stands in the file of bills before the last byte of the answer is sent: all of an
answer that ended; prompt and the share that was produced, where the client went away or the mode
cut it; nothing before the first piece of content. A plain answer is one piece.

    async with FakeUpstream(ledger=path) as upstream: ...  # upstream.url, .requests, .billed()
    python -m bench.upstream --port 0 --ledger FILE --workers 2
"""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import uvloop

from bench.bills import Bill, BillFile
from bench.connection import Connection
from bench.provider import Provider, Seen
from proxy.machine.files import make_room

BACKLOG = 1024
FILES_MAX = 8192  # connections and all
REQUESTS_KEPT = 1000
STOP_S = 5.0


class FakeUpstream:
    """A provider on a free port of loopback, for as long as the `async with` lasts."""

    def __init__(
        self,
        ledger: Path | None = None,
        *,
        ssl_context: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        sock: socket.socket | None = None,
        requests_kept: int = REQUESTS_KEPT,
    ) -> None:
        self._socket = sock or listening_socket(host, port)
        self._ssl_context = ssl_context
        self._bills = BillFile(ledger)
        self.requests: deque[Seen] = deque(maxlen=requests_kept)
        self._provider = Provider(self._bills, self.requests if requests_kept else None)
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        scheme = "http" if self._ssl_context is None else "https"
        return f"{scheme}://{self._socket.getsockname()[0]}:{self.port}"

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._connections)

    def billed(self) -> list[Bill]:
        """Every bill in the file, in the order in which they were written."""
        return self._bills.bills()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._provider, self._connections),
            sock=self._socket,
            ssl=self._ssl_context,
            backlog=BACKLOG,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stops listening and drops what is open; a stream under way is billed as aborted."""
        assert self._server is not None
        self._server.close()
        ends = [asyncio.ensure_future(each.drop()) for each in tuple(self._connections)]
        if ends:
            await asyncio.wait(ends, timeout=STOP_S)
        self._bills.close()


def listening_socket(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Listens already, so that nobody who knows its port is refused; shared: one of several."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((host, port))
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


# The program ----------------------------------------------------------------


async def serve(upstream: FakeUpstream, stop: asyncio.Event, seconds: float | None) -> None:
    """Serves until told to stop, or until the seconds are over."""
    async with upstream:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stop.wait()


def run_worker(
    sock: socket.socket, ledger: Path | None, seconds: float | None, parent: int | None
) -> None:
    """One process of the program; it ends by a signal, by time, or when its parent is gone."""

    async def main() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        if parent is not None:
            loop.add_reader(parent, stop.set)  # a pipe whose other end only the parent holds
        await serve(FakeUpstream(ledger, sock=sock, requests_kept=0), stop, seconds)

    make_room(FILES_MAX)
    uvloop.run(main())


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options().parse_args(arguments)
    first = listening_socket(options.host, options.port, shared=options.workers > 1)
    port = first.getsockname()[1]
    rest = [listening_socket(options.host, port, shared=True) for _ in range(options.workers - 1)]
    print(f"listening on http://{options.host}:{port}", flush=True)
    if not rest:
        run_worker(first, options.ledger, options.seconds, None)
        return
    Workers([first, *rest], options.ledger, options.seconds).run()


class Workers:
    """A process per socket, forked before any loop exists."""

    def __init__(
        self, sockets: list[socket.socket], ledger: Path | None, seconds: float | None
    ) -> None:
        self._alive, self._hold = os.pipe()
        self._pids = [self._fork(sock, sockets, ledger, seconds) for sock in sockets]
        for sock in sockets:
            sock.close()

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        for pid in self._pids:
            os.waitpid(pid, 0)

    def _stop(self) -> None:
        for pid in self._pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _fork(
        self,
        sock: socket.socket,
        sockets: list[socket.socket],
        ledger: Path | None,
        seconds: float | None,
    ) -> int:
        pid = os.fork()
        if pid:
            return pid
        os.close(self._hold)
        for other in sockets:
            if other is not sock:
                other.close()
        run_worker(sock, ledger, seconds, self._alive)
        os._exit(0)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.upstream", description="A fake provider on loopback."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: a free one, which is printed")
    parser.add_argument("--ledger", type=Path, help="the file of bills; without it nothing is kept")
    parser.add_argument("--workers", type=int, default=1, choices=range(1, 65), metavar="N")
    parser.add_argument("--seconds", type=float, help="stop by itself after so long")
    return parser


if __name__ == "__main__":
    main()
