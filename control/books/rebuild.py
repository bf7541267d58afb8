"""Fills shards of Redis from the ledger: at the first start, and after Redis has lost its data.

The generation is written last: until it stands there, nothing is admitted.
"""

import logging
import secrets
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import asyncpg

from control import sql
from control.books.booking import Overtaken
from control.books.publish import Publisher
from control.database import Connection, Pool
from control.store import Call, Reply, Store, Word
from proxy.redis.scripts import SHARD_KEYS

log = logging.getLogger("opscenter.control.books.rebuild")

COUNTS_PER_CALL = 500


class Figure(NamedTuple):
    """What the ledger says of one count."""

    owner: str  # and meter
    unit: str
    amount: int
    window_start: int


async def lacking(redis: Store, generations: Mapping[int, int]) -> tuple[dict[int, str], int]:
    """The shards that Redis does not hold as the ledger knows them, each with the generation that
    was found: another one, none, a fence that somebody left, or another run of the server, which
    has lost its newest writes or never had them. And the youngest server's uptime in seconds.
    """
    states = await redis.commands([("HMGET", at.meta, "gen", "fenced") for at in SHARD_KEYS])
    servers = await redis.run_all([("server", [at.meta], ()) for at in SHARD_KEYS])
    found = {}
    for shard, generation in generations.items():
        (has, fenced), (_, run, noted, _) = states[shard], servers[shard]
        if has is None or int(has) != generation or fenced or not run or run != noted:
            found[shard] = (has or b"").decode()
    return found, min(int(reply[3]) for reply in servers)


async def missing(redis: Store, generations: Mapping[int, int]) -> bool:
    """Whether any shard has another generation: cheap, asked all the time."""
    found = await redis.commands([("HGET", at.meta, "gen") for at in SHARD_KEYS])
    return any(found[s] is None or int(found[s]) != g for s, g in generations.items())


async def rebuild(
    pool: Pool, redis: Store, publisher: Publisher, shards: Sequence[int]
) -> dict[int, int]:
    """Fills these shards; their generations. Behind a fence of its own: whoever comes late with
    figures of an earlier moment finds another fence, or none, and changes nothing.
    """
    query = sql.load()
    async with pool.acquire() as conn, conn.transaction():
        rows = {row["id"]: row for row in await conn.fetch(query["shard_lock"], list(shards))}
        known = {shard: row["generation"] for shard, row in rows.items()}
        has, _ = await lacking(redis, known)
        if not has:  # another drain was faster
            return known
        fence = secrets.token_hex(8)
        await _all_ok(redis, [("fence", [_meta(s)], (was, fence)) for s, was in has.items()])
        raised = await conn.fetch(query["shard_generation"], list(has))
        known |= {row["id"]: row["generation"] for row in raised}
        await publisher.shards(conn, list(has))
        for shard in has:
            cursor = f"{rows[shard]['cursor_ms']}-{rows[shard]['cursor_seq']}"
            await _advance_stream(redis, SHARD_KEYS[shard].usage, cursor)
        await _resync(conn, redis, rows, list(has), fence)
        servers = await redis.run_all([("server", [_meta(s)], ()) for s in has])
        runs = dict(zip(has, (reply[1] for reply in servers), strict=True))
        await _all_ok(redis, [("open", [_meta(s)], (fence, known[s], runs[s])) for s in has])
    return known


def _meta(shard: int) -> bytes:
    return SHARD_KEYS[shard].meta


async def _all_ok(redis: Store, calls: Sequence[Call]) -> list[Reply]:
    replies = await redis.run_all(calls)
    if any(reply[0] == b"OTHER" for reply in replies):
        raise Overtaken("another drain fills a shard")
    if any(reply[0] != b"OK" for reply in replies):
        raise RuntimeError(f"{calls[0][0]} answered {replies!r}")
    return replies


async def _resync(
    conn: Connection,
    redis: Store,
    rows: Mapping[int, asyncpg.Record],
    shards: Sequence[int],
    fence: str,
) -> int:
    """Sets balances, uses and holds; what they were off by."""
    query = sql.load()
    figures: dict[int, list[Figure]] = {}
    for row in await conn.fetch(query["pools_of_shards"], list(shards)):
        figures.setdefault(row["shard"], []).append(Figure(row["owner"], "pool", row["balance"], 0))
    for row in await conn.fetch(query["budgets_of_shards"], list(shards)):
        figure = Figure(row["owner"], row["unit"], row["used"], row["window_start"])
        figures.setdefault(row["shard"], []).append(figure)
    calls: list[Call] = []
    for shard in shards:
        cursor = f"{rows[shard]['cursor_ms']}-{rows[shard]['cursor_seq']}"
        state = (cursor, rows[shard]["outseq"], fence)
        calls += _resync_calls(shard, state, figures.get(shard, []))
    replies = await _all_ok(redis, calls)
    drift = sum(int(reply[1]) for reply in replies)
    if drift:
        log.warning("%d shards set to the ledger: %d ucr of drift removed", len(shards), drift)
    return drift


def _resync_calls(shard: int, state: tuple[str, int, str], figures: Sequence[Figure]) -> list[Call]:
    at, calls = SHARD_KEYS[shard], list[Call]()
    for start in range(0, max(len(figures), 1), COUNTS_PER_CALL):
        keys = [at.meta, at.hold, at.usage]
        args: list[Word] = [*state]
        for owner, unit, figure, window in figures[start : start + COUNTS_PER_CALL]:
            name, _, meter = owner.rpartition(":")
            keys.append(at.prefix + name.encode())
            args += [len(keys), meter, unit, figure, window]
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
