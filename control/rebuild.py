"""Fills a shard of Redis from the ledger: at the first start, and after Redis has lost its data.

The generation is written last: until it stands there, nothing is admitted.
"""

import logging
from collections.abc import Mapping

from control import sql
from control.database import Pool
from control.publish import Publisher
from control.store import Store, Word
from proxy.keys import SHARDS
from proxy.scripts import SHARD_KEYS

log = logging.getLogger("opscenter.control.rebuild")

POOLS_PER_CALL = 500


async def missing(redis: Store, generations: Mapping[int, int]) -> list[int]:
    """The shards whose generation in Redis is not the ledger's."""
    found = await redis.commands([("HGET", at.meta, "gen") for at in SHARD_KEYS])
    return [s for s in range(SHARDS) if found[s] is None or int(found[s]) != generations[s]]


async def rebuild(pool: Pool, redis: Store, publisher: Publisher, shard: int) -> int:
    """Fills one shard and returns its generation."""
    meta, query = SHARD_KEYS[shard].meta, sql.load()
    async with pool.acquire() as conn, conn.transaction():
        [row] = await conn.fetch(query["shard_lock"], [shard])
        has = await redis.command("HGET", meta, "gen")
        if has is not None and int(has) == row["generation"]:
            return int(has)  # another drain was faster
        await redis.command("HSET", meta, "fenced", "1")
        generation = int(await conn.fetchval(query["shard_generation"], shard))
        await publisher.shard(conn, shard)
        cursor = f"{row['cursor_ms']}-{row['cursor_seq']}"
        await _advance_stream(redis, SHARD_KEYS[shard].usage, cursor)
        pools = await conn.fetch(query["pools_of_shard"], shard)
        drift = await _resync(redis, shard, cursor, [(p["owner"], p["balance"]) for p in pools])
        state = ("adjseq", row["outseq"], "cursor", cursor, "gen", generation)
        await redis.commands([("HDEL", meta, "fenced"), ("HSET", meta, *state)])
    if drift:
        log.warning("shard %02d rebuilt: %d ucr of drift removed", shard, drift)
    return generation


async def _resync(redis: Store, shard: int, cursor: str, pools: list[tuple[str, int]]) -> int:
    at, drift = SHARD_KEYS[shard], 0
    for start in range(0, len(pools), POOLS_PER_CALL):
        owners: list[bytes] = []
        args: list[Word] = [cursor]
        for nth, (owner, balance) in enumerate(pools[start : start + POOLS_PER_CALL]):
            name, _, meter = owner.rpartition(":")
            owners.append(at.prefix + name.encode())
            args += [nth + 4, meter, balance]
        reply = await redis.run("resync", [at.meta, at.hold, at.usage, *owners], *args)
        if reply[0] != b"OK":
            raise RuntimeError(f"resync of shard {shard} answered {reply!r}")
        drift += int(reply[1])
    return drift


async def _advance_stream(redis: Store, usage: bytes, cursor: str) -> None:
    """New entries must come after the cursor, even when the server's clock stands behind it."""
    if cursor == "0-0":
        return
    if not await redis.command("EXISTS", usage):
        make = ("XGROUP", "CREATE", usage, "make", "0", "MKSTREAM")
        await redis.commands([make, ("XGROUP", "DESTROY", usage, "make")])
    newest = await redis.command("XREVRANGE", usage, "+", "-", "COUNT", 1)
    if not newest or _parts(newest[0][0]) < _parts(cursor.encode()):
        # refused when the stream has come further by entries that were trimmed
        await redis.command("XSETID", usage, cursor)


def _parts(sid: bytes) -> tuple[int, ...]:
    return tuple(map(int, sid.split(b"-")))
