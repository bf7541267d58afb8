"""The drain: usage streams to the ledger, the ledger's changes to Redis, dead requests' holds to
their end. A process of its own with no plugin's code in it, so that nothing can delay money.
Several may run: the cursors' compare-and-set decides.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable

import asyncpg
import uvloop

from control import sql
from control.books import drift, rebuild
from control.books.booking import Overtaken
from control.books.forget import forget_gone
from control.books.outflows import Outflows
from control.books.publish import Publisher
from control.books.pusher import Pusher
from control.books.reaper import Reaper
from control.books.share import Share
from control.books.streams import Streams
from control.database import AWAY as POSTGRES_AWAY
from control.database import Pool, connect_patiently
from control.settings import ControlSettings
from control.store import AWAY as REDIS_AWAY
from control.store import Store
from proxy.redis.scripts import SHARD_KEYS
from proxy.who.keys import SHARDS

log = logging.getLogger("opscenter.control.books.drain")

IDLE_FIRST_S, IDLE_MAX_S = 0.1, 0.2  # a batch costs the same however few it books
BUSY_ENTRIES = 2_000  # a batch of so many is followed by the next without a pause
PUSH_ROUND_S = 1.0  # at the latest; a notification wakes it at once
REAP_ROUND_S = 1.0
SHARE_ROUND_S = 1.0
DRIFT_ROUND_S = 1.0  # a shard each: all of them about once a minute
HOUSEKEEPING_S = 3600.0
TROUBLE_PAUSE_S = 0.5
CHANNEL = "opscenter_outbox"
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


class Drain:
    """Loops on one pair of servers; when one meets trouble, all begin again."""

    def __init__(self, pool: Pool, redis: Store, lease_ms: int) -> None:
        self.pool = pool
        self.redis = redis
        self.publisher = Publisher(pool, redis)
        self.generations: dict[int, int] = {}
        self.mine = set(range(SHARDS))  # the shards that this drain works on
        self.streams = Streams(pool, redis, self.generations, self.mine)
        self.pusher = Pusher(pool, redis, self.publisher, self.generations, self.mine)
        self.reaper = Reaper(redis, lease_ms, self.mine)
        self.outflows = Outflows(pool, redis, lease_ms, self.mine)
        self._idle_s = IDLE_FIRST_S
        self._watched = 0
        self._in_trouble = False  # the round before ended because a server was away

    async def prepare(self) -> None:
        """Learns where both sides stand, and fills what Redis lacks."""
        rows = await self.pool.fetch(sql.load()["shard_list"])
        self.generations.update({row["id"]: row["generation"] for row in rows})
        lacking, uptime_s = await rebuild.lacking(self.redis, self.generations)
        if lacking:
            shards = sorted(lacking)
            made = await rebuild.rebuild(self.pool, self.redis, self.publisher, shards)
            self.generations.update(made)
        await self.streams.prepare()
        self.reaper.prepare(uptime_s, self._in_trouble)

    async def run(self, stop: asyncio.Event) -> None:
        """Runs until told to stop; anything that breaks is told once and tried again."""
        while not stop.is_set():
            over = _Over()
            following = asyncio.create_task(over.follow(stop))
            await self._round(over)
            following.cancel()
            if not stop.is_set():
                await _wait(stop, TROUBLE_PAUSE_S)

    async def _round(self, over: "_Over") -> None:
        """All loops, until one of them meets trouble or it is time to stop."""
        try:
            await self.prepare()
            if self._in_trouble:
                log.info("the drain goes on")
            self._in_trouble = False
            async with asyncio.TaskGroup() as group:
                steps = (self._drain, self._reap, self._sweep, self._watch_drift, self._keep_house)
                for step in steps:
                    group.create_task(over.repeat(step))
                group.create_task(over.repeat(self._push, over.wake))
                group.create_task(self._listen(over))
                group.create_task(self._share(over))
        except* Overtaken as problem:
            log.info("another drain was faster: %s", problem.exceptions)
        except* (*REDIS_AWAY, *POSTGRES_AWAY, asyncpg.PostgresError) as problem:
            if not self._in_trouble:  # once, not at every try
                log.warning("the drain pauses: %s", "; ".join(map(str, problem.exceptions)))
            self._in_trouble = True
        except* Exception:
            log.exception("the drain met what it does not know, and begins again")

    # each step says how long it can wait for its next turn

    async def _drain(self) -> float:
        count = await self.streams.drain_once()
        self._idle_s = IDLE_FIRST_S if count else min(self._idle_s * 1.5, IDLE_MAX_S)
        return 0 if count >= BUSY_ENTRIES else self._idle_s

    async def _push(self) -> float:
        more = await self.pusher.push_once()
        if (await rebuild.lacking(self.redis, self.generations))[0]:
            self._in_trouble = True  # proxies could not renew their leases either
            raise Overtaken("Redis has lost a shard, or another server keeps it now")
        return 0 if more else PUSH_ROUND_S

    async def _reap(self) -> float:
        await self.reaper.reap_once()
        return REAP_ROUND_S

    async def _sweep(self) -> float:
        await self.outflows.sweep_once()
        return REAP_ROUND_S

    async def _watch_drift(self) -> float:
        """One shard after the other, so that the comparison is never felt."""
        if self.mine:
            self._watched = (self._watched + 1) % len(self.mine)
            await drift.watch(self.pool, self.redis, sorted(self.mine)[self._watched])
        return DRIFT_ROUND_S

    async def _keep_house(self) -> float:
        await self.pool.execute(sql.load()["usage_partitions"])
        for shard, at in enumerate(SHARD_KEYS):
            applied = int(await self.redis.command("HGET", at.meta, "adjseq") or 0)
            await self.pool.execute(sql.load()["outbox_redis_prune"], shard, applied)
        await forget_gone(self.pool, self.redis)
        return HOUSEKEEPING_S

    async def _share(self, over: "_Over") -> None:
        """Several drains run beside each other, each on its part of the shards."""
        async with self.pool.acquire() as conn:
            share = Share(conn, self.mine)
            await share.enter()

            async def level() -> float:
                if came := await share.level():
                    await self.streams.take(came)
                return SHARE_ROUND_S

            await over.repeat(level)

    async def _listen(self, over: "_Over") -> None:
        """Postgres tells of new rows in the outboxes."""

        def wake(*_: object) -> None:
            over.wake.set()

        async with self.pool.acquire() as conn:
            conn.add_termination_listener(over.end)
            await conn.add_listener(CHANNEL, wake)
            try:
                await over.event.wait()
            finally:
                with contextlib.suppress(*POSTGRES_AWAY):  # it may be what has ended
                    conn.remove_termination_listener(over.end)
                    await conn.remove_listener(CHANNEL, wake)


class _Over:
    """The end of a round, seen by all its loops. They end by looking at it, not by being
    cancelled: a client library may swallow a cancellation.
    """

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.wake = asyncio.Event()  # something waits in an outbox

    def end(self, *_: object) -> None:
        self.event.set()
        self.wake.set()

    async def follow(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self.end()

    async def repeat(
        self, step: Callable[[], Awaitable[float]], wake: asyncio.Event | None = None
    ) -> None:
        """Runs a step again and again; `wake` calls it before its time."""
        earlier = wake or self.event
        try:
            while not self.event.is_set():
                if wake:
                    wake.clear()
                await _wait(earlier, await step())
        finally:
            self.end()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def run(settings: ControlSettings) -> int:
    """`opscenter drain`: until SIGTERM; an unfinished transaction is rolled back."""
    logging.basicConfig(level=settings.log_level.upper(), format=LOG_FORMAT)
    return uvloop.run(_main(settings))


async def _main(settings: ControlSettings) -> int:
    pool = await connect_patiently(settings)
    redis, stop = Store(settings.redis), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await Drain(pool, redis, settings.lease_ms).run(stop)
    finally:
        pool.terminate()
        await redis.close()
    return 0
