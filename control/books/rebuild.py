"""Fills shards of Redis from the ledger: at the first start, and after Redis has lost its data.

The generation is written last: until it stands there, nothing is admitted.
"""

import logging
from collections.abc import Mapping, Sequence

import asyncpg

from control import sql
from control.books.publish import Publisher
from control.database import Pool
from control.store import Call, Store, Word
from proxy.scripts import SHARD_KEYS

log = logging.getLogger("opscenter.control.books.rebuild")

POOLS_PER_CALL = 500


async def missing(redis: Store, generations: Mapping[int, int]) -> list[int]:
    """The shards whose generation in Redis is not the ledger's."""
    found = await redis.commands([("HGET", at.meta, "gen") for at in SHARD_KEYS])
    return [s for s, g in generations.items() if found[s] is None or int(found[s]) != g]


async def rebuild(
    pool: Pool, redis: Store, publisher: Publisher, shards: Sequence[int]
) -> dict[int, int]:
    """Fills these shards; their generations."""
    query = sql.load()
    async with pool.acquire() as conn, conn.transaction():
        rows = {row["id"]: row for row in await conn.fetch(query["shard_lock"], list(shards))}
        has = await missing(redis, {s: row["generation"] for s, row in rows.items()})
        if not has:  # another drain was faster
            return {shard: row["generation"] for shard, row in rows.items()}
        await redis.commands([("HSET", SHARD_KEYS[s].meta, "fenced", "1") for s in has])
        raised = await conn.fetch(query["shard_generation"], has)
        generations = {row["id"]: row["generation"] for row in raised}
        await publisher.shards(conn, has)
        cursors = {s: f"{rows[s]['cursor_ms']}-{rows[s]['cursor_seq']}" for s in has}
        for shard in has:
            await _advance_stream(redis, SHARD_KEYS[shard].usage, cursors[shard])
        drift = await _resync(redis, cursors, await conn.fetch(query["pools_of_shards"], has))
        for shard in has:
            meta, end = SHARD_KEYS[shard].meta, ("cursor", cursors[shard])
            state = ("adjseq", rows[shard]["outseq"], *end, "gen", generations[shard])
            await redis.commands([("HDEL", meta, "fenced"), ("HSET", meta, *state)])
    if drift:
        log.warning("%d shards rebuilt: %d ucr of drift removed", len(has), drift)
    return {shard: generations.get(shard, row["generation"]) for shard, row in rows.items()}


async def _resync(redis: Store, cursors: Mapping[int, str], pools: Sequence[asyncpg.Record]) -> int:
    """Sets balances and holds; what they were off by."""
    by_shard: dict[int, list[tuple[str, int]]] = {}
    for row in pools:
        by_shard.setdefault(row["shard"], []).append((row["owner"], row["balance"]))
    calls: list[Call] = []
    for shard, rows in by_shard.items():
        at = SHARD_KEYS[shard]
        for start in range(0, len(rows), POOLS_PER_CALL):
            keys = [at.meta, at.hold, at.usage]
            args: list[Word] = [cursors[shard]]
            for owner, balance in rows[start : start + POOLS_PER_CALL]:
                name, _, meter = owner.rpartition(":")
                keys.append(at.prefix + name.encode())
                args += [len(keys), meter, balance]
            calls.append(("resync", keys, args))
    replies = await redis.run_all(calls)
    if any(reply[0] != b"OK" for reply in replies):
        raise RuntimeError(f"resync answered {replies!r}")
    return sum(int(reply[1]) for reply in replies)


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
