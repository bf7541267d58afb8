"""Stream entries -> rows of the ledger, each exactly once, in one transaction with the cursor.

An entry at or below the cursor is never interpreted: read again after a crash it would look like
a duplicate that had touched Redis twice.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from control import sql
from control.books import ledger
from control.books.entries import Cursor, Entry, Named
from control.books.warnings import warn
from control.database import Connection

END_USER = "w:e:"  # begins the owners that are one each


class Overtaken(Exception):
    """Another drain has moved a cursor since this batch was read; nothing was written."""


@dataclass(frozen=True, slots=True)
class Booked:
    """What the ledger has of a request already."""

    phase: int
    kind: str
    cost: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to book for an entry, and what Redis took that the ledger did not."""

    phase: int | None  # None: nothing, its truth is there
    kind: str
    amount: int  # signed: what the pool pays; negative gives back
    excess: int  # touched - applied


def judge(entry: Entry, booked: Sequence[Booked]) -> Verdict:
    """The drain rule: the first truth is booked, a late truth about an orphan corrects it."""
    touched = 0 if entry.late else entry.cost
    if not booked:
        return Verdict(0, entry.kind, entry.cost, touched - entry.cost)
    knows_truth = any(b.kind != "orphan" for b in booked)
    if knows_truth or entry.kind == "orphan":
        return Verdict(None, entry.kind, 0, touched)
    applied = entry.cost - sum(b.cost for b in booked)
    return Verdict(1, "correction", applied, touched - applied)


@dataclass(slots=True)
class Batch:
    """What one transaction writes."""

    rows: list[tuple[Any, ...]] = field(default_factory=list)
    moves: dict[int, list[int]] = field(default_factory=dict)  # account -> debits, credits
    # shard, owner, unit, window
    used: dict[tuple[int, str, str, int], int] = field(default_factory=dict)
    # shard, owner, field, window
    owed: dict[tuple[int, str, str, int], int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)  # key -> when, ms since 1970
    end_users: dict[str, str] = field(default_factory=dict)  # owner -> as the request named him
    jobs: dict[Named, int] = field(default_factory=dict)  # -> the ceiling that requests knew

    def move(self, account: int, debit: int, credit: int) -> None:
        totals = self.moves.setdefault(account, [0, 0])
        totals[0] += debit
        totals[1] += credit

    def owe(self, shard: int, owner: str, column: str, delta: int, window: int = 0) -> None:
        """What Redis must be told to agree with the ledger."""
        name = (shard, owner, column, window)
        self.owed[name] = self.owed.get(name, 0) + delta


class Books:
    """Books batches of many shards; remembers account ids, which never change."""

    def __init__(self) -> None:
        self._accounts: dict[tuple[str, int, str], int] = {}

    async def book(
        self,
        conn: Connection,
        entries: Sequence[Entry],
        cursors: Mapping[int, Cursor],
        generations: Mapping[int, int],
        poison: Sequence[tuple[int, Cursor, Mapping[str, str], str]] = (),
    ) -> dict[int, Cursor]:
        """One transaction: rows, totals, outbox, cursors. Returns the cursors as they now are."""
        ends = _ends(entries, poison)
        async with conn.transaction():
            await self._lock(conn, ends, cursors, generations)
            accounts = await self._ids(conn, entries)
            batch = Batch()
            booked = await _booked(conn, entries)
            for entry in entries:
                verdict = judge(entry, booked.setdefault(entry.rid, []))
                _write(batch, entry, verdict, *accounts[entry.shard, entry.owner])
                if verdict.phase is not None:
                    known = Booked(verdict.phase, verdict.kind, entry.cost)
                    booked[entry.rid].append(known)
            await _apply(conn, batch)
            for shard, sid, raw, reason in poison:
                await conn.execute(sql.load()["dead_letter_add"], shard, _text(sid), raw, reason)
            await _move_cursors(conn, ends, cursors)
        return ends

    async def _lock(
        self,
        conn: Connection,
        ends: Mapping[int, Cursor],
        cursors: Mapping[int, Cursor],
        generations: Mapping[int, int],
    ) -> None:
        """Nobody else has booked, and what was read is of what Redis holds now: entries of before
        a loss were perhaps never acknowledged to anybody.
        """
        for row in await conn.fetch(sql.load()["shard_lock"], sorted(ends)):
            cursor, generation = (row["cursor_ms"], row["cursor_seq"]), row["generation"]
            if cursor != cursors[row["id"]] or generation != generations[row["id"]]:
                raise Overtaken(f"shard {row['id']}")

    async def _ids(
        self, conn: Connection, entries: Sequence[Entry]
    ) -> dict[tuple[int, str], tuple[int, int]]:
        """For each pool: its account and the revenue account of its shard."""
        pools = sorted({(e.shard, e.owner) for e in entries})
        names = {("pool", *pool) for pool in pools} | {("revenue", s, "") for s, _ in pools}
        if unknown := sorted(names - self._accounts.keys()):
            for row in await conn.fetch(
                sql.load()["account_ids"], *map(list, zip(*unknown, strict=True))
            ):
                self._accounts[row["kind"], row["shard"], row["owner"]] = row["id"]
        # what is made now is not remembered: this transaction may still roll back
        fresh = {n: await ledger.account(conn, *n) for n in sorted(names - self._accounts.keys())}
        ids = {**fresh, **{name: self._accounts[name] for name in names - fresh.keys()}}
        return {(s, o): (ids["pool", s, o], ids["revenue", s, ""]) for s, o in pools}


