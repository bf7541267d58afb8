"""Clocks that jump: money goes by Redis' clock and by the order of entries, never by a comparison
of two hosts.
"""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from proxy.redis.scripts import SHARD_KEYS, ShardKeys
from tests.door_stage import DoorStage, door
from tests.failures_stage import agreed, balance

GRANT = 10_000_000_000
COST = 9_000  # of one hello to ops/echo
HOUR_NS = 3_600 * 10**9
YEAR_2100_MS = 4_102_444_800_000


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    async with door(home, redis_url, database_url) as stage:
        yield stage


async def keys_of(stage: DoorStage) -> ShardKeys:
    shard = await stage.pool.fetchval("SELECT shard FROM organisation WHERE platform")
    return SHARD_KEYS[int(shard)]


@pytest.mark.parametrize("hours", [-1, 1, -24 * 400, 24 * 400])
async def test_a_proxys_clock_decides_nothing(
    stage: DoorStage, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """It makes the request's id, whose month need not exist among the tables yet."""
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + hours * HOUR_NS)
    answer = await stage.chat()
    assert answer.status_code == 200
    monkeypatch.undo()
    assert (await stage.chat()).status_code == 200
    await stage.quiesce()
    rids = {row["rid"] for row in await stage.usage()}
    assert UUID(answer.headers["x-ops-request-id"]) in rids
    assert await balance(stage) == GRANT - 2 * COST
    await agreed(stage)


async def test_a_hold_lives_by_redis_clock(
    stage: DoorStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy or a drain whose clock is wrong ends nobody's request."""
    at = await keys_of(stage)
    await stage.redis.command("ZADD", at.lease, await now_ms(stage) + 5_000, "r1")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3_600)
    stage.drain.reaper.prepare(10**6, False)
    assert await stage.drain.reaper.reap_once() == 0
    assert await stage.redis.command("ZCARD", at.lease) == 1


async def test_redis_whose_clock_has_gone_back_loses_no_entry(stage: DoorStage) -> None:
    """The ids of its stream go on from the newest there was; so does the cursor."""
    at = await keys_of(stage)
    assert (await stage.chat()).status_code == 200
    await stage.worker.flow.settler.drain(10)
    await stage.redis.command("XSETID", at.usage, f"{YEAR_2100_MS}-0")
    for _ in range(2):
        assert (await stage.chat()).status_code == 200
        await stage.quiesce()
    assert await stage.pool.fetchval("SELECT max(cursor_ms) FROM shard") == YEAR_2100_MS
    assert await balance(stage) == GRANT - 3 * COST
    await agreed(stage)


async def test_a_new_redis_whose_clock_is_behind_the_cursor_loses_no_entry(
    stage: DoorStage,
) -> None:
    """Wiped, and on a host that is years behind: its entries still come after what is booked."""
    assert (await stage.chat()).status_code == 200
    await stage.quiesce()
    shard = await stage.pool.fetchval("SELECT shard FROM organisation WHERE platform")
    statement = "UPDATE shard SET cursor_ms = $1, cursor_seq = 7 WHERE id = $2"
    await stage.pool.execute(statement, YEAR_2100_MS, shard)
    await stage.redis.command("FLUSHDB")
    await stage.drain.prepare()
    assert await stage.drain.publisher.snapshot()
    assert (await stage.chat()).status_code == 200
    await stage.quiesce()
    assert await balance(stage) == GRANT - 2 * COST
    assert len(await stage.usage()) == 2
    await agreed(stage)


async def now_ms(stage: DoorStage) -> int:
    seconds, micros = await stage.redis.command("TIME")
    return int(seconds) * 1000 + int(micros) // 1000
