"""The door's server for tests: real sockets, each byte the test's own, and a handler that does what
the path says.
"""

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson

from proxy.errors import BodyTooLarge, OpsError
from proxy.metrics import Metrics, in_memory
from proxy.serve.request import Request
from proxy.serve.server import Server
from proxy.serve.turn import Turn
from proxy.settings import Settings

PATIENCE_S = 10.0
HOST = b"host: localhost\r\n"
PLAIN = ((b"content-type", b"text/plain"),)


@dataclass(slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return str(orjson.loads(self.body)["error"]["code"])


class Wire:
    """A client's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def get(self, path: str = "/", *headers: bytes) -> None:
        lines = b"".join(header + b"\r\n" for header in headers)
        self.send(b"GET %b HTTP/1.1\r\n%b%b\r\n" % (path.encode(), HOST, lines))

    def post(self, body: bytes, path: str = "/") -> None:
        length = b"content-length: %d\r\n\r\n" % len(body)
        self.send(b"POST %b HTTP/1.1\r\n%b%b%b" % (path.encode(), HOST, length, body))

    async def head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(PATIENCE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")[:-2]
        pairs = [line.split(": ", 1) for line in lines]
        return int(first.split(" ")[1]), {name.lower(): value for name, value in pairs}

    async def reply(self, *, of_head: bool = False) -> Reply:
        """The next answer, whole."""
        status, headers = await self.head()
        body = b""
        if headers.get("transfer-encoding") == "chunked" and not of_head:
            while (piece := await self.chunk()) is not None:
                body += piece
        elif not of_head:
            async with asyncio.timeout(PATIENCE_S):
                body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Reply(status, headers, body)

    async def chunk(self) -> bytes | None:
        async with asyncio.timeout(PATIENCE_S):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            data = await self.reader.readexactly(size + 2)
        return data[:-2] if size else None

    async def ended(self) -> bytes:
        """What still comes until the server has ended the connection."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    def leave(self) -> None:
        self.writer.transport.abort()


@dataclass
class Served:
    """A running server, and what its handler saw."""

    server: Server
    metrics: Metrics
    port: int
    seen: list[Request] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)  # paths whose handler was cancelled
    checked: Counter[str] = field(default_factory=Counter)
    doors: dict[str, asyncio.Event] = field(default_factory=dict)
    wires: list[Wire] = field(default_factory=list)

    async def connect(self, receive_buffer: int = 0) -> Wire:
        made = socket.socket()
        if receive_buffer:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", self.port))
        wire = Wire(*await asyncio.open_connection(sock=made, limit=2**20))
        self.wires.append(wire)
        return wire

    @property
    def connections(self) -> int:
        return self.metrics.cells[self.metrics.connections]

    def open(self, path: str) -> None:
        """Lets every request of this path, now and later, go on."""
        self.doors.setdefault(path, asyncio.Event()).set()

    def check(self, request: Request) -> None:
        self.checked[request.path] += 1
        if request.path == "/refused":
            raise BodyTooLarge(limit=1)

    async def serve(self, request: Request, turn: Turn) -> None:
        self.seen.append(request)
        try:
            await self._serve(request, turn)
        except asyncio.CancelledError:
            self.cut.append(request.path)
            raise

    async def _serve(self, request: Request, turn: Turn) -> None:
        path = request.path
        if path.startswith("/wait"):
            await self.doors.setdefault(path, asyncio.Event()).wait()
        if path == "/broken":
            raise RuntimeError("a mistake of ours")
        if path == "/error":
            return turn.fail(OpsError())
        if path == "/split":
            return await turn.answer(200, ((b"x-model", b"a\r\nx-evil: 1"),), b"")
        if "stream" not in path:
            return await turn.answer(200, PLAIN, request.body or path.encode())
        await turn.head(200, PLAIN)
        if path == "/stream/torn":
            raise RuntimeError("in the middle")
        pieces = [b"x" * 65536] * 10_000 if path == "/stream/flood" else [b"one", b"", b"two"]
        for piece in pieces:
            if (waits := turn.chunk(piece)) is not None:
                await waits
        if path == "/stream/wait":
            await self.doors.setdefault(path, asyncio.Event()).wait()
        await turn.end(b"")


async def becomes(true: Callable[[], object]) -> None:
    """Waits for what announces nothing by itself."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@asynccontextmanager
async def served(**settings: int) -> AsyncIterator[Served]:
    """A server on a free port; the settings are those of the door."""
    metrics = in_memory()
    made: list[Served] = []
    server = Server(
        Settings(**settings),  # type: ignore[arg-type]
        metrics,
        lambda request, turn: made[0].serve(request, turn),
        lambda request: made[0].check(request),
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stage = Served(server, metrics, listener.getsockname()[1])
        made.append(stage)
        task = asyncio.create_task(server.serve(listener))
        try:
            yield stage
        finally:
            for wire in stage.wires:
                wire.leave()
            server.stop()
            with contextlib.suppress(asyncio.CancelledError):
                async with asyncio.timeout(PATIENCE_S):
                    await task
    assert not stage.connections
    assert not server.gate.running
    assert not server.gate.bytes
