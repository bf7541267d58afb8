"""Admit: who calls, may they, what may it cost at most. Takes a Ticket, or raises.

All checks that money depends on are one script in Redis; what is remembered here only saves the
look-up, because the script is told the versions and answers STALE when one is not the newest.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import orjson

from proxy import route
from proxy.bounds.meters import UNKNOWN, Job, Level, Meter, Standing
from proxy.bounds.refusals import limit_error
from proxy.bounds.standing import job_owner
from proxy.costs.hold import Hold, allowed, hold_of, lowered, names_maximum
from proxy.costs.pricing import credits_text
from proxy.errors import InsufficientCredits, JobCeilingDiffers, NotReady, OpsError, PriceUnknown
from proxy.metrics import Metrics
from proxy.redis.pipe import RedisDown
from proxy.redis.replies import Admitted, Limited, OtherCeiling, OtherTime, Refused, Stale
from proxy.redis.shards import Shards
from proxy.settings import Settings
from proxy.translate import carried
from proxy.types import Call, Caller, Model, Offer, Price, Ticket
from proxy.who.callers import Callers
from proxy.who.keyfile import KeyFile
from proxy.who.rules import forbidden
from proxy.who.shown import ShownTokens
from proxy.who.tries import Tries

ADMIT_TRIES = 5  # a record that changes faster than this is not ours to chase
Ticketing = Callable[[Admitted], Ticket]


class Admission:
    """The way in, for the callers that this worker knows."""

    def __init__(
        self,
        shards: Shards,
        keyfile: KeyFile,
        metrics: Metrics,
        instance: str,
        settings: Settings,
        abandoned: Callable[[Ticket], None],
        shown: ShownTokens,
        tries: Tries,
    ) -> None:
        """`abandoned` gives back what was held for a client who left before he was told;
        `issuers` are those of tokens, as they are now."""
        self._shards = shards
        self.keyfile = keyfile
        self._callers = Callers(shards, keyfile, metrics, settings.callers_max, shown, tries)
        self._metrics = metrics
        self._instance = instance
        self._settings = settings
        self._contexts: dict[tuple[str, str, int], bytes] = {}
        self._behind_ms = 0  # this machine's clock, by the one that Redis judges windows with
        self._abandoned = abandoned
        self.identify = self._callers.identify
        self.check = self._callers.check

    async def admit(self, asked: Call, caller: Caller, model: Model) -> Ticket:
        """Takes the holds of this call, all or none."""
        if forbidden(caller.key, asked.path, asked.client, model):
            caller = await self._permitted(caller, asked, model)
        if asked.job is not None and asked.job.ceiling_ucr is None:
            asked = replace(asked, job=await self._with_ceiling(asked.job, caller))
        offer = route.offer(model, caller, self.keyfile, asked.kind)
        call, offer, hold, lowered_to = self._held(asked, model, offer)
        limits = len(caller.key.meters) + len(caller.organisation.meters)
        for _ in range(ADMIT_TRIES + limits):  # each may lower what is asked for
            standing = caller.standings.of(model.id, self._now_ms, call.job, call.end_user)
            meters = standing.meters
            amounts = [_amount(meter, hold, call) for meter in meters]
            context = self._context(call, caller, model, offer.price)
            ticket = partial(
                _ticket, call, caller, model, offer, standing, amounts, context, hold, lowered_to
            )

            def release(admitted: Admitted, ticket: Ticketing = ticket) -> None:
                self._abandoned(ticket(admitted))

            try:
                answer = await self._shards.admit(
                    caller.key.shard,
                    call.rid,
                    standing,
                    amounts,
                    context,
                    call.job.ceiling_ucr if call.job else None,
                    release,
                )
            except RedisDown:
                self._metrics.add(self._metrics.redis_failures)
                raise NotReady from None
            match answer:
                case Admitted():
                    return ticket(answer)
                case Limited(nth, level, now_ms):
                    self._set_clock(now_ms)
                    less, is_money = None, meters[nth].unit in ("pool", "ucr")
                    if is_money and offer.unpaid is not None:
                        call, offer, hold, lowered_to = self._held(asked, model, offer.unpaid)
                        continue
                    if is_money:
                        less = lowered(call, model, offer.price, level.left, self._settings)
                    if less is None or less.amount_ucr >= hold.amount_ucr:
                        raise limit_error(meters[nth], amounts[nth], level, self._now_ms)
                    hold, lowered_to = less, less.output_tokens // call.choices
                case OtherCeiling(ceiling):
                    raise JobCeilingDiffers(ceiling=credits_text(ceiling))
                case OtherTime(now_ms):
                    self._set_clock(now_ms)
                case Refused(why):
                    raise self._callers.refusal(why, caller)
                case Stale():
                    caller = self._callers.newer(caller, answer)
                    if problem := forbidden(caller.key, call.path, call.client, model):
                        raise problem
                    offer = route.offer(model, caller, self.keyfile, asked.kind)
                    call, offer, hold, lowered_to = self._held(asked, model, offer)
        raise NotReady

    def _held(
        self, asked: Call, model: Model, offer: Offer
    ) -> tuple[Call, Offer, Hold, int | None]:
        """The call within what the client allows it to cost, by those deployments that have a place
        for all that it says; its hold, and its lowered maximum. What has no price for the platform
        goes by the caller's own keys alone."""
        call, offer = carried(asked, model, offer)
        try:
            call = allowed(call, model, offer.price, self._settings.slice_tokens)
            hold = hold_of(call, model, offer.price, self._settings)
        except PriceUnknown:
            if offer.unpaid is None:
                raise
            return self._held(asked, model, offer.unpaid)
        return call, offer, hold, call.lowered_to

    async def levels(
        self, caller: Caller, job: Job | None, client: str, end_user: str | None = None
    ) -> list[tuple[Meter, Level]]:
        """How full each meter of this caller is now: one trip, where he is known."""
        for _ in range(ADMIT_TRIES):
            if problem := forbidden(caller.key, None, client, None):
                caller = await self.check(caller)
                if problem := forbidden(caller.key, None, client, None):
                    raise problem
            standing = caller.standings.of(None, self._now_ms, job and _named(job), end_user)
            versions = (caller.key.version, caller.organisation.version)
            try:
                answer = await self._shards.levels(caller.key.shard, standing, versions)
            except RedisDown:
                self._metrics.add(self._metrics.redis_failures)
                raise NotReady from None
            match answer:
                case Stale():
                    caller = self._callers.newer(caller, answer)
                case OtherTime(now_ms):
                    self._set_clock(now_ms)
                case Refused(why):
                    raise self._callers.refusal(why, caller)
                case _:
                    return list(zip(standing.meters, answer, strict=True))
        raise NotReady

    async def ended(self, ticket: Ticket, call: Call, extra_ucr: int) -> OpsError:
        """Which limit does not carry what a running stream needs, as it stands a moment later."""
        own = {(meter.owner, meter.name) for meter in ticket.standing.meters}
        ways = (0, ticket.standing.meters[ticket.payment.nth].way)
        try:
            rows = await self.levels(ticket.caller, call.job, call.client, call.end_user)
        except OpsError:  # what ends the stream is the limit, whatever came after it
            rows = []
        for meter, level in rows:
            counts = (meter.owner, meter.name) in own and meter.way in ways
            if counts and meter.unit in ("pool", "ucr") and level.left < extra_ucr:
                return limit_error(meter, extra_ucr, level, self._now_ms)
        return InsufficientCredits(needed=credits_text(extra_ucr), left="less")

    @property
    def _now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self._behind_ms

    def _set_clock(self, now_ms: int) -> None:
        self._behind_ms = now_ms - time.time_ns() // 1_000_000

    async def _with_ceiling(self, job: Job, caller: Caller) -> Job:
        """The first ceiling of a job stands, also for requests that do not name it again."""
        owner = job_owner(caller.key.shard, caller.organisation.id, job)
        try:
            return Job(job.id, await self._shards.ceiling(owner))
        except RedisDown:
            self._metrics.add(self._metrics.redis_failures)
            raise NotReady from None

    async def _permitted(self, caller: Caller, call: Call, model: Model) -> Caller:
        """What is remembered refuses nobody: a limit may have been taken away."""
        caller = await self.check(caller)
        if problem := forbidden(caller.key, call.path, call.client, model):
            raise problem
        return caller

    def _context(self, call: Call, caller: Caller, model: Model, price: Price) -> bytes:
        """What the ledger is told of a request whose proxy died. Most are told the same."""
        named = call.end_user is not None or call.job is not None
        whose = (caller.key.kid, model.id, price.version)
        if not named and (known := self._contexts.get(whose)) is not None:
            return known
        told = {
            "o": caller.key.organisation,
            "k": caller.key.kid,
            "u": caller.key.person,
            "m": model.id,
            "v": price.version,
            "e": call.end_user,
            "j": call.job.id if call.job else None,
            "i": self._instance,
        }
        if call.job is not None and call.job.ceiling_ucr is not None:
            told["c"] = call.job.ceiling_ucr  # which outlives Redis
        context = orjson.dumps(told)
        if not named:
            if len(self._contexts) >= self._settings.callers_max:
                self._contexts.clear()
            self._contexts[whose] = context
        return context


