"""The drain on real servers: killed at the worst moment, run twice, fed rubbish, without Redis."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import asyncpg
import orjson
import pytest

from control.books import drift, ledger
from control.books.booking import Overtaken
from control.books.drain import Drain
from control.books.explain import explain
from control.books.verify import verify
from proxy.redis.scripts import DONE_PREFIX, SHARD_KEYS, ShardKeys
from tests.door_stage import DoorStage, door, until

GRANT = 10_000_000_000
COST = 9_000  # of one hello to ops/echo


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    async with door(home, redis_url, database_url) as stage:
        yield stage


async def keys_of(stage: DoorStage) -> ShardKeys:
    shard = await stage.pool.fetchval("SELECT shard FROM organisation WHERE platform")
    return SHARD_KEYS[int(shard)]


async def as_owner(stage: DoorStage, statement: str) -> None:
    """With the rights of whoever installs, which no process has while it runs."""
    async with stage.pool.acquire() as conn:
        await conn.execute("RESET ROLE")
        try:
            await conn.execute(statement)
        finally:
            await conn.execute("SET ROLE opscenter_app")


async def served(stage: DoorStage, count: int) -> None:
    """Calls that are settled in Redis and not yet booked."""
    for _ in range(count):
        assert (await stage.chat()).status_code == 200
    await stage.worker.flow.settler.drain(10)


async def balance(stage: DoorStage) -> int:
    async with stage.pool.acquire() as conn:
        return await ledger.balance(conn, await stage.organisation())


async def agreed(stage: DoorStage) -> None:
    report = await verify(stage.pool, stage.redis)
    assert report.ok, report


async def test_usage_becomes_rows_and_the_stream_is_trimmed(stage: DoorStage) -> None:
    await served(stage, 5)
    assert await stage.drain.streams.drain_once() == 5
    at = await keys_of(stage)
    assert await balance(stage) == GRANT - 5 * COST
    assert await stage.redis.commands([("XLEN", at.usage), ("HLEN", at.tomb)]) == [0, 0]
    await agreed(stage)


async def test_a_drain_killed_between_commit_and_acknowledgement_books_nothing_twice(
    stage: DoorStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands at or below the cursor is never interpreted again, only acknowledged."""
    await served(stage, 3)

    async def killed(*_: object) -> None:
        raise ConnectionError("killed here")

    monkeypatch.setattr(stage.drain.streams, "_ack", killed)
    with pytest.raises(ConnectionError):
        await stage.drain.streams.drain_once()
    successor = Drain(stage.pool, stage.redis, lease_ms=12_000)
    await successor.prepare()
    assert await successor.streams.drain_once() == 0
    assert await balance(stage) == GRANT - 3 * COST
    assert (await stage.pool_in_redis())["b"] == GRANT - 3 * COST
    at = await keys_of(stage)
    assert await stage.redis.commands([("XLEN", at.usage), ("HLEN", at.tomb)]) == [0, 0]
    assert await stage.pool.fetchval("SELECT count(*) FROM outbox_redis") == 1  # the grant alone


async def test_what_a_server_of_an_older_clock_wrote_is_not_told_as_booked(
    stage: DoorStage,
) -> None:
    """It stands before the cursor and was never read: its worker must settle it again."""
    await served(stage, 1)
    at = await keys_of(stage)
    [[_, entry]] = await stage.redis.command("XRANGE", at.usage, "-", "+")
    said = dict(zip(entry[::2], entry[1::2], strict=True))
    await stage.drain.streams.drain_once()
    told = DONE_PREFIX + orjson.loads(said[b"e"])["i"].encode()
    before = await stage.redis.command("XLEN", told)
    unread = said | {b"r": b"01a1fb80-268c-769f-9090-4b157d2ab46c"}
    words = [word for pair in unread.items() for word in pair]
    await stage.redis.commands([("DEL", at.usage), ("XADD", at.usage, "1-1", *words)])
    await Drain(stage.pool, stage.redis, lease_ms=12_000).prepare()
    assert await stage.redis.commands([("XLEN", at.usage), ("XLEN", told)]) == [0, before]
    keys = [at.meta, at.hold, at.lease, at.tomb, at.usage]
    again = [unread[name] for name in (b"r", b"k", b"c", b"p", b"b", b"h", b"e", b"q", b"n")]
    assert await stage.redis.run("settle", keys, *again) == [b"OK", b"1"]
    await stage.quiesce()
    assert await balance(stage) == GRANT - 2 * COST
    await agreed(stage)


