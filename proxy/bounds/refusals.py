"""Which error a limit that refuses is, with what it says to people and to programs. Pure."""

from collections.abc import Mapping

from proxy.bounds import rates
from proxy.bounds.limits import row
from proxy.bounds.meters import Level, Meter
from proxy.costs.pricing import credits_text
from proxy.errors import (
    BudgetReached,
    InsufficientCredits,
    JobCeilingReached,
    JobClosed,
    LimitError,
    NotReady,
    OpsError,
    OrganisationSuspended,
    ParallelLimit,
    QuotaReached,
    RateLimited,
    TooManyNamed,
)

#: Words of a script by which no limit and no key refuses.
REFUSALS: Mapping[str, type[OpsError]] = {
    "NOTREADY": NotReady,
    "MANY": TooManyNamed,
    "ORG": OrganisationSuspended,
    "CLOSED": JobClosed,
}


def limit_error(meter: Meter, amount: int, level: Level, now_ms: int) -> LimitError:
    problem = _sentence(meter, amount, level)
    problem.facts = {"limit": row(meter, level)}
    problem.headers = tuple(rates.refused(meter, level, now_ms))
    if level.resets_ms is not None:
        problem.retry_after_s = max(-(-(level.resets_ms - now_ms) // 1000), 1)
    return problem


def _sentence(meter: Meter, amount: int, level: Level) -> LimitError:
    if meter.unit == "slot":
        return ParallelLimit(limit=level.limit, owner=meter.label)
    if meter.unit in ("call", "tok"):
        what = "requests" if meter.unit == "call" else "tokens"
        left = max(level.left, 0)
        if meter.window is not None and meter.window.kind == "rolling":
            seconds = -(-meter.window.ms // 1000)
            problem: LimitError = RateLimited(
                owner=meter.label, limit=level.limit, what=what, seconds=seconds, left=left
            )
            # what is asked for at one time is more than there ever is
            problem.retry = False if level.resets_ms is None else None
            return problem
        return QuotaReached(owner=meter.label, limit=level.limit, what=what, left=left)
    needed, rest = credits_text(amount), credits_text(max(level.left, 0))
    if meter.unit == "pool":
        return InsufficientCredits(needed=needed, left=rest)
    if meter.label == "job":
        return JobCeilingReached(needed=needed, left=rest)
    return BudgetReached(owner=meter.label, needed=needed, left=rest)
