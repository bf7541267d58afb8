"""Judges a run from outside: what was billed against what was charged, the books against
themselves, Redis against the books. Imports nothing of the product.

    python -m bench.chaos.checker --truth DIR --database DSN --redis URL --logs DIR
"""

import argparse
import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from bench.chaos import charges, seen
from bench.chaos.seen import SHARDS, Ledger, RedisShard
from bench.chaos.truth import Truth, read

SHOWN_MAX = 20  # of each check
CAUSE_S = 30.0  # a rebuild's drift comes at most so long after Redis was lost
REDIS_LOST = ("kill-redis", "wipe", "flush", "redis-died")

# what a rebuild corrected, or what a comparison of a shard at work found
_drift = re.compile(
    r"^(\S+ \S+?)(?:,(\d+))? .*?(?:(\d+) ucr of drift|shard \d+ differs from the ledger)", re.M
)

_part = re.compile(r"l\d+\.\d+").fullmatch
InRedis = dict[int, RedisShard]
Check = Callable[["Run"], Iterator[str]]


class Name(NamedTuple):
    """A limit that counts in windows."""

    shard: int
    owner: str
    meter: str
    unit: str


@dataclass(slots=True)
class Run:
    """All that the checks look at, and what they count on their way."""

    truth: Truth
    ledger: Ledger
    redis: InRedis
    drift: list[tuple[float, int]] = field(default_factory=list)  # wall time, ucr
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Verdict:
    ok: bool
    differences: dict[str, int]  # check -> how many
    shown: dict[str, list[str]]
    counts: dict[str, int]


def judge(run: Run) -> Verdict:
    found = {name: list(check(run)) for name, check in CHECKS.items()}
    return Verdict(
        ok=not any(found.values()),
        differences={name: len(wrong) for name, wrong in found.items()},
        shown={name: wrong[:SHOWN_MAX] for name, wrong in found.items() if wrong},
        counts=dict(run.counts),
    )


# The books against themselves -----------------------------------------------------


def _double_entry(run: Run) -> Iterator[str]:
    """Every account's totals are the sums of its rows, and both sides are equal."""
    ledger = run.ledger
    debits, credits = Counter[int](), Counter[int]()
    moves = [(t.debit, t.credit, t.amount) for t in ledger.transfers]
    moves += [(r.debit, r.credit, r.cost) for rows in ledger.rows.values() for r in rows]
    for debit, credit, amount in moves:
        debits[debit] += amount
        credits[credit] += amount
    for id, account in ledger.accounts.items():
        if (account.debits, account.credits) != (debits[id], credits[id]):
            yield (
                f"account {id} ({account.kind} {account.owner}): debits {account.debits}, credits"
                f" {account.credits}; by its rows {debits[id]} and {credits[id]}"
            )
    for id in sorted({*debits, *credits} - set(ledger.accounts)):
        yield f"account {id} has rows and does not exist"
    left = sum(account.debits for account in ledger.accounts.values())
    right = sum(account.credits for account in ledger.accounts.values())
    if left != right:
        yield f"all debits are {left}, all credits {right}"
    run.counts["ucr charged"] = sum(a.credits - a.debits for a in _kind(ledger, "revenue"))


def _topups(run: Run) -> Iterator[str]:
    """Each payment is booked exactly once, whoever told of it how often."""
    pools = {id: a.owner for id, a in run.ledger.accounts.items() if a.kind == "pool"}
    booked = Counter(
        (pools.get(t.credit, "?"), t.amount, t.ref)
        for t in run.ledger.transfers
        if t.code in ("grant", "purchase")
    )
    wanted = Counter(
        (f"o:{one.organisation}:pool", one.amount, one.ref) for one in run.truth.topups
    )
    for id, organisation in run.truth.organisations.items():
        wanted[f"o:{id}:pool", organisation.grant, "first"] += 1
    for name in sorted({*booked, *wanted}):
        if booked[name] != wanted[name]:
            yield f"{name} is booked {booked[name]} times instead of {wanted[name]}"
    run.counts["top-ups"] = len(run.truth.topups)


def _moves(run: Run) -> Iterator[str]:
    """Each is booked once or not at all, as it was asked for; and once where somebody heard so."""
    pools = {id: a.owner for id, a in run.ledger.accounts.items() if a.kind == "pool"}
    booked = Counter(
        (t.ref, pools.get(t.debit, "?"), pools.get(t.credit, "?"), t.amount)
        for t in run.ledger.transfers
        if t.code == "move"
    )
    asked = {(one.ref, one.source, one.target, one.amount) for one in run.truth.moves}
    heard = {(one.ref, one.source, one.target, one.amount) for one in run.truth.moves if one.heard}
    for name in sorted({*booked, *heard}):
        if booked[name] != 1 or name not in asked:
            yield f"{name} is booked {booked[name]} times"
    run.counts["moves"] = len(booked)