async def test_a_drain_that_was_overtaken_writes_nothing(stage: DoorStage) -> None:
    """The cursor's compare-and-set is the fence, whatever the slower one believes."""
    await served(stage, 2)
    slow = Drain(stage.pool, stage.redis, lease_ms=12_000)
    await slow.prepare()
    assert await stage.drain.streams.drain_once() == 2
    await served(stage, 1)
    with pytest.raises(Overtaken):
        await slow.streams.drain_once()
    assert await stage.drain.streams.drain_once() == 1
    assert await balance(stage) == GRANT - 3 * COST
    await agreed(stage)


async def test_a_settlement_that_is_sent_twice_is_charged_once(stage: DoorStage) -> None:
    """Also when the second comes after the first was booked and its tombstone removed."""
    await served(stage, 1)
    at = await keys_of(stage)
    [[_, entry]] = await stage.redis.command("XRANGE", at.usage, "-", "+")
    said = dict(zip(entry[::2], entry[1::2], strict=True))
    await stage.drain.streams.drain_once()
    keys = [at.meta, at.hold, at.lease, at.tomb, at.usage]
    again = [said[name] for name in (b"r", b"k", b"c", b"p", b"b", b"h", b"e", b"q", b"n")]
    assert await stage.redis.run("settle", keys, *again) == [b"OK", b"1"]
    await stage.quiesce()
    assert await balance(stage) == GRANT - COST
    assert len(await stage.usage()) == 1
    await agreed(stage)


async def test_an_entry_that_cannot_be_booked_is_put_aside_and_told(stage: DoorStage) -> None:
    """The others go on; `ledger verify` fails until somebody has looked."""
    await served(stage, 1)
    at = await keys_of(stage)
    await stage.redis.command("XADD", at.usage, "*", "r", "rubbish")
    await served(stage, 1)
    assert await stage.drain.streams.drain_once() == 3
    [letter] = await stage.pool.fetch("SELECT * FROM dead_letter")
    assert letter["entry"] == {"r": "rubbish"}
    assert await balance(stage) == GRANT - 2 * COST
    report = await verify(stage.pool, stage.redis)
    assert [check.name for check in report.checks if not check.ok] == ["V4"]


