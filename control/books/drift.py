"""Drift found while everything runs: each shard is compared with the ledger now and then, and what
is off goes to a metric and the log.
"""

import logging

from control.books.verify import compare
from control.database import Pool
from control.store import Store

log = logging.getLogger("opscenter.control.books.drift")

DRIFT_KEY = b"{ops}:drift"  # hash: shard -> ucr by which it was off when it was last compared
DRIFT_LIFE_S = 3_600


async def watch(pool: Pool, redis: Store, shard: int) -> int:
    """Compares one shard; what it is off by, in ucr."""
    _, differences = await compare(pool, redis, shard)
    off = sum(found.ucr for found in differences)
    if off:
        for found in differences:
            log.error("shard %02d differs from the ledger: %s", shard, found.says)
        await redis.commands([("HSET", DRIFT_KEY, shard, off), ("EXPIRE", DRIFT_KEY, DRIFT_LIFE_S)])
    else:
        await redis.command("HDEL", DRIFT_KEY, shard)
    return off


async def known(redis: Store) -> int:
    """The sum over all shards, for the metric."""
    return sum(map(int, await redis.command("HVALS", DRIFT_KEY)))
