"""Admit: who calls, may they, what may it cost at most. Takes a Ticket, or raises.

All checks that money depends on are one script in Redis; what is remembered here only saves the
look-up, because the script is told the versions and answers STALE when one is not the newest.
"""

from collections.abc import Callable, Sequence
from functools import partial

import orjson

from proxy.callers import Callers
from proxy.errors import (
    BudgetReached,
    InsufficientCredits,
    JobCeilingDiffers,
    JobCeilingReached,
    LimitError,
    NotReady,
    ParallelLimit,
)
from proxy.hold import Hold, hold_of, lowered
from proxy.keyfile import KeyFile
from proxy.limits import row
from proxy.metrics import Metrics
from proxy.pipe import RedisDown
from proxy.pricing import credits_text
from proxy.request import choices_of
from proxy.rules import forbidden
from proxy.shards import Admitted, Limited, OtherCeiling, Refused, Shards, Stale
from proxy.shown import ShownTokens
from proxy.standing import standing_of, with_job
from proxy.tries import Tries
from proxy.types import (
    Call,
    Caller,
    Job,
    Level,
    Meter,
    Model,
    Price,
    Standing,
    Ticket,
)

ADMIT_TRIES = 5  # a record that changes faster than this is not ours to chase
Ticketing = Callable[[Sequence[int]], Ticket]


class Admission:
    """The way in, for the callers that this worker knows."""

    def __init__(
        self,
        shards: Shards,
        keyfile: KeyFile,
        metrics: Metrics,
        instance: str,
        callers_max: int,
        slice_tokens: int,
        abandoned: Callable[[Ticket], None],
        shown: ShownTokens,
        tries: Tries,
    ) -> None:
        """`abandoned` gives back what was held for a client who left before he was told;
        `issuers` are those of tokens, as they are now."""
        self._shards = shards
        self._callers = Callers(shards, keyfile, metrics, callers_max, shown, tries)
        self._metrics = metrics
        self._instance = instance
        self._slice_tokens = slice_tokens
        self._abandoned = abandoned
        self.identify = self._callers.identify
        self.check = self._callers.check

    async def admit(self, call: Call, caller: Caller, model: Model, price: Price) -> Ticket:
        """Takes the holds of this call, all or none."""
        caller = await self._permitted(caller, call, model)
        hold = hold_of(call, model, price, self._slice_tokens)
        context, lowered_to = self._context(call, caller, model, price), None
        for _ in range(ADMIT_TRIES):
            standing = standing_of(caller, call)
            meters = standing.meters
            amounts = [1 if meter.unit == "slot" else hold.amount_ucr for meter in meters]
            ticket = partial(
                _ticket, call, caller, model, price, standing, context, hold, lowered_to
            )

            def release(admitted: Admitted, ticket: Ticketing = ticket) -> None:
                self._abandoned(ticket(admitted.left))

            try:
                answer = await self._shards.admit(
                    caller.key.shard,
                    call.rid,
                    standing.owners,
                    (caller.key.version, caller.organisation.version),
                    meters,
                    amounts,
                    context,
                    call.job.ceiling_ucr if call.job else None,
                    release,
                )
            except RedisDown:
                self._metrics.add(self._metrics.redis_failures)
                raise NotReady from None
            match answer:
                case Admitted(left):
                    return ticket(left)
                case Limited(nth, level):
                    less = None
                    if meters[nth].unit != "slot" and lowered_to is None:
                        less = lowered(call, model, price, level.left)
                    if less is None:
                        raise _limit_error(meters[nth], amounts[nth], level)
                    hold, lowered_to = less, less.output_tokens // choices_of(call.fields)
                case OtherCeiling(ceiling):
                    raise JobCeilingDiffers(ceiling=credits_text(ceiling))
                case Refused(why):
                    raise self._callers.refusal(why, caller)
                case Stale():
                    caller = self._callers.newer(caller, answer)
                    if problem := forbidden(caller.key, call.path, call.client, model.id):
                        raise problem
        raise NotReady

    async def levels(
        self, caller: Caller, job: Job | None, client: str
    ) -> list[tuple[Meter, Level]]:
        """How full each meter of this caller is now: one trip, where he is known."""
        for _ in range(ADMIT_TRIES):
            if problem := forbidden(caller.key, None, client, None):
                caller = await self.check(caller)
                if problem := forbidden(caller.key, None, client, None):
                    raise problem
            standing = caller.standing if job is None else with_job(caller, job)
            versions = (caller.key.version, caller.organisation.version)
            try:
                answer = await self._shards.levels(
                    caller.key.shard, standing.owners, versions, standing.meters
                )
            except RedisDown:
                self._metrics.add(self._metrics.redis_failures)
                raise NotReady from None
            match answer:
                case Stale():
                    caller = self._callers.newer(caller, answer)
                case Refused(why):
                    raise self._callers.refusal(why, caller)
                case _:
                    return list(zip(standing.meters, answer, strict=True))
        raise NotReady

    async def _permitted(self, caller: Caller, call: Call, model: Model) -> Caller:
        """What is remembered refuses nobody: a limit may have been taken away."""
        if forbidden(caller.key, call.path, call.client, model.id):
            caller = await self.check(caller)
            if problem := forbidden(caller.key, call.path, call.client, model.id):
                raise problem
        return caller

    def _context(self, call: Call, caller: Caller, model: Model, price: Price) -> bytes:
        """What the ledger is told of a request whose proxy died."""
        return orjson.dumps(
            {
                "o": caller.key.organisation,
                "k": caller.key.kid,
                "u": caller.key.person,
                "m": model.id,
                "v": price.version,
                "e": call.end_user,
                "j": call.job.id if call.job else None,
                "i": self._instance,
            }
        )


def _ticket(
    call: Call,
    caller: Caller,
    model: Model,
    price: Price,
    standing: Standing,
    context: bytes,
    hold: Hold,
    lowered_to: int | None,
    left: Sequence[int],
) -> Ticket:
    return Ticket(
        rid=call.rid,
        shard=caller.key.shard,
        caller=caller,
        model=model,
        price=price,
        standing=standing,
        context=context,
        held_ucr=hold.amount_ucr,
        left_ucr=left[standing.paying],
        output_held=hold.output_tokens,
        lowered_to=lowered_to,
    )


def _limit_error(meter: Meter, amount: int, level: Level) -> LimitError:
    problem = _limit_sentence(meter, amount, level)
    problem.facts = {"limit": row(meter, level)}
    return problem


def _limit_sentence(meter: Meter, amount: int, level: Level) -> LimitError:
    if meter.unit == "slot":
        return ParallelLimit(limit=level.limit, owner=meter.label)
    needed, rest = credits_text(amount), credits_text(max(level.left, 0))
    if meter.unit == "pool":
        return InsufficientCredits(needed=needed, left=rest)
    if meter.label == "job":
        return JobCeilingReached(needed=needed, left=rest)
    return BudgetReached(owner=meter.label, needed=needed, left=rest)
