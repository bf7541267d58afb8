"""Admit: who calls, may they, what may it cost at most. Takes a Ticket, or raises.

All checks that money depends on are one script in Redis; what is remembered here only saves the
look-up, because the script is told the versions and answers STALE when one is not the newest.
"""

import hmac
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from typing import TypeVar

import orjson

from proxy import keys
from proxy.errors import (
    BudgetReached,
    InsufficientCredits,
    JobCeilingDiffers,
    JobCeilingReached,
    KeyInvalid,
    KeyMissing,
    LimitError,
    ModelNotAllowed,
    NotReady,
    OrganisationSuspended,
    ParallelLimit,
)
from proxy.hold import Hold, hold_of, lowered
from proxy.keyfile import KeyFile
from proxy.metrics import Metrics
from proxy.pipe import RedisDown
from proxy.pricing import credits_text
from proxy.records import is_good, key_record, organisation_record
from proxy.request import choices_of
from proxy.shards import Admitted, Limited, OtherCeiling, Refused, Shards, Stale
from proxy.standing import caller_of, standing_of
from proxy.types import (
    Call,
    Caller,
    KeyRecord,
    Meter,
    Model,
    OrganisationRecord,
    Price,
    Standing,
    Ticket,
)

ADMIT_TRIES = 5  # a record that changes faster than this is not ours to chase
BEARER = "bearer "

N = TypeVar("N", str, bytes)
R = TypeVar("R")
Ticketing = Callable[[Sequence[int]], Ticket]


