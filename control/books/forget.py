"""Counts of limits that were taken away, out of Redis: a while later, so that no request that began
under one is still running.
"""

from control import sql
from control.database import Pool
from control.store import Store
from proxy.redis.scripts import SHARD_KEYS

BATCH = 100  # limits of one trip
BATCHES_MAX = 100  # in one round; the rest waits for the next
PARTS = 61  # of a rolling window, as in the scripts
FIELDS = ("l", "u", "h", "w", *map(str, range(PARTS)))


async def forget_gone(pool: Pool, redis: Store) -> int:
    """How many were forgotten."""
    query, done = sql.load(), 0
    for _ in range(BATCHES_MAX):
        rows = await pool.fetch(query["limit_gone_list"], BATCH)
        commands = [
            (
                "HDEL",
                SHARD_KEYS[row["shard"]].prefix + row["owner"].encode(),
                *(f"l{row['rule']}.{field}" for field in FIELDS),
            )
            for row in rows
        ]
        if commands:
            await redis.commands(commands)
            names = [row["rule"] for row in rows], [row["owner"] for row in rows]
            await pool.execute(query["limit_gone_done"], *names)
        done += len(rows)
        if len(rows) < BATCH:
            break
    return done
