"""The drain: usage streams to the ledger, the ledger's changes to Redis, dead requests' holds to
their end. A process of its own with no plugin's code in it, so that nothing can delay money.
Several may run: the cursors' compare-and-set decides.
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence

import asyncpg
import uvloop

from control import sql
from control.books import rebuild
from control.books.booking import Books, Cursor, Entry, Overtaken, Poison, parse
from control.books.publish import Publisher
from control.database import AWAY as POSTGRES_AWAY
from control.database import Pool, connect_patiently
from control.settings import ControlSettings
from control.store import AWAY as REDIS_AWAY
from control.store import Call, Store, Word
from proxy.scripts import SHARD_KEYS, ShardKeys

log = logging.getLogger("opscenter.control.books.drain")

ENTRIES_PER_SHARD = 500  # of one batch
ROWS_PER_PUSH = 500
RECORDS_PER_ROUND = 500
REAPED_PER_SHARD = 200  # in one round
IDLE_FIRST_S, IDLE_MAX_S = 0.01, 0.2
PUSH_ROUND_S = 1.0  # at the latest; a notification wakes it at once
REAP_ROUND_S = 1.0
HOUSEKEEPING_S = 3600.0
TROUBLE_PAUSE_S = 0.5
CHANNEL = "opscenter_outbox"
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
BAD_DATA = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)


Raw = tuple[int, Cursor, Mapping[bytes, bytes]]  # shard, id, fields


class Drain:
    def __init__(self, pool: Pool, redis: Store, lease_ms: int) -> None:
        self.pool = pool
        self.redis = redis
        self.publisher = Publisher(pool, redis)
        self.books = Books()
        self.cursors: dict[int, Cursor] = {}
        self.generations: dict[int, int] = {}
        self._lease_s = lease_ms / 1000
        self._reap_from = 0.0  # not before: proxies must first have had the chance to renew
        self._wake = asyncio.Event()

    # once per connection to a Redis -------------------------------------------

    async def prepare(self) -> None:
        """Learns where the ledger stands, fills what Redis lacks, acknowledges what was not."""
        for row in await self.pool.fetch(sql.load()["shard_list"]):
            self.cursors[row["id"]] = (row["cursor_ms"], row["cursor_seq"])
            self.generations[row["id"]] = row["generation"]
        if lacking := await rebuild.missing(self.redis, self.generations):
            made = await rebuild.rebuild(self.pool, self.redis, self.publisher, lacking)
            self.generations.update(made)
        found = await self.redis.commands(
            [("XRANGE", SHARD_KEYS[s].usage, "-", _text(c)) for s, c in self.cursors.items()]
        )
        for (shard, cursor), rows in zip(self.cursors.items(), found, strict=True):
            if old := _entries(rows):
                await self._ack({shard: cursor}, {shard: [f.get(b"r", b"") for _, f in old]})
        uptime = int((await self.redis.info("server"))["uptime_in_seconds"])
        wait_s = self._lease_s if uptime < self._lease_s else 0
        self._reap_from = asyncio.get_running_loop().time() + wait_s

    # usage streams -> ledger ---------------------------------------------------

    async def drain_once(self) -> int:
        """Books what the streams hold now, at most one batch; how many entries."""
        found = await self.redis.commands(
            [
                (
                    "XRANGE",
                    at.usage,
                    "(" + _text(self.cursors[shard]),
                    "+",
                    "COUNT",
                    ENTRIES_PER_SHARD,
                )
                for shard, at in enumerate(SHARD_KEYS)
            ]
        )
        raw = [(shard, *entry) for shard, rows in enumerate(found) for entry in _entries(rows)]
        if not raw:
            return 0
        ends = await self._book(raw)
        rids: dict[int, list[bytes]] = {}
        for shard, _, fields in raw:
            rids.setdefault(shard, []).append(fields.get(b"r", b""))
        self.cursors.update(ends)
        await self._ack(ends, rids)
        return len(raw)

    async def _book(self, raw: Sequence[Raw]) -> dict[int, Cursor]:
        entries: list[Entry] = []
        poison = []
        for shard, sid, fields in raw:
            try:
                entries.append(parse(shard, sid, fields))
            except Poison as problem:
                poison.append((shard, sid, _readable(fields), str(problem)))
        async with self.pool.acquire() as conn:
            try:
                return await self.books.book(conn, entries, self.cursors, poison)
            except BAD_DATA as problem:
                log.error("a batch was refused by the ledger (%s); booking one by one", problem)
        return await self._book_singly(raw)

    async def _book_singly(self, raw: Sequence[Raw]) -> dict[int, Cursor]:
        """Finds the entry that the ledger refuses, puts it aside and books the others."""
        cursors = dict(self.cursors)
        for shard, sid, fields in raw:
            async with self.pool.acquire() as conn:
                try:
                    ends = await self.books.book(conn, [parse(shard, sid, fields)], cursors)
                except (Poison, *BAD_DATA) as problem:
                    aside = [(shard, sid, _readable(fields), str(problem))]
                    ends = await self.books.book(conn, [], cursors, aside)
            cursors.update(ends)
        return {shard: cursors[shard] for shard, _, _ in raw}

    async def _ack(self, ends: Mapping[int, Cursor], rids: Mapping[int, list[bytes]]) -> None:
        calls: list[Call] = []
        for shard, (ms, seq) in ends.items():
            at = SHARD_KEYS[shard]
            args: list[Word] = [self.generations[shard], _text((ms, seq)), _text((ms, seq + 1))]
            calls.append(("ack", [at.meta, at.usage, at.tomb], [*args, *rids[shard]]))
        for reply in await self.redis.run_all(calls):
            if reply[0] != b"OK":
                raise Overtaken("a shard has another generation")

    # ledger -> Redis -------------------------------------------------------------

    async def push_once(self) -> None:
        """Carries both outboxes to Redis, each shard's rows in order."""
        await self.publisher.pending(RECORDS_PER_ROUND)
        applied = await self.redis.commands([("HGET", at.meta, "adjseq") for at in SHARD_KEYS])
        for row in await self.pool.fetch(sql.load()["shard_list"]):
            if row["outseq"] > int(applied[row["id"]] or 0):
                await self._push(row["id"], int(applied[row["id"]] or 0))

    async def _push(self, shard: int, applied: int) -> None:
        rows = await self.pool.fetch(sql.load()["outbox_redis_next"], shard, applied, ROWS_PER_PUSH)
        if not rows:
            return
        at = SHARD_KEYS[shard]
        owners = list(dict.fromkeys(row["owner"].rpartition(":")[0] for row in rows))
        args: list[Word] = [self.generations[shard], rows[0]["seq"], rows[-1]["seq"]]
        for row in rows:
            name, _, meter = row["owner"].rpartition(":")
            args += [owners.index(name) + 2, meter, row["delta"]]
        keys = [at.meta, *(at.prefix + name.encode() for name in owners)]
        reply = await self.redis.run("adjust", keys, *args)
        if reply[0] == b"BAD":
            log.error("shard %02d: outbox rows from %d refused: %s", shard, rows[0]["seq"], reply)
        if reply[0] == b"OK" and len(rows) == ROWS_PER_PUSH:
            self._wake.set()

    # holds of the dead ----------------------------------------------------------------

    async def reap_once(self) -> int:
        """Ends holds whose lease is over; how many."""
        if asyncio.get_running_loop().time() < self._reap_from:
            return 0
        seconds, micros = await self.redis.command("TIME")
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        over = ("-inf", now_ms, "LIMIT", 0, REAPED_PER_SHARD)
        expired = await self.redis.commands([("ZRANGEBYSCORE", k.lease, *over) for k in SHARD_KEYS])
        ended = 0
        for at, rids in zip(SHARD_KEYS, expired, strict=True):
            if rids:
                ended += await self._reap(at, rids)
        return ended

    async def _reap(self, at: ShardKeys, rids: list[bytes]) -> int:
        holds = await self.redis.command("HMGET", at.hold, *rids)
        owners = sorted({owner for hold in holds if hold for owner in _owners(hold)})
        keys = [at.meta, at.hold, at.lease, at.tomb, at.usage, *owners]
        reply = await self.redis.run("reap", keys, *rids)
        if reply[0] != b"OK":
            return 0
        if reply[1]:
            log.warning("%d requests lost their proxy; their holds are given back", reply[1])
        return int(reply[1])

    # the loops --------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Runs until told to stop; anything that breaks is told once and tried again."""
        ending = asyncio.create_task(stop.wait())
        while not stop.is_set():
            round = asyncio.create_task(self._round())
            await asyncio.wait((round, ending), return_when=asyncio.FIRST_COMPLETED)
            # a cancelled group may end with another's failure, so the event alone decides
            round.cancel()
            await asyncio.wait((round,))
            await asyncio.wait((ending,), timeout=TROUBLE_PAUSE_S)

    async def _round(self) -> None:
        """All loops, until one of them meets trouble."""
        try:
            await self.prepare()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._drain_loop())
                group.create_task(self._push_loop())
                group.create_task(_every(REAP_ROUND_S, self.reap_once))
                group.create_task(_every(HOUSEKEEPING_S, self._keep_house))
                group.create_task(self._listen())
        except* Overtaken as problem:
            log.info("another drain was faster: %s", problem.exceptions)
        except* (*REDIS_AWAY, *POSTGRES_AWAY, asyncpg.PostgresError) as problem:
            log.warning("the drain pauses: %s", "; ".join(map(str, problem.exceptions)))
        except* Exception:
            log.exception("the drain met what it does not know, and begins again")

    async def _drain_loop(self) -> None:
        idle_s = IDLE_FIRST_S
        while True:
            count = await self.drain_once()
            idle_s = IDLE_FIRST_S if count else min(idle_s * 1.5, IDLE_MAX_S)
            await asyncio.sleep(0 if count >= ENTRIES_PER_SHARD else idle_s)

    async def _push_loop(self) -> None:
        while True:
            self._wake.clear()
            await self.push_once()
            await self._check_generations()
            try:
                async with asyncio.timeout(PUSH_ROUND_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _check_generations(self) -> None:
        """A Redis that was wiped while we were connected to it."""
        if await rebuild.missing(self.redis, self.generations):
            raise Overtaken("Redis has lost a shard")

    async def _listen(self) -> None:
        """Postgres tells of new rows in the outboxes."""
        async with self.pool.acquire() as conn:
            await conn.add_listener(CHANNEL, lambda *_: self._wake.set())
            ended = asyncio.Event()
            conn.add_termination_listener(lambda _: ended.set())
            await ended.wait()
        raise OSError("the connection that listens to PostgreSQL ended")

    async def _keep_house(self) -> None:
        await self.pool.execute(sql.load()["usage_partitions"])
        for shard, at in enumerate(SHARD_KEYS):
            applied = int(await self.redis.command("HGET", at.meta, "adjseq") or 0)
            await self.pool.execute(sql.load()["outbox_redis_prune"], shard, applied)


async def _every(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    while True:
        await work()
        await asyncio.sleep(seconds)


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


def _owners(hold: bytes) -> list[bytes]:
    """The owners that a hold names, as prelude.lua writes them."""
    items = hold.split(b"|", 2)[1]
    return [item.split(b" ")[0] for item in items.split(b",") if item]


def _entries(rows: list[tuple[bytes, list[bytes]]]) -> list[tuple[Cursor, dict[bytes, bytes]]]:
    """Entries of a stream as the server sends them: an id, then fields and values in turn."""
    return [(_sid(sid), dict(zip(f[::2], f[1::2], strict=True))) for sid, f in rows]


def _text(sid: Cursor) -> str:
    return f"{sid[0]}-{sid[1]}"


def _sid(text: bytes) -> Cursor:
    ms, _, seq = text.partition(b"-")
    return int(ms), int(seq)


def _readable(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    return {k.decode("utf-8", "replace"): v.decode("utf-8", "replace") for k, v in fields.items()}