def _ends(
    entries: Sequence[Entry], poison: Sequence[tuple[int, Cursor, Mapping[str, str], str]]
) -> dict[int, Cursor]:
    ends: dict[int, Cursor] = {}
    for shard, sid in [(e.shard, e.sid) for e in entries] + [(p[0], p[1]) for p in poison]:
        ends[shard] = max(sid, ends.get(shard, sid))
    return ends


async def _booked(conn: Connection, entries: Sequence[Entry]) -> dict[UUID, list[Booked]]:
    found: dict[UUID, list[Booked]] = {}
    for row in await conn.fetch(sql.load()["usage_booked"], [e.rid for e in entries]):
        found.setdefault(row["rid"], []).append(Booked(row["phase"], row["kind"], row["cost"]))
    return found


async def _move_cursors(
    conn: Connection, ends: Mapping[int, Cursor], cursors: Mapping[int, Cursor]
) -> None:
    steps = [(shard, *cursors[shard], *end) for shard, end in sorted(ends.items())]
    moved = await conn.fetch(sql.load()["shard_move"], *map(list, zip(*steps, strict=True)))
    if left := ends.keys() - {row["id"] for row in moved}:
        raise Overtaken(f"shards {sorted(left)}")


def _write(batch: Batch, entry: Entry, verdict: Verdict, pool: int, revenue: int) -> None:
    if verdict.excess:
        batch.owe(entry.shard, entry.owner, "b", verdict.excess)
    for _, owner, unit, window in entry.budgets:
        applied, excess = _counts(entry, verdict, unit)
        if excess:
            batch.owe(entry.shard, owner, "u", -excess, window)
        name = (entry.shard, owner, unit, window)
        batch.used[name] = batch.used.get(name, 0) + applied
        if owner.startswith(END_USER):
            batch.end_users[owner] = entry.event.get("e") or ""
    if verdict.phase is None:
        return
    # a correction that gives back swaps the accounts: an amount is never negative
    debit, credit = (pool, revenue) if verdict.amount >= 0 else (revenue, pool)
    amount = abs(verdict.amount)
    batch.move(debit, amount, 0)
    batch.move(credit, 0, amount)
    batch.rows.append(_row(entry, verdict, debit, credit, amount))
    key = entry.event["k"]
    batch.seen[key] = max(entry.sid[0], batch.seen.get(key, 0))
    if (named := entry.job) is not None:
        batch.jobs.setdefault(*named)


def _counts(entry: Entry, verdict: Verdict, unit: str) -> tuple[int, int]:
    """What a limit of this unit is told of a request, and what Redis had taken beyond."""
    if unit == "ucr":
        return verdict.amount, verdict.excess
    # an orphan has no calls and no tokens: its truth brings them
    applied = entry.used(unit) if verdict.phase is not None else 0
    return applied, (0 if entry.late else entry.used(unit)) - applied


COLUMNS = (
    *("rid", "phase", "kind", "debit", "credit", "cost"),
    *("organisation", "kid", "person", "model", "provider", "deployment", "attempts"),
    *("tokens", "usage_source", "reason", "price_version", "hold", "late"),
    *(
        "end_user",
        "job",
        "budgets",
        "duration_ms",
        "calls",
        "counted_tokens",
        "mode",
        "tokenizer",
        "shard",
        "sid",
    ),
)


def _row(entry: Entry, verdict: Verdict, debit: int, credit: int, amount: int) -> tuple[Any, ...]:
    event = entry.event
    orphan = entry.kind == "orphan"
    return (
        entry.rid,
        verdict.phase,
        verdict.kind,
        debit,
        credit,
        amount,
        event["o"],
        event["k"],
        event["u"],
        event["m"],
        event.get("p", ""),
        event.get("d", 0),
        event.get("n", 0),
        event.get("t", {}),
        event.get("s", "none"),
        "orphan" if orphan else event.get("r", ""),
        event["v"],
        entry.held,
        entry.late,
        event.get("e"),
        event.get("j"),
        [counted.name for counted in entry.budgets] or None,
        event.get("ms"),
        entry.calls,
        entry.tokens,
        event.get("b", "platform"),
        event.get("w", ""),
        entry.shard,
        _text(entry.sid),
    )


async def _apply(conn: Connection, batch: Batch) -> None:
    query = sql.load()
    if batch.rows:
        await conn.copy_records_to_table("usage_event", records=batch.rows, columns=COLUMNS)
    moves = sorted((id, d, c) for id, (d, c) in batch.moves.items() if d or c)
    if moves:
        ids, debits, credits = map(list, zip(*moves, strict=True))
        await conn.fetch(query["account_lock"], ids)
        await conn.execute(query["account_move"], ids, debits, credits)
    used = sorted((*name, delta) for name, delta in batch.used.items() if delta)
    if used:
        await conn.execute(query["meter_use_add"], *map(list, zip(*used, strict=True)))
        await warn(conn, used, batch.end_users)
    if jobs := sorted((*named, ceiling) for named, ceiling in batch.jobs.items()):
        await conn.execute(query["job_seen"], *map(list, zip(*jobs, strict=True)))
    if seen := sorted(batch.seen.items()):
        await conn.execute(query["key_used"], *map(list, zip(*seen, strict=True)))
    owed = sorted((*name, delta) for name, delta in batch.owed.items() if delta)
    for shard, group in itertools.groupby(owed, key=lambda row: row[0]):
        rows = [ledger.Change(owner, column, delta, at) for _, owner, column, at, delta in group]
        await ledger.outbox(conn, shard, rows, "drain: taken in Redis, not in the ledger")


def _text(sid: Cursor) -> str:
    return f"{sid[0]}-{sid[1]}"
