"""Both planes on a real Redis Cluster: the same scripts, the same exactness, also while slots move
and a master dies.
"""

import asyncio
import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from hashlib import sha1
from pathlib import Path

import pytest
from redis.exceptions import ResponseError, TryAgainError

from control import settings
from control import store as store_module
from control.books import ledger, rebuild
from control.books.verify import verify
from control.machine import checks
from control.store import Store
from proxy.redis.cluster import Redis
from proxy.redis.pipe import RedisDown
from proxy.redis.scripts import SCRIPTS, SHARD_KEYS, SNAPSHOT_KEY, Script
from proxy.redis.slots import slot_of
from proxy.who.keys import SHARDS
from tests.cluster_stage import ClusterStage, Member, cluster
from tests.door_stage import DoorStage, door

GRANT = 10_000_000_000
COST = 9_000  # of one hello to ops/echo
PATIENCE_S = 20.0
CALLERS = 8
TEXT = b"""if redis.call('HSETNX', KEYS[1], ARGV[1], '1') == 0 then return {'DUP'} end
return {'OK', redis.call('INCR', KEYS[2])}"""
ONCE = Script("once", TEXT, sha1(TEXT, usedforsecurity=False).hexdigest().encode())


@pytest.fixture(scope="module")
def formed() -> Iterator[ClusterStage]:
    with cluster(Path(tempfile.mkdtemp(prefix="oc-", dir="/tmp"))) as stage:
        yield stage


@pytest.fixture
def servers(formed: ClusterStage) -> ClusterStage:
    """An empty and healthy cluster."""
    formed.heal()
    formed.empty()
    return formed


@pytest.fixture
async def path(servers: ClusterStage) -> AsyncIterator[Redis]:
    """The request path's client, patient enough for two busy cores."""
    redis = Redis(servers.url, connect_ms=1_000, timeout_ms=2_000)
    await redis.start()
    yield redis
    await redis.stop()


@pytest.fixture
async def store(servers: ClusterStage) -> AsyncIterator[Store]:
    store = Store(servers.url)
    yield store
    await store.close()


@pytest.fixture
async def stage(home: Path, servers: ClusterStage, database_url: str) -> AsyncIterator[DoorStage]:
    async with door(home, servers.url, database_url) as stage:
        yield stage


def other_than(servers: ClusterStage, master: Member) -> Member:
    return next(one for one in servers.masters if one is not master)


# Both clients -------------------------------------------------------------------------------


async def test_both_clients_find_every_shard(path: Redis, store: Store) -> None:
    """What one writes the other reads, on all 64 shards and beside them."""
    for nth, at in enumerate(SHARD_KEYS):
        assert await path.execute(b"HSET", at.meta, b"nth", nth) == 1
    assert await store.commands([("HGET", at.meta, "nth") for at in SHARD_KEYS]) == [
        b"%d" % nth for nth in range(SHARDS)
    ]
    await store.command("HSET", SNAPSHOT_KEY, "ver", 7)
    assert await path.execute(b"HGET", SNAPSHOT_KEY, b"ver") == b"7"


@pytest.mark.parametrize("name", SCRIPTS)
async def test_every_script_runs_on_every_shard_by_both_clients(
    name: str, path: Redis, store: Store, servers: ClusterStage
) -> None:
    """No script touches keys of two slots, and each server learns the script by itself."""
    for _ in ("forgotten", "known"):
        keys = [[at.meta, at.hold, at.lease, at.tomb, at.usage, at.key("k")] for at in SHARD_KEYS]
        calls = [path.run(SCRIPTS[name], some, [b"0-0"]) for some in keys]
        ours = await asyncio.gather(*calls)
        theirs = await store.run_all([(name, some, [b"0-0"]) for some in keys])
        assert {type(reply[0]) for reply in (*ours, *theirs)} == {bytes}
    for master in servers.masters:
        assert master.ask("SCRIPT", "EXISTS", SCRIPTS[name].sha) == [1]


async def test_a_call_over_two_slots_is_refused_by_its_name(path: Redis, store: Store) -> None:
    """It is a mistake of ours, so nothing is split, repeated or half done."""
    keys = (SHARD_KEYS[0].meta, SHARD_KEYS[1].meta)
    with pytest.raises(RedisDown, match="refused once: CROSSSLOT"):
        await path.run(ONCE, keys, (b"r",))
    with pytest.raises(ResponseError, match=r"(?i)same slot"):
        await store.run("ack", keys, 1, "0-0", "0-0")


async def test_commands_without_a_key_go_where_they_are_answered(
    store: Store, servers: ClusterStage, path: Redis
) -> None:
    await store.ping()
    assert len(await store.infos("server")) == 3
    assert "uptime_in_seconds" in await store.info("server")
    told = await store.server()
    assert (told.product, told.masters, told.replicas) == ("Valkey", 3, 3)
    assert str(told).endswith("a cluster of 3 masters with 3 replicas")
    runs = {m.info("server")["run_id"] for m in servers.masters}
    keys = [at.meta for at in SHARD_KEYS]
    assert set(await store.run_ids(keys)) == runs
    assert max(await store.times_ms(keys)) - min(await store.times_ms(keys)) < 60_000
    await store.command("SCRIPT", "FLUSH")
    for master in servers.masters:
        assert master.ask("SCRIPT", "EXISTS", SCRIPTS["admit"].sha) == [0]
    assert await path.execute(b"PING") == b"PONG"


