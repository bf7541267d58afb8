"""Credits corrected by the platform's administrators: adjustments up and down, expiry, refunds."""

import uuid
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BeforeValidator, WithJsonSchema

from control import sql
from control.api.credits import Granted, Reference, require_member
from control.api.shapes import CreditsIn, Input, PlatformAdmin, Text
from control.api.write import Act, Change, Done, write
from control.books import corrections, ledger
from control.books.corrections import Taking
from control.books.ledger import LedgerError, Purse
from control.books.outflows import RedisNotReady, TooFew
from control.database import Connection
from control.errors import Conflict, CreditsTooFew, GrantTooHigh, Invalid, NotFound, RedisAway
from control.money import CREDITS_PATTERN, UCR_PER_CREDIT, signed_credits_to_ucr
from control.state import state_of
from plugins.access import Caller
from proxy.costs.pricing import credits_text

router = APIRouter(tags=["credits"])

SignedCredits = Annotated[
    int,
    BeforeValidator(signed_credits_to_ucr),
    WithJsonSchema({"type": "string", "pattern": "^-?" + CREDITS_PATTERN[1:], "examples": ["-5"]}),
]


class Adjustment(Input):
    """More than nothing is added, less is taken, but only what running requests do not hold. What
    expires is always taken. With `user` it is that member's own."""

    kind: Literal["adjustment", "expiry"] = "adjustment"
    user: UUID | None = None
    amount: SignedCredits
    reason: Text
    ref: Reference | None = None  # the cause; the same one is never booked twice


class Refund(Input):
    """Of the whole cost of a request, or of `amount`, once."""

    request: UUID
    amount: CreditsIn | None = None
    reason: Text


@router.post(
    "/api/v1/admin/organisations/{organisation}/credits/adjustments",
    status_code=201,
    response_model=Granted,
)
async def adjust_credits(
    request: Request, caller: PlatformAdmin, organisation: UUID, given: Adjustment
) -> Response:
    """Credits added or taken for a reason, as a transfer of its own."""
    ref = given.ref or str(uuid.uuid4())
    _require_usual(request, given.amount)
    if given.kind == "expiry" and given.amount > 0:
        raise Invalid("amount", why="What expires is taken: write the amount with a minus.")

    async def effect(conn: Connection) -> Done:
        await _require(conn, organisation, given.user)
        purse = Purse(organisation, given.user)
        balance = await _corrected(request, conn, caller, purse, given, ref)
        return _done(purse, given.amount, balance, ref)

    detail = {"kind": given.kind, "amount": credits_text(given.amount), "ref": ref}
    detail |= {"reason": given.reason} | ({"user": str(given.user)} if given.user else {})
    subject = f"organisation:{organisation}"
    act = Act(f"credits.{given.kind}", subject, organisation, detail)
    return await write(request, caller, act, effect)


@router.post("/api/v1/admin/credits/refunds", status_code=201, response_model=Granted)
async def refund_request(request: Request, caller: PlatformAdmin, given: Refund) -> Response:
    """Gives back what a request has cost to the credits that paid it, once."""

    async def effect(conn: Connection) -> Done:
        cause = (given.request, given.amount, caller.actor)
        try:
            purse, amount, balance = await corrections.refund(conn, *cause)
        except LedgerError as problem:
            raise Conflict(why=str(problem)) from None
        return _done(purse, amount, balance, str(given.request))

    detail = {"reason": given.reason, "amount": given.amount and credits_text(given.amount)}
    act = Act("credits.refund", f"request:{given.request}", None, detail)
    return await write(request, caller, act, effect)


async def _corrected(
    request: Request, conn: Connection, caller: Caller, purse: Purse, given: Adjustment, ref: str
) -> int:
    """The balance after."""
    code, actor = given.kind, caller.actor
    try:
        if given.amount > 0:
            whose = (purse.organisation, given.amount, ref, actor)
            return await ledger.grant(conn, *whose, code=code, person=purse.person)
        wanted = Taking(purse, -given.amount, code, ref)
        return await corrections.take(conn, state_of(request).redis, wanted, actor)
    except LedgerError as problem:
        raise Conflict(why=str(problem)) from None
    except TooFew as problem:
        raise CreditsTooFew(left=credits_text(problem.left)) from None
    except RedisNotReady:
        raise RedisAway from None


def _require_usual(request: Request, amount: int) -> None:
    most = state_of(request).settings.grant_max_credits
    if amount > most * UCR_PER_CREDIT:
        raise GrantTooHigh(why=f"one adjustment gives at most {most} credits (grant_max_credits)")


async def _require(conn: Connection, organisation: UUID, user: UUID | None) -> None:
    if not await conn.fetchrow(sql.load()["organisation_show"], organisation, None):
        raise NotFound(what="organisation", listing="opscenter org list")
    if user is not None:
        await require_member(conn, organisation, user)


def _done(purse: Purse, amount: int, balance: int, ref: str) -> Done:
    made = Granted(
        organisation=purse.organisation,
        user=purse.person,
        amount=amount,
        balance=balance,
        ref=ref,
    )
    return Done(made, 201, [Change("pool", str(purse.organisation))])
