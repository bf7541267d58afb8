"""Redis full, standing still, a replica, killed: nothing is admitted that it does not hold, nothing
is half written, what ran is charged when it is back, and nobody has to start anything again.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from bench.chaos.parts import Valkey
from bench.upstream import FakeUpstream
from control import settings
from control.machine import checks
from proxy import settle
from proxy.redis.scripts import SHARD_KEYS
from tests.door_stage import HELLO, DoorStage, door, until
from tests.failures_stage import agreed, ask, balance, code, content, own_valkey

GRANT = 10_000_000_000
COST = 9_000  # of one hello to ops/echo
RATES = {"input": 0, "output": 1_000_000_000}
TEN = 10_000  # of one answer of ten tokens
WAITED_MAX_S = 2.0  # 250 ms on a quiet machine, see bench/ledger; this one is shared


@pytest.fixture
async def server() -> AsyncIterator[Valkey]:
    async with own_valkey() as server:
        yield server


@pytest.fixture
async def stage(
    home: Path, server: Valkey, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[DoorStage]:
    monkeypatch.setattr(settle, "REDRIVE_AFTER_S", 0.05)
    async with door(home, server.url, database_url) as stage:
        yield stage


@pytest.fixture
async def fake(stage: DoorStage, tmp_path: Path) -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream(ledger=tmp_path / "bills") as upstream:
        await stage.add_provider(upstream.url + "/v1")
        yield upstream


async def running(stage: DoorStage, fake: FakeUpstream, ms: int = 300) -> "asyncio.Task[object]":
    """A request that the provider works on just now."""
    model = await stage.add_model("mock/ten", f"mock/ok?in=0&out=10&latency_ms={ms}", rates=RATES)
    call = asyncio.create_task(stage.chat({**HELLO, "model": model, "max_tokens": 10}))
    await until(lambda: bool(fake.requests))
    return call


async def served_again(stage: DoorStage) -> None:
    """Without a restart of anything."""
    async with asyncio.timeout(10):
        while (await stage.chat()).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def settled(stage: DoorStage, count: int) -> None:
    metrics = stage.worker.metrics
    cells = range(metrics.settled, metrics.settled + 2)
    await until(lambda: sum(metrics.cells[cell] for cell in cells) >= count)
    await stage.quiesce()


async def test_a_full_redis_admits_nothing_and_writes_nothing_by_halves(
    stage: DoorStage, server: Valkey, fake: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """What ran is settled from the journal as soon as there is room."""
    assert (await stage.chat()).status_code == 200
    await stage.quiesce()
    call = await running(stage, fake)
    ask(server, "CONFIG", "SET", "maxmemory", "1")
    before = content(server)
    for _ in range(3):
        refused = await stage.chat()
        assert code(refused) == (503, "not_ready")
        assert refused.headers["retry-after"]
    answer = await call
    assert getattr(answer, "status_code", 0) == 200
    failures = stage.worker.metrics.redis_failures
    seen = stage.worker.metrics.cells[failures]
    await until(lambda: stage.worker.metrics.cells[failures] > seen + 1)  # settled again and again
    assert content(server) == before
    assert "OOM" in caplog.text
    assert len(fake.requests) == 1
    ask(server, "CONFIG", "SET", "maxmemory", "0")
    await settled(stage, 2)
    await served_again(stage)
    await settled(stage, 3)
    assert await stage.pool_in_redis() == {"b": GRANT - 2 * COST - TEN, "h": 0}
    await agreed(stage)


async def test_a_full_redis_is_drained_so_that_there_is_room_again(
    stage: DoorStage, server: Valkey
) -> None:
    """To acknowledge takes no memory; only the news to the workers has to wait."""
    for _ in range(3):
        assert (await stage.chat()).status_code == 200
    await stage.worker.flow.settler.drain(10)
    shard = await stage.pool.fetchval("SELECT shard FROM organisation WHERE platform")
    ask(server, "CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(RedisError, match="maxmemory"):
        await stage.drain.streams.drain_once()
    at = SHARD_KEYS[int(shard)]
    assert await stage.redis.commands([("XLEN", at.usage), ("HLEN", at.tomb)]) == [0, 0]
    assert await balance(stage) == GRANT - 3 * COST
    ask(server, "CONFIG", "SET", "maxmemory", "0")
    await stage.quiesce()
    assert len(await stage.usage()) == 3
    await agreed(stage)


async def leases_over(stage: DoorStage) -> None:
    """As twelve seconds later."""
    shard = await stage.pool.fetchval("SELECT shard FROM organisation WHERE platform")
    lease = SHARD_KEYS[int(shard)].lease
    for rid in await stage.redis.command("ZRANGE", lease, 0, -1):
        await stage.redis.command("ZADD", lease, 1, rid)
    stage.drain.reaper.prepare(10**6, False)
    await stage.drain.reaper.reap_once()
    await stage.quiesce()


async def test_a_redis_that_stands_still_refuses_soon_and_charges_what_ran(
    stage: DoorStage, server: Valkey, fake: FakeUpstream
) -> None:
    """The running request goes on within what it holds; its charge waits in the journal. Whom Redis
    hears too late had been refused: what it holds for him ends with its lease and costs nothing.
    """
    call = await running(stage, fake)
    server.send(signal.SIGSTOP)
    try:
        async with asyncio.timeout(WAITED_MAX_S):
            assert code(await stage.chat()) == (503, "not_ready")
        assert getattr(await call, "status_code", 0) == 200
    finally:
        server.send(signal.SIGCONT)
    await served_again(stage)
    await settled(stage, 2)
    await leases_over(stage)
    assert await stage.pool_in_redis() == {"b": GRANT - COST - TEN, "h": 0}
    assert [row["cost"] for row in await stage.usage() if row["kind"] == "orphan"] in ([0], [])
    await agreed(stage)


async def test_a_redis_that_was_killed_is_gone_on_with(
    stage: DoorStage, server: Valkey, fake: FakeUpstream
) -> None:
    call = await running(stage, fake)
    await server.kill()
    assert code(await stage.chat()) == (503, "not_ready")
    assert getattr(await call, "status_code", 0) == 200
    await server.begin()
    await stage.drain.prepare()  # what a drain does when it meets another run of the server
    assert await stage.drain.publisher.snapshot()
    await served_again(stage)
    await settled(stage, 2)
    assert (await balance(stage), (await stage.pool_in_redis())["b"]) == (GRANT - COST - TEN,) * 2
    await agreed(stage)


async def test_a_replica_is_never_written_to_and_a_promoted_one_is(
    stage: DoorStage, server: Valkey, fake: FakeUpstream
) -> None:
    """READONLY on a good connection: refused, and tried again until it is a master."""
    assert (await stage.chat()).status_code == 200
    await stage.quiesce()
    ask(server, "REPLICAOF", "127.0.0.1", "1")
    for _ in range(3):
        assert code(await stage.chat()) == (503, "not_ready")
    with pytest.raises(RedisError):
        await stage.redis.command("HSET", "{s00}:test", "a", "b")
    assert not fake.requests
    ask(server, "REPLICAOF", "NO", "ONE")
    await stage.drain.prepare()
    await served_again(stage)
    await settled(stage, 2)
    await agreed(stage)


async def test_the_doctor_tells_of_a_redis_that_may_forget(server: Valkey, home: Path) -> None:
    ask(server, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    wanted = settings.load({"OPSCENTER_HOME": str(home), "OPSCENTER_REDIS_URL": server.url})
    found = {finding.name: finding for finding in await checks.redis(wanted)}
    assert found["redis memory"].level == "fail"
    assert "noeviction" in found["redis memory"].cure
    ask(server, "CONFIG", "SET", "maxmemory-policy", "noeviction")
    ask(server, "CONFIG", "SET", "maxmemory", "1")
    found = {finding.name: finding for finding in await checks.redis(wanted)}
    assert "nothing is admitted" in found["redis memory"].says
