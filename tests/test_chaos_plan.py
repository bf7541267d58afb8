"""The plan of a chaos run and the cables that it spoils: what a seed means, what a mode does."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bench.chaos.cable import Cable, End
from bench.chaos.plan import Fault, plan

LONG_S, SHORT_S = 5.0, 0.05


def test_a_seed_is_a_plan() -> None:
    """Equal seeds give equal storms, and others give others."""
    assert plan(1, 60, 40, 6) == plan(1, 60, 40, 6)
    assert plan(1, 60, 40, 6).faults != plan(2, 60, 40, 6).faults


def test_a_plan_has_what_was_asked_for() -> None:
    made = plan(3, 600, 1_000, 150)
    assert sum(fault.is_kill for fault in made.faults) == 1_000
    assert made.count("wipe") == 150
    assert list(made.faults) == sorted(made.faults, key=_at)
    assert {"cable", "stop-worker", "stop-redis", "script-flush", "topup", "kill-backend"} <= {
        fault.kind for fault in made.faults
    }


def test_every_fault_ends() -> None:
    """Bounded in time, whatever the dice say."""
    for seed in range(50):
        assert all(0 <= fault.seconds <= 20 for fault in plan(seed, 90, 60, 10).faults)


def _at(fault: Fault) -> float:
    return fault.at


@pytest.fixture
async def cable(tmp_path: Path) -> AsyncIterator[Cable]:
    """Before a server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    server = await asyncio.start_unix_server(echo, tmp_path / "s")
    made = Cable(str(tmp_path / "s"))
    yield made
    made.drop()
    server.close()


class Line:
    """A client's connection through the cable."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def says(self, data: bytes, wait_s: float = LONG_S) -> bytes:
        """What comes back, as far as it does."""
        self.writer.write(data)
        try:
            async with asyncio.timeout(wait_s):
                return await self.reader.readexactly(len(data))
        except TimeoutError:
            return b"nothing"
        except (ConnectionError, asyncio.IncompleteReadError):
            return b"lost"


@pytest.fixture
async def line(cable: Cable) -> AsyncIterator[Line]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: End(cable, to_server=True), "127.0.0.1", 0)
    made = Line(*await asyncio.open_connection(*server.sockets[0].getsockname()))
    assert await made.says(b"hello") == b"hello"
    yield made
    made.writer.close()
    server.close()


async def test_a_slow_cable_loses_nothing(cable: Cable, line: Line) -> None:
    cable.change("delay", 20)
    assert await line.says(b"a" * 1000) == b"a" * 1000
    cable.change("drip", 0)
    assert await line.says(b"b" * 1000) == b"b" * 1000
    cable.change("open", 0)
    assert await line.says(b"c" * 1000) == b"c" * 1000


@pytest.mark.parametrize("mode", ["half", "blackhole"])
async def test_a_cable_that_swallows_ends_its_connections_when_mended(
    cable: Cable, line: Line, mode: str
) -> None:
    """What was swallowed is missing, so nothing may follow it."""
    cable.change(mode, 0)
    assert await line.says(b"into the dark", SHORT_S) == b"nothing"
    cable.change("open", 0)
    assert await line.says(b"hello") == b"lost"


@pytest.mark.parametrize("mode", ["reset", "cut"])
async def test_a_cable_that_is_cut_ends_its_connections_at_once(
    cable: Cable, line: Line, mode: str
) -> None:
    cable.change(mode, 0)
    assert await line.says(b"hello") == b"lost"
    assert cable.mode == ("open" if mode == "reset" else "cut")