class Admission:
    """The records that this worker remembers, and the way in."""

    def __init__(
        self,
        shards: Shards,
        keyfile: KeyFile,
        metrics: Metrics,
        instance: str,
        callers_max: int,
        slice_tokens: int,
        abandoned: Callable[[Ticket], None],
    ) -> None:
        """`abandoned` gives back what was held for a client who left before he was told."""
        self._shards = shards
        self._keyfile = keyfile
        self._metrics = metrics
        self._instance = instance
        self._callers_max = callers_max
        self._slice_tokens = slice_tokens
        self._abandoned = abandoned
        self._keys: dict[str, KeyRecord] = {}
        self._organisations: dict[str, OrganisationRecord] = {}
        self._seen: dict[bytes, Caller] = {}
        self._salt = secrets.token_bytes(32)

    async def identify(self, authorization: bytes | None) -> Caller:
        """Whose key this is. Says nothing yet about whether it is still good. A header that was
        checked before is known by its digest, for as long as its records are the newest.
        """
        if not authorization:
            raise KeyMissing
        seen = blake2b(authorization, digest_size=16, key=self._salt).digest()
        caller = self._seen.get(seen)
        if caller is not None and self._is_newest(caller):
            return caller
        caller = await self._identify(_key(authorization))
        self._remember(self._seen, seen, caller)
        return caller

    def _is_newest(self, caller: Caller) -> bool:
        key, organisation = caller.key, caller.organisation
        return (
            self._keys.get(key.kid) is key
            and self._organisations.get(organisation.id) is organisation
        )

    async def _identify(self, key: keys.Key) -> Caller:
        try:
            record = self._keys.get(key.kid) or await self._fetch_key(key)
            self._check_digest(key, record)
            organisation = self._organisations.get(record.organisation)
            if organisation is None:
                organisation = await self._fetch_organisation(record)
        except RedisDown:
            self._metrics.add(self._metrics.redis_failures)
            raise NotReady from None
        return caller_of(record, organisation)

    async def admit(self, call: Call, caller: Caller, model: Model, price: Price) -> Ticket:
        """Takes the holds of this call, all or none."""
        if caller.key.models is not None and model.id not in caller.key.models:
            raise ModelNotAllowed("model", model=model.id)
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
                case Limited(nth, left):
                    less = None
                    if meters[nth].unit != "slot" and lowered_to is None:
                        less = lowered(call, model, price, left)
                    if less is None:
                        raise _limit_error(meters[nth], amounts[nth], left)
                    hold, lowered_to = less, less.output_tokens // choices_of(call.fields)
                case OtherCeiling(ceiling):
                    raise JobCeilingDiffers(ceiling=credits_text(ceiling))
                case Refused(why):
                    raise self._refusal(why, caller)
                case Stale():
                    caller = self._newer(caller, answer)
        raise NotReady

    async def check(self, caller: Caller) -> Caller:
        """The caller as he is now, for routes that cost nothing and so hold nothing."""
        try:
            key = await self._shards.key(caller.key.shard, caller.key.kid)
            organisation = await self._shards.organisation(caller.key.shard, caller.organisation.id)
        except RedisDown:
            raise NotReady from None
        return self._newer(caller, Stale(key, organisation))

    def _newer(self, caller: Caller, stale: Stale) -> Caller:
        """Takes over what Redis has; a key that is gone or dead is refused here."""
        self._metrics.add(self._metrics.stale)
        if stale.key is None:
            raise self._refusal("KEY", caller)
        key = key_record(caller.key.kid, caller.key.shard, stale.key)
        if not hmac.compare_digest(key.digest, caller.key.digest):
            raise self._refusal("KEY", caller)
        self._remember(self._keys, key.kid, key)
        if not is_good(stale.key):
            raise self._refusal("KEY", caller)
        organisation = caller.organisation
        if stale.organisation is not None:
            organisation = organisation_record(organisation.id, key.shard, stale.organisation)
            self._remember(self._organisations, organisation.id, organisation)
            if stale.organisation.status != "active":
                raise self._refusal("ORG", caller)
        return caller_of(key, organisation)

    def _refusal(self, why: str, caller: Caller) -> Exception:
        if why == "NOTREADY":
            return NotReady()
        if why == "ORG":
            return OrganisationSuspended()
        self._keys.pop(caller.key.kid, None)
        return KeyInvalid()

    def _check_digest(self, key: keys.Key, record: KeyRecord) -> None:
        if record.shard != key.shard or record.pepper not in self._keyfile.peppers:
            raise KeyInvalid
        if not hmac.compare_digest(self._keyfile.digest(key.text, record.pepper), record.digest):
            raise KeyInvalid

    async def _fetch_key(self, key: keys.Key) -> KeyRecord:
        raw = await self._shards.key(key.shard, key.kid)
        if raw is None or not is_good(raw):
            raise KeyInvalid
        record = key_record(key.kid, key.shard, raw)
        self._check_digest(key, record)
        self._remember(self._keys, key.kid, record)
        return record

    async def _fetch_organisation(self, key: KeyRecord) -> OrganisationRecord:
        raw = await self._shards.organisation(key.shard, key.organisation)
        if raw is None:
            raise NotReady
        record = organisation_record(key.organisation, key.shard, raw)
        self._remember(self._organisations, record.id, record)
        return record

    def _remember(self, cache: dict[N, R], name: N, record: R) -> None:
        if len(cache) >= self._callers_max and name not in cache:
            cache.pop(next(iter(cache)))
        cache[name] = record

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


def _key(header: bytes) -> keys.Key:
    authorization = header.decode("latin-1")
    if authorization[: len(BEARER)].lower() != BEARER:
        raise KeyMissing
    key = keys.parse(authorization[len(BEARER) :].strip())
    if key is None:
        raise KeyInvalid
    return key


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


def _limit_error(meter: Meter, amount: int, left: int) -> LimitError:
    if meter.unit == "slot":
        return ParallelLimit(limit=meter.limit, owner=meter.label)
    needed, rest = credits_text(amount), credits_text(max(left, 0))
    if meter.unit == "pool":
        return InsufficientCredits(needed=needed, left=rest)
    if meter.label == "job":
        return JobCeilingReached(needed=needed, left=rest)
    return BudgetReached(owner=meter.label, needed=needed, left=rest)
