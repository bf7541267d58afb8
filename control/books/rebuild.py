"""Fills shards of Redis from the ledger: at the first start, and after Redis has lost its data.

The generation is written last: until it stands there, nothing is admitted.
"""

import logging
from collections.abc import Mapping, Sequence

import asyncpg

from control import sql
from control.books.publish import Publisher
from control.database import Connection, Pool
from control.store import Call, Store, Word
from proxy.scripts import SHARD_KEYS

log = logging.getLogger("opscenter.control.books.rebuild")

COUNTS_PER_CALL = 500


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
        await _resync(conn, redis, rows, has)
        for shard in has:
            meta = SHARD_KEYS[shard].meta
            done = ("HSET", meta, "gen", generations[shard])
            await redis.commands([("HDEL", meta, "fenced"), done])
    return {shard: generations.get(shard, row["generation"]) for shard, row in rows.items()}


async def resync(pool: Pool, redis: Store, shards: Sequence[int]) -> int:
    """Makes counts what the ledger says where a server has restarted or was replaced, which may
    have cost it its newest writes. What it was off by.
    """
    async with pool.acquire() as conn, conn.transaction():
        locked = await conn.fetch(sql.load()["shard_lock"], list(shards))
        rows = {row["id"]: row for row in locked}
        for shard, row in rows.items():
            cursor = f"{row['cursor_ms']}-{row['cursor_seq']}"
            await _advance_stream(redis, SHARD_KEYS[shard].usage, cursor)
        return await _resync(conn, redis, rows, shards)


async def replaced(redis: Store) -> tuple[list[int], int]:
    """The shards whose server is another run than was noted, and the youngest server's uptime."""
    replies = await redis.run_all([("server", [at.meta], ()) for at in SHARD_KEYS])
    changed = [s for s, (_, run, noted, _) in enumerate(replies) if not run or run != noted]
    return changed, min(int(reply[3]) for reply in replies)


async def note(redis: Store, shards: Sequence[int]) -> None:
    """From now on these runs of their servers are known."""
    for shard in shards:
        _, run, _, _ = await redis.run("server", [SHARD_KEYS[shard].meta])
        await redis.command("HSET", SHARD_KEYS[shard].meta, "run", run)


async def _resync(
    conn: Connection,
    redis: Store,
    rows: Mapping[int, asyncpg.Record],
    shards: Sequence[int],
) -> int:
    """Sets balances, uses and holds; what they were off by."""
    query = sql.load()
    figures: dict[int, list[tuple[str, str, int]]] = {}
    for row in await conn.fetch(query["pools_of_shards"], list(shards)):
        figures.setdefault(row["shard"], []).append((row["owner"], "pool", row["balance"]))
    for row in await conn.fetch(query["meter_use_of_shards"], list(shards)):
        figures.setdefault(row["shard"], []).append((row["owner"], "ucr", row["used"]))
    calls: list[Call] = []
    for shard in shards:
        cursor = f"{rows[shard]['cursor_ms']}-{rows[shard]['cursor_seq']}"
        calls += _resync_calls(shard, (cursor, rows[shard]["outseq"]), figures.get(shard, []))
    replies = await redis.run_all(calls)
    if any(reply[0] != b"OK" for reply in replies):
        raise RuntimeError(f"resync answered {replies!r}")
    drift = sum(int(reply[1]) for reply in replies)
    if drift:
        log.warning("%d shards set to the ledger: %d ucr of drift removed", len(shards), drift)
    return drift


def _resync_calls(
    shard: int, state: tuple[str, int], figures: Sequence[tuple[str, str, int]]
) -> list[Call]:
    at, calls = SHARD_KEYS[shard], list[Call]()
    for start in range(0, max(len(figures), 1), COUNTS_PER_CALL):
        keys = [at.meta, at.hold, at.usage]
        args: list[Word] = [*state]
        for owner, unit, figure in figures[start : start + COUNTS_PER_CALL]:
            name, _, meter = owner.rpartition(":")
            keys.append(at.prefix + name.encode())
            args += [len(keys), meter, unit, figure]
        calls.append(("resync", keys, args))
    return calls


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
