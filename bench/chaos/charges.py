"""The checker's rules for single requests: what a bill and the rows of its request may be. Pure.

finished, usage told    exactly the computed cost
cut, left, no usage     an estimate, never above the bill
its proxy was killed    an orphan, never above the bill, with a kill that explains it
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from bench.chaos.seen import Ledger, Row
from bench.chaos.truth import Bill, Truth

#: Why a request may be estimated, or free, although its provider finished it and told its usage.
LIMITS = frozenset({"insufficient_credits", "budget_reached", "job_ceiling_reached"})
CLIENT_ENDED = LIMITS | {"client_gone"}
COUNT_AS_CALLS = frozenset({"client_gone"})  # although nothing was served
KILLERS = ("kill-worker", "kill-set", "kill-supervisor", "worker-died")
LIFE_S = 45.0  # the longest that a request lives in a run, clients' patience included


def cost_of(rows: Sequence[Row], ledger: Ledger) -> int:
    """What the pool paid: a correction that gives back has the accounts the other way round."""
    return sum(-row.cost if _kind(ledger, row.debit) == "revenue" else row.cost for row in rows)


def _kind(ledger: Ledger, account: int) -> str:
    """A row may name an account that does not exist: that is a difference, not a crash."""
    found = ledger.accounts.get(account)
    return found.kind if found else "missing"


def used(ledger: Ledger) -> dict[tuple[int, str], int]:
    """Per shard and owner: what all its requests cost."""
    found = Counter[tuple[int, str]]()
    for rows in ledger.rows.values():
        cost = cost_of(rows, ledger)
        one = rows[0]
        member = f"w:m:{one.organisation}:{one.person}"
        owners = [f"k:{one.kid}", f"o:{one.organisation}", member]
        if one.job:
            owners.append(f"w:j:{one.organisation}:{one.job}")
        for owner in owners:
            found[one.shard, owner] += cost
    return found


def counted(rows: list[Row], ledger: Ledger, unit: str) -> int:
    """What one request counts on a limit of this unit, by how it ended."""
    if unit == "ucr":
        return cost_of(rows, ledger)
    truth = [row for row in rows if row.kind != "orphan"]
    if unit == "call":
        return int(any(_was_served(row) or row.reason in COUNT_AS_CALLS for row in truth))
    return sum(number for row in truth for _, number in row.tokens)


def _was_served(row: Row) -> bool:
    """A correction may tell of an orphan that nothing was."""
    return row.kind == "settled" or (row.kind == "correction" and row.source != "none")


def lost(truth: Truth, ledger: Ledger) -> Iterator[str]:
    for rid, bill in truth.bills.items():
        if rid not in ledger.rows:
            yield f"request {rid} ({bill.model}, {bill.end}) was billed and has no row"


def doubled(ledger: Ledger) -> Iterator[str]:
    """One terminal row; only an orphan's late truth is a second one."""
    for rid, rows in ledger.rows.items():
        kinds = [row.kind for row in sorted(rows)]
        single = len(kinds) == 1 and kinds[0] != "correction"
        if not single and kinds != ["orphan", "correction"]:
            yield f"request {rid} has the rows {', '.join(kinds)}"


def amounts(truth: Truth, ledger: Ledger, counts: Counter[str]) -> Iterator[str]:
    """Billed requests that have a row: is it the right amount?"""
    counts["billed"] = len(truth.bills)
    counts["billed twice by the provider"] = len(truth.twice)
    for rid, bill in truth.bills.items():
        if rid in ledger.rows:
            wrong = _amount(truth, ledger, bill, sorted(ledger.rows[rid]), counts)
            if wrong:
                yield f"request {rid}: {wrong}"


def _amount(truth: Truth, ledger: Ledger, bill: Bill, rows: list[Row], counts: Counter[str]) -> str:
    last = rows[-1]
    counts["corrections"] += len(rows) - 1
    model = truth.models.get(last.model)
    if model is None:
        return f"its model is {last.model!r}"
    cost, wanted = cost_of(rows, ledger), model.cost_ucr(bill.tokens)
    if last.kind == "orphan":
        counts["billed orphans"] += 1
        counts["ucr lost by orphans"] += max(wanted - cost, 0)
        return "" if cost <= wanted else f"an orphan that cost {cost} of {wanted} billed ucr"
    if last.source == "provider":
        return _told_by_provider(bill, last, cost, wanted, counts)
    excused = bill.end != "finished" or not model.tells_usage or last.reason in CLIENT_ENDED
    counts["estimated" if last.source == "estimated" else "released though billed"] += 1
    if not excused:
        return f"{last.kind} by {last.source} usage ({last.reason}) though its usage was told"
    if cost > wanted:
        return f"estimated at {cost} ucr, more than the {wanted} that were billed"
    return ""