async def test_a_store_that_is_cancelled_lets_go_at_once(store: Store) -> None:
    """The cancellation arrives, and the next caller gets his own answer."""
    await store.ping()
    for delay_ms in range(20):
        task = asyncio.create_task(store.commands([("ECHO", n) for n in range(500)]))
        await asyncio.sleep(delay_ms / 10_000)
        if task.cancel():
            with pytest.raises(asyncio.CancelledError):
                await task
    assert await store.command("ECHO", "mine") == b"mine"


# Slots on their way -------------------------------------------------------------------------


async def test_a_slot_that_has_moved_is_found_again(
    path: Redis, store: Store, servers: ClusterStage
) -> None:
    at = SHARD_KEYS[3]
    slot = slot_of(at.meta)
    for turn in range(1, 5):
        target = other_than(servers, await asyncio.to_thread(servers.master_of, slot))
        await asyncio.to_thread(servers.move, slot, target)
        assert await path.run(ONCE, (at.tomb, at.meta), (turn,)) == [b"OK", turn]
        assert await store.command("GET", at.meta) == b"%d" % turn


async def test_of_a_slot_on_its_way_what_has_arrived_is_served_there(
    path: Redis, store: Store, servers: ClusterStage
) -> None:
    """One key has gone: alone it is found; together with one that stayed the call has to wait,
    is refused within its deadline, and has changed nothing.
    """
    at, seen = SHARD_KEYS[9], list[object]()
    await store.commands([("HSET", at.meta, "f", 1), ("HSET", at.tomb, "f", 1)])
    loop, slot = asyncio.get_running_loop(), slot_of(at.meta)
    moved = 0

    async def look() -> None:
        seen.append(await path.execute(b"HGET", at.meta, b"f"))
        seen.append(await store.commands([("HGET", at.meta, "f"), ("HGET", at.tomb, "f")]))
        begun = loop.time()
        with pytest.raises(RedisDown, match="TRYAGAIN"):
            await path.run(ONCE, (at.tomb, at.meta), (b"r",))
        assert loop.time() - begun < 5
        with pytest.raises(TryAgainError):
            await store.run("ack", (at.meta, at.usage, at.tomb), 1, "0-0", "0-0")
        seen.append(await store.command("HEXISTS", at.tomb, "r"))

    def between() -> None:
        nonlocal moved
        moved += 1
        if moved == 2:
            asyncio.run_coroutine_threadsafe(look(), loop).result(PATIENCE_S)

    target = other_than(servers, await asyncio.to_thread(servers.master_of, slot))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "SETTLE_S", 0.2)
        await asyncio.to_thread(servers.move, slot, target, between)
    assert seen == [b"1", [b"1", b"1"], 0]
    await store.command("DEL", at.meta)
    assert await path.run(ONCE, (at.tomb, at.meta), (b"r",)) == [b"OK", 1]


async def test_a_call_sent_again_is_the_same_call(path: Redis, servers: ClusterStage) -> None:
    """Under load and over many moves each id counts once."""
    at = SHARD_KEYS[5]
    slot, stop = slot_of(at.meta), asyncio.Event()
    counted, refused = 0, 0

    async def caller(name: int) -> None:
        nonlocal counted, refused
        for nth in range(100_000):
            if stop.is_set():
                return
            rid = b"%d-%d" % (name, nth)
            while True:
                try:
                    reply = await path.run(ONCE, (at.tomb, at.meta), (rid,))
                except RedisDown:
                    refused += 1
                    continue
                assert reply[0] == b"OK", "a repetition had been counted already"
                counted += 1
                break

    callers = [asyncio.create_task(caller(name)) for name in range(CALLERS)]
    for _ in range(6):
        target = other_than(servers, await asyncio.to_thread(servers.master_of, slot))
        await asyncio.to_thread(servers.move, slot, target)
    stop.set()
    await asyncio.gather(*callers)
    assert int(await path.execute(b"GET", at.meta)) == counted
    assert await path.execute(b"HLEN", at.tomb) == counted


# The whole door -----------------------------------------------------------------------------


class Load:
    """Callers that ask the door again and again, and what they were told."""

    def __init__(self, stage: DoorStage) -> None:
        self.stage = stage
        self.told: Counter[int] = Counter()
        self.slowest_s = 0.0
        self._stop = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Load"]:
        callers = [asyncio.create_task(self._caller()) for _ in range(CALLERS)]
        try:
            await self.until(lambda: self.told[200] >= CALLERS)
            yield self
        finally:
            self._stop.set()
            await asyncio.gather(*callers)

    async def _caller(self) -> None:
        while not self._stop.is_set():
            begun = time.monotonic()
            status = (await self.stage.chat()).status_code
            self.slowest_s = max(self.slowest_s, time.monotonic() - begun)
            self.told[status] += 1
            await asyncio.sleep(0 if status == 200 else 0.02)

    async def served(self, more: int) -> float:
        """So many more have been answered; how long that took."""
        before = self.told[200]
        return await self.until(lambda: self.told[200] > before + more)

    async def until(self, true: Callable[[], bool]) -> float:
        """How long it took."""
        begun = time.monotonic()
        async with asyncio.timeout(PATIENCE_S):
            while not true():  # noqa: ASYNC110 - the callers announce nothing
                await asyncio.sleep(0.005)
        return time.monotonic() - begun


