"""Postgres as the simulation needs it: rows, totals, outboxes and one shard's cursor; a transaction
is one step. The rules of booking are the product's own (`parse`, `judge`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from control.books.booking import Booked, Overtaken, Verdict, judge
from control.books.entries import Cursor, Entry, Poison, parse
from tests.simulation.values import sid

SHARD = 0

Judge = Callable[[Entry, Sequence[Booked]], Verdict]


class Away(Exception):
    """A server cannot be reached, or did not say what it did."""


@dataclass(slots=True)
class Row:
    """One usage event: its own double entry."""

    phase: int
    kind: str
    amount: int  # signed
    cost: int
    owner: str
    budgets: tuple[str, ...]


@dataclass(slots=True)
class Record:
    version: int
    fields: dict[str, str]


@dataclass(slots=True)
class Ledger:
    judge: Judge = judge
    up: bool = True
    cursor: Cursor = (0, 0)
    generation: int = 1
    outseq: int = 0
    totals: dict[str, list[int]] = field(default_factory=dict)  # account -> debits, credits
    used: dict[str, int] = field(default_factory=dict)
    rows: dict[str, list[Row]] = field(default_factory=dict)
    grants: dict[str, tuple[str, int]] = field(default_factory=dict)
    outbox: list[tuple[int, str, str, int]] = field(default_factory=list)  # seq, owner, field
    ends: dict[int, str] = field(default_factory=dict)  # seq -> reservation
    moves: dict[str, tuple[str, str, int]] = field(default_factory=dict)  # source, target
    booking: dict[str, object] = field(default_factory=dict)  # locks on reservations
    records: dict[bytes, Record] = field(default_factory=dict)
    unpublished: set[bytes] = field(default_factory=set)
    dead: list[str] = field(default_factory=list)
    locked_by: object = None
    compares_cursor: bool = True
    compares_generation: bool = True

    def balance(self, owner: str) -> int:
        debits, credits = self.totals.get("pool " + owner, (0, 0))
        return credits - debits

    def pools(self) -> list[str]:
        return [name[5:] for name in self.totals if name.startswith("pool ")]

    def grant(self, owner: str, amount: int, ref: str) -> None:
        """The same ref again changes nothing."""
        self.check_up()
        if ref in self.grants:
            return
        self.grants[ref] = (owner, amount)
        self._move("promo", "pool " + owner, amount)
        self._owe(owner, "b", amount)

    def move(self, name: str, source: str, target: str, amount: int) -> None:
        self.moves[name] = (source, target, amount)
        self._move("pool " + source, "pool " + target, amount)
        self._owe(source, "b", -amount)
        self.ends[self.outseq] = name
        self._owe(target, "b", amount)

    def waits(self, name: str, applied: int) -> bool:
        """Whether Redis has still to learn of what it reserved so."""
        return any(seq > applied and ended == name for seq, ended in self.ends.items())

    def record(self, name: bytes, **fields: str) -> int:
        """Changes a record, raises its version and queues it."""
        self.check_up()
        old = self.records.get(name, Record(0, {}))
        self.records[name] = Record(old.version + 1, {**old.fields, **fields})
        self.unpublished.add(name)
        return old.version + 1

    def book(
        self, raw: Sequence[tuple[Cursor, Mapping[bytes, bytes]]], cursor: Cursor, generation: int
    ) -> None:
        """One transaction of the drain: rows, totals, outbox, cursor."""
        self.check_up()
        if self.compares_cursor and cursor != self.cursor:
            raise Overtaken("cursor")
        if self.compares_generation and generation != self.generation:
            raise Overtaken("generation")
        owed: dict[tuple[str, str], int] = {}
        for at, fields in raw:
            try:
                self._book(parse(SHARD, at, fields), owed)
            except Poison as problem:
                self.dead.append(str(problem))
        for (owner, column), delta in sorted(owed.items()):
            if delta:
                self._owe(owner, column, delta)
        self.cursor = raw[-1][0]

    def _book(self, entry: Entry, owed: dict[tuple[str, str], int]) -> None:
        have = self.rows.setdefault(str(entry.rid), [])
        verdict = self.judge(entry, [Booked(r.phase, r.kind, r.cost) for r in have])
        owes = [(entry.owner, "b", verdict.excess)]
        budgets = tuple(counted.owner for counted in entry.budgets)
        owes += [(owner, "u", -verdict.excess) for owner in budgets]
        for owner, column, delta in owes:
            owed[owner, column] = owed.get((owner, column), 0) + delta
        for owner in budgets:
            self.used[owner] = self.used.get(owner, 0) + verdict.amount
        if verdict.phase is None:
            return
        debit, credit = "pool " + entry.owner, "revenue"
        if verdict.amount < 0:
            debit, credit = credit, debit
        self._move(debit, credit, abs(verdict.amount))
        row = Row(verdict.phase, verdict.kind, verdict.amount, entry.cost, entry.owner, budgets)
        if any(r.phase == row.phase for r in have):
            raise AssertionError(f"primary key: {entry.rid} has phase {row.phase} already")
        have.append(row)

    def _move(self, debit: str, credit: str, amount: int) -> None:
        self.totals.setdefault(debit, [0, 0])[0] += amount
        self.totals.setdefault(credit, [0, 0])[1] += amount

    def _owe(self, owner: str, column: str, delta: int) -> None:
        self.outseq += 1
        self.outbox.append((self.outseq, owner, column, delta))

    def check_up(self) -> None:
        if not self.up:
            raise Away("Postgres")


def entries(rows: Sequence[Sequence[object]]) -> list[tuple[Cursor, dict[bytes, bytes]]]:
    """Entries of a stream as the server sends them."""
    found = []
    for name, words in rows:
        assert isinstance(name, bytes)
        assert isinstance(words, list)
        found.append((sid(name), dict(zip(words[::2], words[1::2], strict=True))))
    return found
