"""Credits on their way out of a pool: reserved in Redis before the ledger books them, so that no
request spends them meanwhile. What was reserved and never booked is given back.

Whoever books holds a lock of the ledger's on the reservation's name, from before it is made until
the commit. Where that lock is free, nobody is about to book: a reservation of which no change
waits for Redis was given up, or is in the balance already.
"""

import logging
import re
from collections.abc import Sequence

from control import sql
from control.database import Connection, Pool
from control.store import AWAY, Store
from proxy.costs.pricing import credits_text
from proxy.redis.scripts import SHARD_KEYS, ShardKeys

log = logging.getLogger("opscenter.control.books.outflows")

SWEPT_PER_SHARD = 100  # in one round
_owner = re.compile(rb"\|(\S+) ").search


class RedisNotReady(Exception):
    """Redis is away, or the shard is being filled: nothing can be reserved."""


class TooFew(Exception):
    """The pool does not carry the amount."""

    def __init__(self, left: int) -> None:
        super().__init__(f"{credits_text(max(left, 0))} credits are free")
        self.left = max(left, 0)


async def lock(conn: Connection, name: str) -> None:
    """Until the caller's transaction ends, nobody else books this or gives it back."""
    await conn.execute(sql.load()["outflow_lock"], name)


async def reserve(redis: Store, shard: int, owner: str, amount: int, name: str) -> int:
    """Holds the amount, under the lock of this name; the shard's generation. The same name again
    holds nothing more.
    """
    at, (record, _, meter) = SHARD_KEYS[shard], owner.rpartition(":")
    keys = [at.meta, at.hold, at.out, at.prefix + record.encode()]
    try:
        word, *rest = await redis.run("reserve", keys, name, meter, amount)
    except AWAY as problem:
        raise RedisNotReady(str(problem)) from problem
    if word == b"FUNDS":
        raise TooFew(int(rest[0]))
    if word != b"OK":
        raise RedisNotReady(f"reserve answered {word.decode()}")
    return int(rest[0])


class Outflows:
    """The drain's part: gives back what was reserved and is not booked."""

    def __init__(self, pool: Pool, redis: Store, lease_ms: int, mine: set[int]) -> None:
        self.pool = pool
        self.redis = redis
        self._lease_ms = lease_ms
        self._mine = mine

    async def sweep_once(self) -> int:
        """Looks at reservations that are older than a lease; how many it has ended."""
        mine = sorted(self._mine)
        keys = [SHARD_KEYS[shard].out for shard in mine]
        limit, ended = ("LIMIT", 0, SWEPT_PER_SHARD), 0
        befores = [now - self._lease_ms for now in await self.redis.times_ms(keys)]
        found = await self.redis.commands(
            [("ZRANGEBYSCORE", *pair, *limit) for pair in _ranges(keys, befores)]
        )
        for shard, names in zip(mine, found, strict=True):
            for name in names:
                ended += await self._end(shard, name.decode())
        return ended

    async def _end(self, shard: int, name: str) -> bool:
        at, query = SHARD_KEYS[shard], sql.load()
        async with self.pool.acquire() as conn, conn.transaction():
            if not await conn.fetchval(query["outflow_try"], name):
                return False  # it is being booked just now
            applied = int(await self.redis.command("HGET", at.meta, "adjseq") or 0)
            if await conn.fetchval(query["outflow_waits"], shard, applied, name):
                return False  # the pusher ends it
            return await self._release(at, name, applied)

    async def _release(self, at: ShardKeys, name: str, applied: int) -> bool:
        hold = await self.redis.command("HGET", at.hold, name)
        owner = _owner(hold) if hold else None
        keys = [at.meta, at.hold, at.out, owner[1] if owner else at.meta]
        reply = await self.redis.run("release", keys, name, applied)
        if reply[0] == b"OK" and hold:
            log.warning(
                "%s was left over; what it held in shard %s is free", name, at.prefix.decode()
            )
        return bool(reply[0] == b"OK")


def _ranges(keys: Sequence[bytes], befores: Sequence[int]) -> list[tuple[bytes, str, int]]:
    return [(key, "-inf", before) for key, before in zip(keys, befores, strict=True)]