async def balance(stage: DoorStage) -> int:
    async with stage.pool.acquire() as conn:
        return await ledger.balance(conn, await stage.organisation())


async def agreed(stage: DoorStage) -> None:
    report = await verify(stage.pool, stage.redis)
    assert report.ok, report


@contextlib.asynccontextmanager
async def drained(stage: DoorStage) -> AsyncIterator[None]:
    """Meanwhile the drain does what it does all day."""
    stop = asyncio.Event()
    drain = asyncio.create_task(stage.drain.run(stop))
    try:
        yield
    finally:
        stop.set()
        await drain


async def noticed(stage: DoorStage) -> None:
    """The drain has seen that other servers answer now, and has set them to the ledger."""
    async with asyncio.timeout(PATIENCE_S):
        while (await rebuild.lacking(stage.redis, stage.drain.generations))[0]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def released(stage: DoorStage) -> None:
    """Also what was held for a call whose answer came too late: until its lease is over."""
    async with asyncio.timeout(PATIENCE_S):
        while (await stage.pool_in_redis())["h"]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def slot_of_money(stage: DoorStage) -> int:
    shard = await stage.pool.fetchval("SELECT shard FROM organisation WHERE platform")
    return slot_of(SHARD_KEYS[shard].meta)


async def test_the_doctor_examines_every_master(servers: ClusterStage, home: Path) -> None:
    """One master that may evict is enough to fail."""
    wanted = settings.load({"OPSCENTER_HOME": str(home), "OPSCENTER_REDIS_URL": servers.url})
    first, *_ = await checks.redis(wanted)
    assert "a cluster of 3 masters with 3 replicas" in first.says
    last = servers.masters[-1]
    last.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        findings = {finding.name: finding for finding in await checks.redis(wanted)}
    finally:
        last.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert findings["redis memory"].level == "fail"
    assert "credits could be evicted" in findings["redis memory"].says


async def test_p37_redis_flavours_on_a_cluster(stage: DoorStage) -> None:
    async with Load(stage).running() as load:
        await load.until(lambda: load.told[200] >= 100)
    assert set(load.told) == {200}
    await stage.quiesce()
    assert await balance(stage) == GRANT - load.told[200] * COST
    assert await stage.pool_in_redis() == {"b": await balance(stage), "h": 0}
    await agreed(stage)


async def test_slots_move_under_load_and_the_books_are_exact(
    stage: DoorStage, servers: ClusterStage
) -> None:
    """The shard of the money and the snapshot's, back and forth, while the drain books."""
    slots = (await slot_of_money(stage), slot_of(SNAPSHOT_KEY))
    async with drained(stage):
        async with Load(stage).running() as load:
            for turn in range(6):
                slot = slots[turn % 2]
                target = other_than(servers, await asyncio.to_thread(servers.master_of, slot))
                await asyncio.to_thread(servers.move, slot, target)
                await load.served(CALLERS)
        await load.until(lambda: not stage.worker.journal.entries)
        await released(stage)
    assert set(load.told) <= {200, 503}
    await stage.quiesce()
    assert await balance(stage) == GRANT - load.told[200] * COST
    assert await stage.pool_in_redis() == {"b": await balance(stage), "h": 0}
    await agreed(stage)


async def test_a_master_dies_under_load(stage: DoorStage, servers: ClusterStage) -> None:
    """Requests are refused until its replica has taken over, soon each time; nothing is restarted,
    and every request that was answered is charged once.
    """
    keys = [at.meta for at in SHARD_KEYS]
    master = servers.master_of(await slot_of_money(stage))
    runs = await stage.redis.run_ids(keys)
    lost = {key for key in keys if servers.master_of(slot_of(key)) is master}
    async with drained(stage):
        async with Load(stage).running() as load:
            servers.kill(master)
            await load.until(lambda: load.told[503] > CALLERS)
            away_s = await load.served(CALLERS)
            await load.served(100)
        await load.until(lambda: not stage.worker.journal.entries)
        await noticed(stage)
    print(f"failover: refused for {away_s:.1f} s, the slowest answer took {load.slowest_s:.2f} s")
    assert set(load.told) == {200, 503}
    assert load.slowest_s < 5
    now = await stage.redis.run_ids(keys)
    assert {key for key, old, new in zip(keys, runs, now, strict=True) if old != new} == lost
    await stage.quiesce()
    assert await balance(stage) == GRANT - load.told[200] * COST
    assert await stage.pool_in_redis() == {"b": await balance(stage), "h": 0}
    await agreed(stage)