async def test_an_entry_that_the_ledger_refuses_does_not_stop_the_others(
    stage: DoorStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule that only the database knows: the batch is booked again, one by one."""
    await served(stage, 3)
    await as_owner(
        stage,
        "ALTER TABLE usage_event ADD CONSTRAINT test CHECK (duration_ms IS DISTINCT FROM -1)",
    )
    at = await keys_of(stage)
    [[_, entry], *_] = await stage.redis.command("XRANGE", at.usage, "-", "+")
    said = dict(zip(entry[::2], entry[1::2], strict=True))
    event = said[b"e"].rpartition(b'"ms":')[0] + b'"ms":-1}'
    rid = b"01a1fb80-268c-769f-9090-4b157d2ab46c"
    words = [word for pair in {**said, b"r": rid, b"l": b"1", b"e": event}.items() for word in pair]
    await stage.redis.command("XADD", at.usage, "*", *words)
    assert await stage.drain.streams.drain_once() == 4
    assert await stage.pool.fetchval("SELECT count(*) FROM dead_letter") == 1
    assert await balance(stage) == GRANT - 3 * COST


async def test_a_request_whose_proxy_died_gives_back_its_hold(stage: DoorStage) -> None:
    """Its row says so; when its truth comes after all, one correction books it."""
    at, organisation = await keys_of(stage), await stage.organisation()
    await served(stage, 1)
    [[_, entry]] = await stage.redis.command("XRANGE", at.usage, "-", "+")
    said = dict(zip(entry[::2], entry[1::2], strict=True))
    await stage.quiesce()
    key, owner = at.key(stage.key[9:19]), at.organisation(str(organisation))
    rid = "01a1fb80-268c-769f-9090-4b157d2ab46c"
    versions = [int(await stage.redis.command("HGET", name, "ver")) for name in (key, owner)]
    fixed = (rid, 12_000, *versions, said[b"e"], 1000, "", 0, 9, "")
    words = (*fixed, 6, "pool", "pool", 500_000, "", "", 1)
    keys = [at.meta, at.hold, at.lease, at.usage, key, owner]
    assert (await stage.redis.run("admit", keys, *words))[0] == b"OK"
    assert (await stage.pool_in_redis())["h"] == 500_000
    await stage.redis.command("ZADD", at.lease, 1, rid)
    reaper = Drain(stage.pool, stage.redis, lease_ms=0)
    await reaper.prepare()
    assert await reaper.reaper.reap_once() == 1
    await stage.quiesce()
    assert await stage.pool_in_redis() == {"b": GRANT - COST, "h": 0}
    settle = [at.meta, at.hold, at.lease, at.tomb, at.usage]
    words = (rid, "settled", 77, said[b"p"], "", 500_000, said[b"e"], 1, 0)
    await stage.redis.run("settle", settle, *words)
    await stage.quiesce()
    rows = [
        (r["kind"], r["phase"], r["cost"]) for r in await stage.usage() if r["rid"] == UUID(rid)
    ]
    assert rows == [("orphan", 0, 0), ("correction", 1, 77)]
    assert (await stage.pool_in_redis())["b"] == GRANT - COST - 77 == await balance(stage)


async def test_nothing_is_reaped_until_proxies_had_the_time_to_renew(stage: DoorStage) -> None:
    """After an outage of Redis all leases look over; one whole lease is waited for."""
    fresh = Drain(stage.pool, stage.redis, lease_ms=3_600_000)
    await fresh.prepare()
    at = await keys_of(stage)
    await stage.redis.command("ZADD", at.lease, 1, "r1")
    assert await fresh.reaper.reap_once() == 0
    assert await stage.redis.command("ZCARD", at.lease) == 1


async def test_a_grant_reaches_redis_once_and_in_order(stage: DoorStage) -> None:
    organisation = await stage.organisation()
    for nth in range(3):
        async with stage.pool.acquire() as conn, conn.transaction():
            await ledger.grant(conn, organisation, 1_000, f"gift {nth}", "test")
    await stage.drain.pusher.push_once()
    await stage.drain.pusher.push_once()
    assert (await stage.pool_in_redis())["b"] == GRANT + 3_000
    await agreed(stage)


async def test_the_same_grant_twice_is_one(stage: DoorStage) -> None:
    """Its id is made from its cause; another amount under the same cause is a mistake."""
    organisation = await stage.organisation()
    async with stage.pool.acquire() as conn:
        for _ in range(2):
            async with conn.transaction():
                after = await ledger.grant(conn, organisation, 1_000, "gift", "test")
        assert after == GRANT + 1_000
        with pytest.raises(ledger.LedgerError, match="another amount"):
            async with conn.transaction():
                await ledger.grant(conn, organisation, 2_000, "gift", "test")


async def test_a_gap_in_the_outbox_is_never_jumped(stage: DoorStage) -> None:
    """Redis stays behind rather than wrong, and verify tells of it."""
    organisation = await stage.organisation()
    for nth in range(2):
        async with stage.pool.acquire() as conn, conn.transaction():
            await ledger.grant(conn, organisation, 1_000, f"gift {nth}", "test")
    await stage.pool.execute("DELETE FROM outbox_redis WHERE seq = 2")
    await stage.drain.pusher.push_once()
    assert (await stage.pool_in_redis())["b"] == GRANT
    report = await verify(stage.pool, stage.redis)
    assert "V5" in [check.name for check in report.checks if not check.ok]


@pytest.mark.parametrize("table", ["usage_event", "transfer", "price", "audit"])
async def test_the_ledger_refuses_to_be_changed(stage: DoorStage, table: str) -> None:
    """By its rights for the processes, and by its triggers for the owner of the database."""
    await served(stage, 1)
    await stage.quiesce()
    column = "created_at" if table == "price" else "at"
    for verb in (f"UPDATE {table} SET {column} = now()", f"DELETE FROM {table}"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await stage.pool.execute(verb)
        with pytest.raises(asyncpg.RaiseError, match="append only"):
            await as_owner(stage, verb)


async def test_verify_finds_what_somebody_changed_in_redis(stage: DoorStage) -> None:
    await served(stage, 1)
    at, organisation = await keys_of(stage), await stage.organisation()
    await stage.redis.command("HINCRBY", at.organisation(str(organisation)), "pool.b", 1)
    report = await verify(stage.pool, stage.redis)
    [wrong] = [check for check in report.checks if not check.ok]
    assert wrong.name == "V3"
    assert str(organisation) in wrong.differences[0]


async def test_a_restarted_redis_that_lost_its_newest_writes_is_set_to_the_ledger(
    stage: DoorStage,
) -> None:
    """The ledger has booked what Redis forgot: its balance would be too high."""
    at, organisation = await keys_of(stage), await stage.organisation()
    await served(stage, 2)
    await stage.quiesce()
    owner = at.organisation(str(organisation))
    await stage.redis.command("HSET", owner, "pool.b", GRANT)
    await stage.redis.command("HSET", at.meta, "run", "another")
    await stage.drain.prepare()
    assert (await stage.pool_in_redis())["b"] == GRANT - 2 * COST
    await agreed(stage)


async def test_drains_share_the_shards_and_inherit_from_the_dead(stage: DoorStage) -> None:
    """They never wait for each other; nothing is booked twice while shards change hands."""
    stops = [asyncio.Event(), asyncio.Event()]
    drains = [Drain(stage.pool, stage.redis, lease_ms=12_000) for _ in stops]
    tasks = [asyncio.create_task(d.run(s)) for d, s in zip(drains, stops, strict=True)]
    await until(lambda: {len(drain.mine) for drain in drains} == {32})
    assert not drains[0].mine & drains[1].mine
    await served(stage, 5)
    stops[0].set()
    await tasks[0]
    await until(lambda: len(drains[1].mine) == 64)
    await served(stage, 5)
    at = await keys_of(stage)
    while await stage.redis.command("XLEN", at.usage):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    stops[1].set()
    await tasks[1]
    assert await balance(stage) == GRANT - 10 * COST
    assert len(await stage.usage()) == 10
    await agreed(stage)


async def test_the_life_of_a_request_is_told(stage: DoorStage) -> None:
    rid = UUID((await stage.chat()).headers["x-ops-request-id"])
    await stage.worker.flow.settler.drain(10)
    assert "is about to book it" in " ".join((await explain(stage.pool, stage.redis, rid)).story)
    await stage.quiesce()
    life = await explain(stage.pool, stage.redis, rid)
    assert life.found
    assert "3 input, 3 output (provider) by price version 1 of ops/echo are 9000 ucr: the same" in (
        " ".join(life.story)
    )
    unknown = await explain(stage.pool, stage.redis, UUID(int=rid.int ^ 1))
    assert not unknown.found


async def test_drift_is_found_while_everything_runs(stage: DoorStage) -> None:
    organisation = await stage.organisation()
    shard = int(await stage.pool.fetchval("SELECT shard FROM organisation WHERE platform"))
    assert await drift.watch(stage.pool, stage.redis, shard) == 0
    owner = SHARD_KEYS[shard].organisation(str(organisation))
    await stage.redis.command("HINCRBY", owner, "pool.b", 7)
    assert await drift.watch(stage.pool, stage.redis, shard) == 7
    assert await drift.known(stage.redis) == 7
    await stage.redis.command("HINCRBY", owner, "pool.b", -7)
    assert await drift.watch(stage.pool, stage.redis, shard) == 0
    assert await drift.known(stage.redis) == 0


async def test_redis_is_filled_anew_when_somebody_asks_for_it(stage: DoorStage) -> None:
    """The generations are raised in the ledger; a drain that runs sees it and fills every shard."""
    await served(stage, 1)
    stop = asyncio.Event()
    drain = Drain(stage.pool, stage.redis, lease_ms=12_000)
    task = asyncio.create_task(drain.run(stop))
    await until(lambda: bool(drain.generations))
    before = dict(drain.generations)
    await stage.pool.execute("UPDATE shard SET generation = generation + 1")
    await until(lambda: all(drain.generations[s] > g for s, g in before.items()))
    stop.set()
    await task
    assert (await stage.chat()).status_code == 200
    await agreed(stage)
