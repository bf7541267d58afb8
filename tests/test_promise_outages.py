"""P11, P12: what happens while Redis or PostgreSQL is away. Real servers that are stopped, killed
and started again under real workers; nothing of ours is restarted.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from control.books.verify import verify
from control.machine import servers
from tests.conftest import PASSWORD, in_own_loop, short_folder
from tests.fleet_stage import Fleet, fleet, go_on, pause, told, until

TEN_TOKENS: dict[str, Any] = {"max_tokens": 10}
WAIT_S = 0.25  # the longest that a request waits for Redis
CHEAP = "mock/cheap"


@dataclass
class Away:
    """Servers of one test's own."""

    folder: Path
    valkey: servers.ValkeyServer
    postgres: servers.PostgresServer

    def start_valkey(self) -> None:
        self.valkey = servers.start_valkey(self.folder / "valkey", self.folder / "run", PASSWORD)

    def start_postgres(self) -> None:
        self.postgres = servers.start_postgres(self.folder / "pg", self.folder / "run", PASSWORD)

    def kill_valkey(self) -> None:
        """As a crash: kill -9."""
        self.valkey.process.kill()
        self.valkey.process.wait()


@pytest.fixture
def own() -> Iterator[Away]:
    folder = short_folder()
    valkey = servers.start_valkey(folder / "valkey", folder / "run", PASSWORD)
    postgres = servers.start_postgres(folder / "pg", folder / "run", PASSWORD)
    own = Away(folder, valkey, postgres)
    yield own
    for server in (own.valkey, own.postgres):
        if server.process.poll() is None:
            go_on(server)
            server.stop()


@pytest.fixture
async def here(own: Away, home: Path) -> AsyncIterator[Fleet]:
    from control import migrate

    in_own_loop(lambda: migrate.migrate(own.postgres.url))
    async with fleet(home, own.valkey.url, own.postgres.url, (2,)) as here:
        await here.model(CHEAP, "mock/ok?in=0&out=10", dollars="1")
        yield here


# Redis --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sickness", ["hangs", "dies", "is out of memory"])
async def test_p11_redis_chaos(here: Fleet, own: Away, sickness: str) -> None:
    """Refused within the deadline, with a cause and a time; a stream goes on under its hold;
    recovery by itself; nobody was served for nothing and nobody is charged twice."""
    model = await here.model("mock/steady", "mock/ok?in=0&out=100&chunks=200&chunk_ms=20")
    assert await here.many(8, CHEAP, **TEN_TOKENS) == {"200": 8}
    async with here.stream(model, max_tokens=100) as stream:
        whole = asyncio.create_task(stream.aread())
        await fall_ill(here, own, sickness)
        served, waits = len(here.fake.requests), []
        for _ in range(30):
            begun = time.monotonic()
            answer = await here.chat(CHEAP, **TEN_TOKENS)
            waits.append(time.monotonic() - begun)
            assert told(answer) == "503 not_ready"
            assert answer.headers["retry-after"] == "2"
            assert "cannot check credits" in answer.json()["error"]["message"]
        assert sorted(waits)[len(waits) // 2] < WAIT_S
        assert max(waits) < WAIT_S + 1.0  # of which the machine may take a second
        assert len(here.fake.requests) == served
        assert b"data: [DONE]" in await whole
    await recover(here, own, sickness)
    await until(lambda: serves(here))
    await here.rest()
    await until(lambda: exact(here))
    await until(lambda: charged(here))


async def charged(here: Fleet) -> bool:
    """All that the provider billed, each once: an orphan's truth comes from the journal."""
    rows = await here.usage()
    assert len({(row["rid"], row["phase"]) for row in rows}) == len(rows)
    used = sum(row["tokens"].get("output", 0) for row in rows)
    billed = sum(bill.completion_tokens for bill in here.fake.billed())
    assert used <= billed
    return bool(used == billed)


async def fall_ill(here: Fleet, own: Away, sickness: str) -> None:
    if sickness == "hangs":
        pause(own.valkey)
    elif sickness == "dies":
        own.kill_valkey()
    else:
        await here.redis.command("CONFIG", "SET", "maxmemory", "1")


async def recover(here: Fleet, own: Away, sickness: str) -> None:
    if sickness == "hangs":
        go_on(own.valkey)
    elif sickness == "dies":
        await asyncio.to_thread(own.start_valkey)
    else:
        await here.redis.command("CONFIG", "SET", "maxmemory", "0")


async def serves(here: Fleet) -> bool:
    return await here.many(4, CHEAP, **TEN_TOKENS) == {"200": 4}


async def exact(here: Fleet) -> bool:
    """What was settled into the journal while Redis was away has arrived, too."""
    return (await verify(here.pool, here.redis)).ok


async def test_p11_redis_chaos_is_told_once_per_change(here: Fleet, own: Away) -> None:
    """Readiness falls and rises with it; the log has no line per request."""
    health = here.nodes[0].health
    log = here.nodes[0].home / "log"
    before = len(log.read_text().splitlines())
    pause(own.valkey)
    assert await here.many(100, CHEAP, **TEN_TOKENS) == {"503 not_ready": 100}
    await until(lambda: ready(here.http, health, 503))
    go_on(own.valkey)
    await until(lambda: serves(here))
    await until(lambda: ready(here.http, health, 200))
    assert len(log.read_text().splitlines()) - before < 20


async def ready(http: httpx2.AsyncClient, health: str, status: int) -> bool:
    return (await http.get(health + "/readyz")).status_code == status


# PostgreSQL ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sickness", ["is stopped", "hangs"])
async def test_p12_pg_outage(here: Fleet, own: Away, sickness: str) -> None:
    """Known keys go on, with exact limits; what they used waits; nothing is lost or doubled."""
    key = await here.new_key(budget_ucr=300 * 10_000)
    assert await here.many(50, CHEAP, key=key, **TEN_TOKENS) == {"200": 50}
    await here.rest()
    if sickness == "hangs":
        pause_all(own.postgres)
    else:
        await asyncio.to_thread(own.postgres.stop)
    answers = await here.many(400, CHEAP, key=key, **TEN_TOKENS)
    assert answers == {"200": 250, "429 budget_reached": 150}
    if sickness == "hangs":
        go_on_all(own.postgres)
    else:
        await asyncio.to_thread(own.start_postgres)
    await here.rest()
    await until(lambda: exact(here))
    rows = await here.usage()
    assert len(rows) == len({row["rid"] for row in rows}) == 300
    assert sum(row["cost"] for row in rows) == 300 * 10_000
    deadlocks = await here.pool.fetchval("SELECT sum(deadlocks) FROM pg_stat_database")
    assert deadlocks == 0


def pause_all(server: servers.PostgresServer) -> None:
    import os
    import signal

    for pid in family(server.pid):
        os.kill(pid, signal.SIGSTOP)


def go_on_all(server: servers.PostgresServer) -> None:
    import os
    import signal

    for pid in family(server.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def family(pid: int) -> list[int]:
    """A server and the processes that it has made."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(int(one) for one in listed)]
