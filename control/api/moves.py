"""Credits moved from one pool to another, by the platform's administrators."""

import uuid
from uuid import UUID

from fastapi import APIRouter, Request, Response

from control import sql
from control.api.credits import Reference, require_member
from control.api.shapes import Credits, CreditsIn, Input, Output, PlatformAdmin, Text
from control.api.write import Act, Change, Done, write
from control.books import moves
from control.books.ledger import LedgerError, Purse
from control.books.outflows import RedisNotReady, TooFew
from control.database import Connection
from control.errors import Conflict, CreditsTooFew, NotFound, RedisAway
from control.state import state_of
from proxy.costs.pricing import credits_text

router = APIRouter(tags=["credits"])


class Place(Input):
    """An organisation's pool, or with `user` what this member has of his own."""

    organisation: UUID
    user: UUID | None = None


class MoveWanted(Input):
    source: Place
    target: Place
    amount: CreditsIn
    reason: Text
    ref: Reference | None = None  # the cause; the same one is never booked twice


class Side(Output):
    organisation: UUID
    user: UUID | None
    balance: Credits


class Moved(Output):
    amount: Credits
    source: Side
    target: Side
    ref: str


@router.post("/api/v1/admin/credits/moves", status_code=201, response_model=Moved)
async def move_credits(request: Request, caller: PlatformAdmin, given: MoveWanted) -> Response:
    """Credits of one organisation for another, or of a pool for a member. Only what running
    requests do not hold can be moved. A `ref` that was moved before is not moved again."""
    state, ref = state_of(request), given.ref or str(uuid.uuid4())
    source, target = _purse(given.source), _purse(given.target)
    wanted = moves.Move(source, target, given.amount, ref)

    async def effect(conn: Connection) -> Done:
        await _require(conn, given.source, given.target)
        try:
            left = await moves.move(conn, state.redis, wanted, caller.actor)
        except LedgerError as problem:
            raise Conflict(why=str(problem)) from None
        except TooFew as problem:
            raise CreditsTooFew(left=credits_text(problem.left)) from None
        except RedisNotReady:
            raise RedisAway from None
        moved = Moved(
            amount=given.amount,
            source=_side(source, left.source),
            target=_side(target, left.target),
            ref=ref,
        )
        both = dict.fromkeys((source.organisation, target.organisation))
        return Done(moved, 201, [Change("pool", str(one)) for one in both])

    detail = given.model_dump(mode="json", exclude={"amount"})
    detail |= {"amount": credits_text(given.amount), "ref": ref}
    subject = f"organisation:{source.organisation}"
    act = Act("credits.move", subject, source.organisation, detail)
    return await write(request, caller, act, effect)


async def _require(conn: Connection, source: Place, target: Place) -> None:
    """Both organisations are there; who left one may lose his credits, and gets none."""
    for place in (source, target):
        if not await conn.fetchrow(sql.load()["organisation_show"], place.organisation, None):
            raise NotFound(what="organisation", listing="opscenter org list")
    if target.user is not None:
        await require_member(conn, target.organisation, target.user)


def _purse(place: Place) -> Purse:
    return Purse(place.organisation, place.user)


def _side(purse: Purse, balance: int) -> Side:
    return Side(organisation=purse.organisation, user=purse.person, balance=balance)
