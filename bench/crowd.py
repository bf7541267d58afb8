"""What a crowd that does nothing costs the clients that work: idle connections, heads that drip
until they are too late, and heads that are none; who is refused comes again at once.

python -m bench.crowd            10,000 of each, one worker, a table
python -m bench.crowd --size 500
"""

import argparse
import asyncio
import itertools
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

from bench import machine, stack
from bench.run import PRICES

MODEL, UPSTREAM_MODEL = "bench/crowd", "mock/ok?in=200&out=80&bytes=400&latency_ms=5"
AT_ONCE = 200  # connections that are being opened
RATE = 200.0  # requests a second of the clients that work
SLICES = 100
DRIP_S = 2.0  # between two bytes of a head
#: What each of a crowd sends when it has come.
CROWDS = {
    "none": b"",
    "idle": b"GET /healthz HTTP/1.1\r\nhost: crowd\r\n\r\n",
    "dripping": b"GET /healthz HTTP/1.1\r\nx-drip: ",
    "refused": b"GET /healthz HTTP/1.",  # followed by an x
}


@dataclass(frozen=True, slots=True)
class Row:
    """What the working clients had while the crowd was there."""

    crowd: str
    held: int  # connections of the crowd at the end
    came_again: int  # those that it opened anew for others that had been closed
    answered: int
    errors: dict[str, int]
    p50_ms: float
    p99_ms: float
    idle_cpu_ms: float  # of the worker in a second without any request
    memory_mib: float  # of the worker


class Idler(asyncio.Protocol):
    """One of the crowd: asks once and stays, or begins a head that never ends."""

    def __init__(self, begin: bytes) -> None:
        self.begin = begin
        self.answered = asyncio.get_running_loop().create_future()
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self.open = True
        self.write(self.begin)
        if not self.begin.endswith(b"\r\n\r\n"):
            self.answered.set_result(None)

    def data_received(self, data: bytes) -> None:
        if not self.answered.done():
            self.answered.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if not self.answered.done():
            self.answered.set_result(None)

    def write(self, data: bytes) -> None:
        self.transport.write(data)


class Crowd:
    """So many connections to the door; one that was closed comes again."""

    def __init__(self, url: str, size: int, begin: bytes) -> None:
        parts = urlsplit(url)
        self._at, self._begin = (parts.hostname or "", parts.port or 80), begin
        self._drips = not begin.endswith(b"\r\n\r\n")
        self._size = size
        self._members: list[Idler] = []
        self.opened = 0

    @property
    def held(self) -> int:
        return sum(one.open for one in self._members)

    @asynccontextmanager
    async def gathered(self) -> AsyncIterator[None]:
        await self._fill()
        keeping = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            keeping.cancel()

    def leave(self) -> None:
        for one in self._members:
            one.transport.abort()

    async def _keep(self) -> None:
        """Drips one byte into each connection, spread evenly; replaces those that were closed."""
        for nth in itertools.count():
            await asyncio.sleep(DRIP_S / SLICES)
            for one in self._members[nth % SLICES :: SLICES] if self._drips else []:
                if one.open:
                    one.write(b"x")
            self._members = [one for one in self._members if one.open]
            await self._fill()

    async def _fill(self) -> None:
        loop, host, port = asyncio.get_running_loop(), *self._at
        while len(self._members) < self._size:
            missing = min(AT_ONCE, self._size - len(self._members))
            made = await asyncio.gather(
                *(
                    loop.create_connection(lambda: Idler(self._begin), host, port)
                    for _ in range(missing)
                )
            )
            self.opened += missing
            self._members += [one for _, one in made]
            await asyncio.gather(*(one.answered for _, one in made))


async def measure(running: stack.Stack, crowd: str, size: int, seconds: float) -> Row:
    crowded = Crowd(running.door_url, size, CROWDS[crowd])
    async with crowded.gathered():
        before = machine.cpu_seconds(running.pid)["gateway"]
        await asyncio.sleep(2.0)
        idle_s = (machine.cpu_seconds(running.pid)["gateway"] - before) / 2.0
        worked = await _work(running, seconds)
        held, memory = crowded.held, machine.memory_bytes(running.pid)["gateway"]
    crowded.leave()
    return Row(
        crowd=crowd,
        held=held,
        came_again=crowded.opened - size,
        answered=worked["answered"],
        errors=worked["errors"],
        p50_ms=worked["latency_ms"]["p50"],
        p99_ms=worked["latency_ms"]["p99"],
        idle_cpu_ms=round(idle_s * 1000, 1),
        memory_mib=round(memory / 2**20, 1),
    )


async def _work(running: stack.Stack, seconds: float) -> dict[str, Any]:
    """The clients that work, in a process of their own: the crowd's is busy with the crowd."""
    count = str(int(RATE * seconds))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.load", "--url", running.door_url, "--key", running.key),
        *("--model", MODEL, "--connections", "16", "--requests", count, "--rate", str(RATE)),
        "--json",
        stdout=asyncio.subprocess.PIPE,
        cwd=machine.REPOSITORY,
    )
    out, _ = await process.communicate()
    worked: dict[str, Any] = json.loads(out)
    return worked


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.crowd", description=__doc__)
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    where = machine.describe()
    with stack.started(1, 1) as running:
        stack.serve_provider(running)
        stack.serve_model(running, MODEL, UPSTREAM_MODEL, PRICES)
        rows = [
            uvloop.run(measure(running, crowd, options.size if begin else 0, options.seconds))
            for crowd, begin in CROWDS.items()
        ]
    if options.json:
        print(json.dumps({"machine": asdict(where), "rows": [asdict(row) for row in rows]}))
    else:
        names = list(asdict(rows[0]))
        print(*(f"{name:>11}" for name in names))
        for row in rows:
            print(*(f"{value!s:>11}" for value in asdict(row).values()))
        print(" ".join(f"{k} {v};" for k, v in asdict(where).items()))
    return 1 if any(row.errors for row in rows) or rows[1].held < options.size else 0


if __name__ == "__main__":
    sys.exit(main())