def _named(job: Job) -> Job:
    """Also one whose ceiling is not told."""
    return job if job.ceiling_ucr is not None else Job(job.id, UNKNOWN)


def _amount(meter: Meter, hold: Hold, call: Call) -> int:
    if meter.unit in ("pool", "ucr"):
        return hold.amount_ucr
    if meter.unit == "tok":
        # an output whose length the client left open never asks for more than there is
        open_ended = not names_maximum(call)
        return min(hold.tokens, max(meter.limit, hold.tokens_in)) if open_ended else hold.tokens
    return 1


def _ticket(
    call: Call,
    caller: Caller,
    model: Model,
    offer: Offer,
    standing: Standing,
    amounts: Sequence[int],
    context: bytes,
    hold: Hold,
    lowered_to: int | None,
    admitted: Admitted,
) -> Ticket:
    payment = standing.payments[admitted.way]
    return Ticket(
        rid=call.rid,
        shard=caller.key.shard,
        caller=caller,
        model=model,
        price=offer.price,
        standing=standing,
        payment=payment,
        context=context,
        held_ucr=hold.amount_ucr,
        left_ucr=admitted.left[payment.nth],
        deployments=offer.deployments,
        left=admitted.left,
        amounts=amounts,
        input_held=hold.input_tokens,
        output_held=hold.output_tokens,
        lowered_to=lowered_to,
        conversation=call.conversation,
    )
