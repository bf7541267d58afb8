"""The ledger far behind: PostgreSQL away while proxies serve, a long backlog, its ceiling, and how
a drain shares a batch among the shards.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bench.chaos.parts import Module, Postgres
from bench.ledger import events
from bench.ledger.place import Caller
from control.books import ledger
from control.books.streams import portions
from proxy.machine import children
from proxy.redis.scripts import SHARD_KEYS, ShardKeys
from proxy.who import keys
from tests.door_stage import DoorStage, door
from tests.failures_stage import agreed, balance, code, own_postgres

GRANT = 10_000_000_000
COST = 9_000  # of one hello to ops/echo
AN_HOUR = 20_000  # events; `python -m bench.ledger` does the same with 200,000
PATIENCE_S = 120.0


@pytest.mark.parametrize(
    ("waiting", "most", "shares"),
    [
        ({}, 10, {}),
        ({1: 0, 2: 0}, 10, {}),
        ({1: 3}, 10, {1: 3}),
        ({1: 300}, 10, {1: 10}),
        ({1: 300, 2: 300}, 10, {1: 5, 2: 5}),
        # what short streams leave over goes to the longer ones
        ({1: 300, 2: 1, 3: 0, 4: 3}, 10, {1: 6, 2: 1, 4: 3}),
        # nobody is kept out
        ({1: 9, 2: 9, 3: 9}, 2, {1: 1, 2: 1, 3: 1}),
    ],
)
def test_a_batch_is_shared_among_the_shards(
    waiting: dict[int, int], most: int, shares: dict[int, int]
) -> None:
    """One busy shard may fill it; the others never wait for it."""
    assert portions(waiting, most) == shares


@pytest.fixture
async def database() -> AsyncIterator[Postgres]:
    async with own_postgres() as server:
        yield server


@pytest.fixture
async def stage(home: Path, redis_url: str, database: Postgres) -> AsyncIterator[DoorStage]:
    async with door(home, redis_url, database.url) as stage:
        yield stage


@asynccontextmanager
async def draining(stage: DoorStage, database: Postgres) -> AsyncIterator[Path]:
    """A drain in a process of its own, as `up` starts it; its log."""
    known = stage.worker.settings
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("OPSCENTER_")}
    env = children.with_our_code(inherited) | {
        "OPSCENTER_HOME": str(known.home),
        "OPSCENTER_REDIS_URL": known.redis_url,
        "OPSCENTER_DATABASE_URL": database.url,
    }
    log = known.home / "drain.log"
    process = Module("drain", log, ["control.machine.child", "drain"], env)
    process.start()
    try:
        yield log
    finally:
        await process.kill()


async def keys_of(stage: DoorStage) -> ShardKeys:
    shard = await stage.pool.fetchval("SELECT shard FROM organisation WHERE platform")
    return SHARD_KEYS[int(shard)]


async def waiting(stage: DoorStage) -> int:
    return sum(await stage.redis.commands([("XLEN", at.usage) for at in SHARD_KEYS]))


async def until_waiting(stage: DoorStage, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await waiting(stage) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_postgres_may_be_away_while_requests_are_served(
    stage: DoorStage, database: Postgres
) -> None:
    """Usage is kept in the streams; when it is back, it is booked once, without a restart."""
    async with draining(stage, database):
        assert (await stage.chat()).status_code == 200
        await stage.worker.flow.settler.drain(10)
        await until_waiting(stage, 0)
        at, organisation = await keys_of(stage), str(await stage.organisation())
        await database.kill()
        for _ in range(5):
            assert (await stage.chat()).status_code == 200
        await until_waiting(stage, 5)
        left = await stage.redis.command("HGET", at.organisation(organisation), "pool.b")
        assert int(left) == GRANT - 6 * COST
        await database.begin()
        await until_waiting(stage, 0)
    assert await balance(stage) == GRANT - 6 * COST
    assert len(await stage.usage()) == 6
    await agreed(stage)


async def test_an_hour_without_postgres_is_caught_up_exactly(
    stage: DoorStage, database: Postgres
) -> None:
    organisation = await stage.organisation()
    person = await stage.pool.fetchval("SELECT person FROM membership LIMIT 1")
    more = AN_HOUR * events.COST_UCR
    async with stage.pool.acquire() as conn, conn.transaction():
        await ledger.grant(conn, organisation, more, "for an hour", "test")
    await stage.drain.pusher.push_once()
    key = keys.parse(stage.key)
    assert key is not None
    async with draining(stage, database):
        await database.kill()
        await events.fill(stage.redis, [Caller(organisation, person, key)], AN_HOUR)
        assert await waiting(stage) == AN_HOUR
        assert (await stage.chat()).status_code == 200
        await database.begin()
        await until_waiting(stage, 0)
    assert await balance(stage) == GRANT - COST
    assert await stage.pool.fetchval("SELECT count(*) FROM usage_event") == AN_HOUR + 1
    await agreed(stage)


async def test_at_the_ceiling_of_the_backlog_nothing_more_is_admitted(
    home: Path, redis_url: str, database_url: str
) -> None:
    """What waits for the ledger is bounded; as soon as it is booked, requests go on."""
    async with door(home, redis_url, database_url, OPSCENTER_BACKLOG_MAX="3") as stage:
        for _ in range(3):
            assert (await stage.chat()).status_code == 200
            await stage.worker.flow.settler.drain(10)
        refused = await stage.chat()
        assert code(refused) == (503, "not_ready")
        assert refused.headers["retry-after"]
        assert await stage.pool_in_redis() == {"b": GRANT - 3 * COST, "h": 0}
        await stage.quiesce()
        assert (await stage.chat()).status_code == 200
        await stage.quiesce()
        await agreed(stage)