def _outbox(run: Run) -> Iterator[str]:
    """Rows 1, 2, 3... without a gap, all of them applied."""
    for id, row in run.ledger.shards.items():
        if row.outbox and (row.last != row.outseq or row.last - row.first + 1 != row.outbox):
            yield f"shard {id}: {row.outbox} rows from {row.first} to {row.last} of {row.outseq}"
        applied = run.redis[id].meta.get("adjseq", "0")
        if int(applied) != row.outseq:
            yield f"shard {id}: Redis has applied {applied} of {row.outseq} rows"


def _dead_letters(run: Run) -> Iterator[str]:
    if run.ledger.dead_letters:
        yield f"{run.ledger.dead_letters} stream entries could not be booked"


# Redis against the books ------------------------------------------------------------


def _pools(run: Run) -> Iterator[str]:
    """Every pool's balance in Redis is the ledger's."""
    for account in _kind(run.ledger, "pool"):
        owner, _, meter = account.owner.rpartition(":")
        balance = account.credits - account.debits
        has = run.redis[account.shard].owners.get(owner, {}).get(f"{meter}.b")
        if has is None or int(has) != balance:
            yield f"{account.owner}: {has} ucr in Redis, {balance} in the ledger"
        run.counts["pools"] += 1
        run.counts["pools below zero"] += balance < 0


def _budgets(run: Run) -> Iterator[str]:
    """What Redis says was used of a budget is what the ledger's rows sum up to."""
    used = charges.used(run.ledger)
    for shard, state in run.redis.items():
        for owner, fields in state.owners.items():
            if "bud.l" in fields or "bud.u" in fields:
                run.counts["budgets"] += 1
                has = int(fields.get("bud.u", "0"))
                if has != used.get((shard, owner), 0):
                    yield f"{owner}: {has} ucr used in Redis, {used.get((shard, owner), 0)} by rows"
    for budget in run.ledger.budgets:
        if not budget.owner.endswith(":bud"):
            continue
        owner = budget.owner.rpartition(":")[0]
        by_rows = used.get((budget.shard, owner), 0)
        if budget.used != by_rows:
            yield f"{owner}: {budget.used} ucr used in the ledger, {by_rows} by rows"
        has_not = owner not in run.redis[budget.shard].owners and not owner.startswith("w:j:")
        if budget.used and has_not:
            yield f"{owner}: {budget.used} ucr used in the ledger, and Redis does not know of it"


def _windows(run: Run) -> Iterator[str]:
    """Calls, tokens and credits of limits with windows: the ledger's are what its rows say, and
    Redis has those of the newest window. What a rate has counted is the sum of its parts."""
    wanted, booked, newest = Counter[Name](), Counter[Name](), dict[Name, seen.Budget]()
    for one in run.ledger.budgets:
        owner, _, meter = one.owner.rpartition(":")
        name = Name(one.shard, owner, meter, one.unit)
        if name.meter != "bud":
            booked[name] += one.used
            newest[name] = max(one, newest.get(name, one), key=lambda use: use.window_start)
    organisations = {name.owner: name for name in booked}
    for rows in run.ledger.rows.values():
        if f"o:{rows[0].organisation}" in organisations:
            for name in booked:
                if name.owner == f"o:{rows[0].organisation}":
                    wanted[name] += charges.counted(rows, run.ledger, name.unit)
    for name in booked:
        run.counts["limits with windows"] += 1
        if booked[name] != wanted[name]:
            yield f"{name}: {booked[name]} in the ledger, {wanted[name]} by rows"
        fields, use = run.redis[name.shard].owners.get(name.owner, {}), newest[name]
        has = fields.get(f"{name.meter}.w", "0"), fields.get(f"{name.meter}.u", "0")
        if has != (str(use.window_start), str(use.used)):
            yield f"{name}: {has} in Redis, {use.window_start} {use.used} in the ledger"
    for owner, fields in ((o, f) for one in run.redis.values() for o, f in one.owners.items()):
        for meter in {name.partition(".")[0] for name in fields if _part(name)}:
            parts = sum(int(v) for n, v in fields.items() if _part(n) and n.startswith(meter + "."))
            run.counts["rates"] += 1
            if parts != int(fields[f"{meter}.u"]) or parts < 0:
                yield f"{owner}: {meter} has counted {fields[meter + '.u']}, its parts {parts}"


