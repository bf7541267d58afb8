"""`opscenter ledger verify`: proves that the books balance, that usage was charged right, and that
Redis says what the ledger says. Reads only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from control import sql
from control.books.rebuild import Figure
from control.database import Connection, Pool
from control.store import AWAY, Store, Word
from proxy.costs.charge import BYOK
from proxy.costs.price import read_price
from proxy.costs.pricing import cost_ucr
from proxy.redis.scripts import SHARD_KEYS
from proxy.who.keys import SHARDS

ROWS_PER_READ = 5_000
COUNTS_PER_CALL = 500
SHOWN_MAX = 20  # differences that a check lists
CATCH_UP_TRIES = 20  # a drain at work moves the cursor under us


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    title: str
    ok: bool
    detail: str
    differences: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Report:
    ok: bool
    checks: list[Check]


class Difference(NamedTuple):
    """What Redis says against what the ledger explains."""

    says: str
    ucr: int


async def verify(pool: Pool, redis: Store) -> Report:
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        checks = [
            await _double_entry(conn),
            await _usage(conn),
            await _terminal(conn),
            await _outbox(conn),
        ]
    checks.insert(2, await _redis(pool, redis))
    return Report(all(check.ok for check in checks), checks)


async def _double_entry(conn: Connection) -> Check:
    sums = await conn.fetchrow(sql.load()["verify_sums"])
    assert sums is not None
    wrong = [
        f"account {row['id']} ({row['kind']} {row['owner']}): "
        f"debits {row['debits']}, by rows {row['moved_debits']}; "
        f"credits {row['credits']}, by rows {row['moved_credits']}"
        for row in await conn.fetch(sql.load()["verify_double_entry"])
    ]
    if sums["debits"] != sums["credits"]:
        wrong.insert(0, f"debits {sums['debits']} ucr, credits {sums['credits']} ucr")
    detail = f"{sums['accounts']} accounts, {sums['debits']} ucr on each side"
    return _check("V1", "debits equal credits, totals equal their rows", detail, wrong)


async def _usage(conn: Connection) -> Check:
    """Every charge is computed again from its tokens and the price it was charged by."""
    after, count, wrong = UUID(int=0), 0, list[str]()
    while rows := await conn.fetch(sql.load()["verify_usage"], after, ROWS_PER_READ):
        for row in rows:
            if row["mode"] == BYOK:
                if row["cost"]:
                    wrong.append(f"request {row['rid']}: charged, though with a key of its own")
                continue
            if row["rates"] is None:
                wrong.append(f"request {row['rid']}: price version {row['price_version']} is gone")
                continue
            price = read_price(row["price_version"], dict(row))
            again = cost_ucr(row["tokens"], price)
            if again != row["cost"]:
                wrong.append(f"request {row['rid']}: charged {row['cost']} ucr, computed {again}")
        count, after = count + len(rows), rows[-1]["rid"]
    wrong += [
        f"budget {row['owner']}: {row['used']} ucr used, {row['counted']} by rows"
        for row in await conn.fetch(sql.load()["verify_meters"])
    ]
    return _check(
        "V2", "charges equal tokens times price", f"{count} requests computed again", wrong
    )


async def _redis(pool: Pool, redis: Store) -> Check:
    count, wrong = 0, list[str]()
    try:
        for shard in range(SHARDS):
            counted, differences = await compare(pool, redis, shard)
            count, wrong = count + counted, wrong + [found.says for found in differences]
    except AWAY as problem:
        wrong.append(f"Redis cannot be read: {problem}")
    detail = f"{count} pools and budgets compared, with their holds"
    return _check("V3", "Redis says what the ledger says", detail, wrong)


async def compare(pool: Pool, redis: Store, shard: int) -> tuple[int, list[Difference]]:
    """One shard, at a moment that both sides agree on."""
    for _ in range(CATCH_UP_TRIES):
        async with (
            pool.acquire() as conn,
            conn.transaction(isolation="repeatable_read", readonly=True),
        ):
            [row] = [r for r in await conn.fetch(sql.load()["shard_list"]) if r["id"] == shard]
            pools = await conn.fetch(sql.load()["pools_of_shard"], shard)
            uses = await conn.fetch(sql.load()["meter_use_of_shards"], [shard])
            waiting = await conn.fetch(sql.load()["verify_waiting"], shard)
        figures = {p["owner"]: Figure(p["owner"], "pool", p["balance"], 0) for p in pools}
        figures |= {
            use["owner"]: Figure(use["owner"], use["unit"], use["used"], use["window_start"])
            for use in uses
        }
        if not figures:
            return 0, []
        cursor = f"{row['cursor_ms']}-{row['cursor_seq']}"
        owed = [(w["seq"], w["owner"], w["window_start"], w["delta"]) for w in waiting]
        found = await _in_redis(redis, shard, cursor, figures, owed)
        if found is not None:
            return len(figures), found
    busy = f"shard {shard:02d} moves too fast to be compared; try again when it is calmer"
    return 0, [Difference(busy, 0)]


async def _in_redis(
    redis: Store,
    shard: int,
    cursor: str,
    figures: Mapping[str, Figure],
    outbox: list[tuple[int, str, int, int]],
) -> list[Difference] | None:
    """Differences, or None when Redis is already past the ledger that was read."""
    at, owners, wrong = SHARD_KEYS[shard], list(figures), list[Difference]()
    for start in range(0, len(owners), COUNTS_PER_CALL):
        chosen = owners[start : start + COUNTS_PER_CALL]
        keys = [at.meta, at.hold, at.usage]
        args: list[Word] = [cursor]
        for nth, owner in enumerate(chosen):
            name, _, meter = owner.rpartition(":")
            keys.append(at.prefix + name.encode())
            args += [nth + 4, meter, figures[owner].unit, figures[owner].window_start]
        _, adjseq, acked, *numbers = await redis.run("compare", keys, *args)
        if _parts(acked) > _parts(cursor.encode()):
            return None
        for nth, owner in enumerate(chosen):
            figure, held, spent, living = numbers[nth * 4 : nth * 4 + 4]
            _, unit, booked, window = figures[owner]
            if figure == b"over":
                continue
            pending = sum(
                d for seq, o, w, d in outbox if (o, w) == (owner, window) and seq > int(adjseq)
            )
            expected = booked - pending + (-int(spent) if unit == "pool" else int(spent))
            if figure == b"none" and expected == 0:
                continue
            if figure == b"none" or int(figure) != expected:
                says = f"{owner}: {figure.decode()} ucr in Redis, {expected} expected"
                has = 0 if figure == b"none" else int(figure)
                wrong.append(Difference(says, abs(has - expected)))
            if int(held) != int(living):
                says = f"{owner}: {int(held)} ucr held, {int(living)} by living holds"
                wrong.append(Difference(says, abs(int(held) - int(living))))
    return wrong


async def _terminal(conn: Connection) -> Check:
    """The primary key keeps one end per request; left to show are orphans and dead letters."""
    dead = await conn.fetchval(sql.load()["verify_dead_letters"])
    orphans = await conn.fetchrow(sql.load()["verify_orphans"])
    assert orphans is not None
    detail = f"{orphans['orphans']} orphans charged {orphans['cost']} ucr, {dead} dead letters"
    wrong = [f"{dead} stream entries could not be booked: see table dead_letter"] if dead else []
    return _check("V4", "every request ended once, none was put aside", detail, wrong)


async def _outbox(conn: Connection) -> Check:
    wrong = [
        f"shard {row['id']:02d}: {row['rows']} rows from {row['first']} to {row['last']}, "
        f"the last should be {row['outseq']}"
        for row in await conn.fetch(sql.load()["verify_outbox"])
    ]
    return _check("V5", "the outbox to Redis has no gap", f"{SHARDS} shards", wrong)


def _check(name: str, title: str, detail: str, wrong: list[str]) -> Check:
    return Check(name, title, not wrong, detail, wrong[:SHOWN_MAX])


def _parts(sid: bytes) -> tuple[int, ...]:
    return tuple(map(int, sid.split(b"-")))