def _told_by_provider(bill: Bill, last: Row, cost: int, wanted: int, counts: Counter[str]) -> str:
    if bill.end != "finished":
        # usage told in a stream's first event is of the whole answer
        counts["cut after its usage was told"] += 1
        return "" if cost >= wanted else f"cost {cost} ucr of {wanted} that were billed"
    counts["exact"] += 1
    if cost != wanted:
        return f"cost {cost} ucr instead of {wanted}"
    if last.tokens != bill.tokens:
        return f"has the tokens {dict(last.tokens)} instead of {dict(bill.tokens)}"
    return ""


def unbilled(truth: Truth, ledger: Ledger, counts: Counter[str]) -> Iterator[str]:
    """Rows without a bill cost nothing, but for the prompt of a stream that its client left."""
    for rid, rows in ledger.rows.items():
        counts["rows"] += len(rows)
        if rid in truth.bills:
            continue
        last, cost = max(rows), cost_of(rows, ledger)
        counts["rows without a bill"] += 1
        if cost and last.source == "estimated" and last.reason in CLIENT_ENDED:
            counts["prompts charged of streams that were left"] += 1
        elif cost:
            what = f"{last.model}, {last.kind}, {last.reason}"
            yield f"request {rid} ({what}) cost {cost} ucr and was not billed"


def strangers(truth: Truth, ledger: Ledger) -> Iterator[str]:
    """No row without an admission: each names a key and an organisation of its shard and pool."""
    for rid, rows in ledger.rows.items():
        for row in rows:
            organisation = truth.organisations.get(row.organisation)
            if organisation is None or row.kid not in organisation.kids:
                yield f"request {rid} belongs to {row.organisation} and key {row.kid}"
                continue
            sides = {_kind(ledger, row.debit), _kind(ledger, row.credit)}
            pools = [ledger.accounts[id] for id in (row.debit, row.credit) if id in ledger.accounts]
            owners = {pool.owner for pool in pools if pool.kind == "pool"}
            if sides != {"pool", "revenue"} or owners != {f"o:{row.organisation}:pool"}:
                yield f"request {rid} moves between {sides} of {owners}"
            elif row.shard != organisation.shard or any(p.shard != row.shard for p in pools):
                yield f"request {rid} is on shard {row.shard} instead of {organisation.shard}"


def told(truth: Truth, ledger: Ledger, counts: Counter[str]) -> Iterator[str]:
    """The cost that a client read is the cost in the books; who was refused pays nothing."""
    counts["costs told to clients"] = len(truth.told)
    for rid, ucr in truth.told.items():
        rows = ledger.rows.get(rid)
        if rows is None:
            yield f"request {rid}: its client was told {ucr} ucr, and it has no row"
        elif max(rows).kind == "orphan":
            counts["orphans whose client was told a cost"] += 1
        elif cost_of(rows, ledger) != ucr:
            yield f"request {rid}: its client was told {ucr} ucr, booked {cost_of(rows, ledger)}"
    for rid in truth.refused:
        if (rows := ledger.rows.get(rid)) and cost_of(rows, ledger):
            yield f"request {rid} was refused and cost {cost_of(rows, ledger)} ucr"


def orphans(truth: Truth, ledger: Ledger, counts: Counter[str]) -> Iterator[str]:
    """A billed request ends as an orphan only when its proxy was killed while it ran."""
    kills = truth.happened(*KILLERS)
    counts["orphans"] = 0
    for rid, rows in ledger.rows.items():
        if max(rows).kind != "orphan":
            continue
        counts["orphans"] += 1
        began = int(rid.replace("-", "")[:12], 16) / 1000  # a version 7 id begins with its time
        near = any(kill.began - LIFE_S <= began <= kill.ended + 1 for kill in kills)
        if rid in truth.bills and not near:
            yield f"request {rid} of {rows[0].model} is an orphan, and no proxy was killed"