def _holds(run: Run) -> Iterator[str]:
    """Nothing is held, nothing is leased."""
    for shard, state in run.redis.items():
        if state.holds or state.leases:
            yield f"shard {shard}: {state.holds} holds and {state.leases} leases are left"
        for owner, fields in state.owners.items():
            for name, value in fields.items():
                if name.endswith(".h") and value != "0":
                    yield f"shard {shard}: {owner} holds {value} of {name[:-2]}"


def _streams(run: Run) -> Iterator[str]:
    """All is booked and forgotten, and new entries will come after the cursor."""
    for shard, state in run.redis.items():
        if state.tombs or state.entries:
            yield f"shard {shard}: {state.tombs} tombstones and {state.entries} entries are left"
        row = run.ledger.shards[shard]
        ms, _, seq = state.newest.partition("-")
        if row.cursor > (int(ms), int(seq)):
            yield f"shard {shard}: its stream ends at {state.newest}, its cursor is {row.cursor}"
        if state.meta.get("gen") != str(row.generation) or "fenced" in state.meta:
            yield f"shard {shard}: generation {state.meta.get('gen')} instead of {row.generation}"


def _unexplained_drift(run: Run) -> Iterator[str]:
    """Where a rebuild had to correct a balance, Redis had lost something just before."""
    lost = run.truth.happened(*REDIS_LOST)
    for at, ucr in run.drift:
        run.counts["ucr of drift removed by rebuilds"] += ucr
        if not any(event.began - 1 <= at <= event.ended + CAUSE_S for event in lost):
            when = datetime.fromtimestamp(at, UTC).isoformat()
            yield f"{ucr} ucr of drift were removed at {when}, and Redis had lost nothing"


def _kind(ledger: Ledger, kind: str) -> Iterator[seen.Account]:
    return (account for account in ledger.accounts.values() if account.kind == kind)


CHECKS: dict[str, Check] = {
    "every bill has its row": lambda run: charges.lost(run.truth, run.ledger),
    "one end, one charge": lambda run: charges.doubled(run.ledger),
    "exact amounts": lambda run: charges.amounts(run.truth, run.ledger, run.counts),
    "nothing but what was billed": lambda run: charges.unbilled(run.truth, run.ledger, run.counts),
    "rows belong to their callers": lambda run: charges.strangers(run.truth, run.ledger),
    "clients were told the truth": lambda run: charges.told(run.truth, run.ledger, run.counts),
    "orphans have a killer": lambda run: charges.orphans(run.truth, run.ledger, run.counts),
    "double entry": _double_entry,
    "top-ups exactly once": _topups,
    "moves at most once": _moves,
    "outbox applied": _outbox,
    "no dead letters": _dead_letters,
    "pools equal the ledger": _pools,
    "budgets equal the ledger": _budgets,
    "windows equal the ledger": _windows,
    "all holds released": _holds,
    "streams and tombstones empty": _streams,
    "no unexplained drift": _unexplained_drift,
}


def drift_in(logs: Path) -> list[tuple[float, int]]:
    """What the drains say that they corrected, and when."""
    found = []
    for log in sorted(logs.glob("drain*.log*")):
        for at, millis, ucr in _drift.findall(log.read_text(errors="replace")):
            local = datetime.strptime(at, "%Y-%m-%d %H:%M:%S").astimezone()
            found.append((local.timestamp() + int(millis or 0) / 1000, int(ucr or 1)))
    return [(at, ucr) for at, ucr in found if ucr]


async def check(truth: Path, dsn: str, url: str, logs: Path | None) -> Verdict:
    ledger = await seen.ledger(dsn)
    redis = await asyncio.to_thread(seen.in_redis, url)
    assert len(redis) == SHARDS == len(ledger.shards)
    return judge(Run(read(truth), ledger, redis, drift_in(logs) if logs else []))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos.checker", description=__doc__)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--redis", required=True)
    parser.add_argument("--logs", type=Path)
    given = parser.parse_args()
    verdict = asyncio.run(check(given.truth, given.database, given.redis, given.logs))
    print(json.dumps({**verdict.counts, **verdict.differences, "shown": verdict.shown}, indent=2))
    return 0 if verdict.ok else 1


if __name__ == "__main__":
    sys.exit(main())
