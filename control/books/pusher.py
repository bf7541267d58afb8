"""The ledger's changes -> Redis: both outboxes, each shard's rows in order and without a gap."""

import logging
from collections.abc import Mapping

from control import sql
from control.books.booking import Overtaken
from control.books.publish import Publisher
from control.database import Pool
from control.store import Store, Word
from proxy.redis.scripts import SHARD_KEYS

log = logging.getLogger("opscenter.control.books.pusher")

ROWS_PER_PUSH = 500
RECORDS_PER_ROUND = 500
ADJUST_OWNERS_FROM = 4  # place among KEYS


class Pusher:
    def __init__(
        self,
        pool: Pool,
        redis: Store,
        publisher: Publisher,
        generations: Mapping[int, int],
        mine: set[int],
    ) -> None:
        self.pool = pool
        self.redis = redis
        self.publisher = publisher
        self._generations = generations
        self._mine = mine

    async def push_once(self) -> bool:
        """Carries both outboxes to Redis; True when more waits than one round takes."""
        more = await self.publisher.pending(RECORDS_PER_ROUND) == RECORDS_PER_ROUND
        applied = await self.redis.commands([("HGET", at.meta, "adjseq") for at in SHARD_KEYS])
        for row in await self.pool.fetch(sql.load()["shard_list"]):
            if row["generation"] != self._generations[row["id"]]:
                raise Overtaken("Redis is to be filled anew, or was by another drain")
            if row["id"] in self._mine and row["outseq"] > int(applied[row["id"]] or 0):
                more |= await self._push(row["id"], int(applied[row["id"]] or 0))
        return more

    async def _push(self, shard: int, applied: int) -> bool:
        rows = await self.pool.fetch(sql.load()["outbox_redis_next"], shard, applied, ROWS_PER_PUSH)
        if not rows:
            return False
        at = SHARD_KEYS[shard]
        owners = list(dict.fromkeys(row["owner"].rpartition(":")[0] for row in rows))
        args: list[Word] = [self._generations[shard], rows[0]["seq"], rows[-1]["seq"]]
        for row in rows:
            name, _, meter = row["owner"].rpartition(":")
            field = f"{meter}.{row['field']}"
            args += [owners.index(name) + ADJUST_OWNERS_FROM, field, row["delta"]]
            args += [row["window_start"], row["hold"] or ""]
        keys = [at.meta, at.hold, at.out, *(at.prefix + name.encode() for name in owners)]
        reply = await self.redis.run("adjust", keys, *args)
        if reply[0] == b"BAD":
            log.error("shard %02d: outbox rows from %d refused: %s", shard, rows[0]["seq"], reply)
        return reply[0] == b"OK" and len(rows) == ROWS_PER_PUSH
