"""What the ledger and Redis hold when all is over, read with plain clients. Knows the layout of the
tables and keys, and no product code.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import asyncpg
import orjson
import redis

SHARDS = 64
ROWS_PER_READ = 20_000


class Row(NamedTuple):
    """A usage row."""

    phase: int
    kind: str
    debit: int
    credit: int
    cost: int
    organisation: str
    kid: str
    person: str
    model: str
    tokens: tuple[tuple[str, int], ...]
    source: str
    reason: str
    shard: int
    job: str | None


class Account(NamedTuple):
    kind: str
    shard: int
    owner: str
    debits: int
    credits: int


class Transfer(NamedTuple):
    debit: int
    credit: int
    amount: int
    code: str
    ref: str


class Budget(NamedTuple):
    shard: int
    owner: str  # with its meter
    used: int
    unit: str
    window_start: int  # 0: it has no window


class ShardRow(NamedTuple):
    cursor: tuple[int, int]
    generation: int
    outseq: int
    outbox: int  # rows in its outbox
    first: int
    last: int


@dataclass(slots=True)
class Ledger:
    rows: dict[str, list[Row]] = field(default_factory=dict)  # by request id
    accounts: dict[int, Account] = field(default_factory=dict)
    transfers: list[Transfer] = field(default_factory=list)
    shards: dict[int, ShardRow] = field(default_factory=dict)
    budgets: list[Budget] = field(default_factory=list)
    dead_letters: int = 0


@dataclass(slots=True)
class RedisShard:
    meta: Mapping[str, str]
    holds: int
    leases: int
    tombs: int
    entries: int
    newest: str  # id of the last entry that the stream ever had
    owners: dict[str, dict[str, str]]  # without the shard's prefix: o:<organisation> -> fields


async def ledger(dsn: str) -> Ledger:
    conn = await asyncpg.connect(dsn)
    try:
        async with conn.transaction(isolation="repeatable_read", readonly=True):
            return await _ledger(conn)
    finally:
        await conn.close()


async def _ledger(conn: "asyncpg.Connection[asyncpg.Record]") -> Ledger:
    found = Ledger()
    query = (
        "SELECT rid::text, phase, kind, debit, credit, cost, organisation::text, kid, person::text,"
        " model, tokens::text AS tokens, usage_source, reason, shard, job FROM usage_event"
    )
    cache: dict[str, tuple[tuple[str, int], ...]] = {}
    one = dict[Any, Any]().setdefault  # the same few keys, people and models again and again
    async for r in conn.cursor(query, prefetch=ROWS_PER_READ):
        tokens = cache.setdefault(r["tokens"], ()) or _tokens(cache, r["tokens"])
        values = (one(value, value) for value in (*tuple(r)[1:10], tokens, *tuple(r)[11:]))
        found.rows.setdefault(r["rid"], []).append(Row._make(values))
    for a in await conn.fetch("SELECT id, kind, shard, owner, debits, credits FROM account"):
        found.accounts[a["id"]] = Account(*tuple(a)[1:])
    for t in await conn.fetch("SELECT debit, credit, amount, code, ref FROM transfer"):
        found.transfers.append(Transfer(*t))
    for s in await conn.fetch(
        "SELECT id, cursor_ms, cursor_seq, generation, outseq, count(o.seq) AS rows,"
        " coalesce(min(o.seq), 0) AS first, coalesce(max(o.seq), 0) AS last"
        " FROM shard LEFT JOIN outbox_redis o ON o.shard = shard.id GROUP BY shard.id"
    ):
        found.shards[s["id"]] = ShardRow((s[1], s[2]), *tuple(s)[3:])
    for b in await conn.fetch("SELECT shard, owner, used, unit, window_start FROM meter_use"):
        found.budgets.append(Budget(*b))
    found.dead_letters = await conn.fetchval("SELECT count(*) FROM dead_letter") or 0
    return found


def _tokens(
    cache: dict[str, tuple[tuple[str, int], ...]], text: str
) -> tuple[tuple[str, int], ...]:
    cache[text] = tuple(sorted((name, n) for name, n in orjson.loads(text).items() if n))
    return cache[text]


def in_redis(url: str) -> dict[int, RedisShard]:
    client = redis.Redis.from_url(url, decode_responses=True)
    try:
        return {shard: _shard(client, f"{{s{shard:02d}}}:") for shard in range(SHARDS)}
    finally:
        client.close()


def _shard(client: Any, prefix: str) -> RedisShard:
    owners = {
        name.removeprefix(prefix): client.hgetall(name)
        for kind in "kow"
        for name in client.scan_iter(f"{prefix}{kind}:*", count=1000, _type="HASH")
    }
    stream = prefix + "usage"
    newest = client.xinfo_stream(stream)["last-generated-id"] if client.exists(stream) else "0-0"
    return RedisShard(
        meta=client.hgetall(prefix + "meta"),
        holds=client.hlen(prefix + "hold"),
        leases=client.zcard(prefix + "lease"),
        tombs=client.hlen(prefix + "tomb"),
        entries=client.xlen(stream),
        newest=newest,
        owners=owners,
    )
