"""Credits: given to an organisation or to a member of it, their balance, every movement of them."""

import base64
import time
import uuid
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Query, Request, Response

from control import sql
from control.api.shapes import (
    PAGE_DEFAULT,
    VISIBLE,
    Analyst,
    Credits,
    CreditsIn,
    Field,
    Input,
    Limit,
    Output,
    Page,
    PlatformAdmin,
    Text,
    Viewer,
)
from control.api.write import Act, Change, Done, write
from control.auth import home, rank, scope
from control.books import ledger
from control.database import Connection
from control.errors import Conflict, GrantTooHigh, Invalid, NotFound, RoleMissing
from control.money import UCR_PER_CREDIT
from control.state import state_of
from plugins.access import Caller
from proxy.bounds import windows
from proxy.bounds.meters import Window
from proxy.costs.pricing import credits_text

router = APIRouter(tags=["credits"])

Reference = Annotated[str, Field(min_length=1, max_length=200, pattern=VISIBLE)]
AnyOrganisation = Annotated[UUID | None, Query(description="Only for the platform's moderators.")]
AnyUser = Annotated[UUID | None, Query(description="Another member only for moderators.")]


class Grant(Input):
    """Without `user` they go to the organisation's pool, else they are that member's own."""

    user: UUID | None = None
    amount: CreditsIn
    reason: Text
    ref: Reference | None = None  # the cause; the same one is never booked twice


class Granted(Output):
    organisation: UUID
    user: UUID | None
    amount: Credits
    balance: Credits
    ref: str


class Balance(Output):
    """Of an organisation, and of one member of it. `tier` is its plan; `last_reset` is when the
    newest window of that plan began, where it has one of the calendar."""

    organisation: UUID
    tier: str | None = None
    remaining: Credits  # in the organisation's pool
    allocated: Credits  # to its members, all together
    last_reset: datetime | None = None
    user: UUID | None
    allocation: Credits | None  # of the pool, to this member; null: all of it
    allocation_used: Credits | None  # as far as it is booked
    own: Credits | None  # this member's; null: of nobody who is a member


class Transaction(Output):
    id: str
    at: datetime
    type: str
    pool: str  # organisation, or own: a member's
    amount: Credits
    user: UUID | None
    key: str | None
    provider: str | None
    model: str | None
    tokens: dict[str, int] | None
    ref: str


@router.post(
    "/api/v1/admin/organisations/{organisation}/credits", status_code=201, response_model=Granted
)
async def grant_credits(
    request: Request, caller: PlatformAdmin, organisation: UUID, given: Grant
) -> Response:
    """Credits for nothing. A `ref` that was granted before is not granted again."""
    most = state_of(request).settings.grant_max_credits
    if given.amount > most * UCR_PER_CREDIT:
        raise GrantTooHigh(why=f"one grant gives at most {most} credits (grant_max_credits)")
    ref = given.ref or str(uuid.uuid4())

    async def effect(conn: Connection) -> Done:
        if not await conn.fetchrow(sql.load()["organisation_show"], organisation, None):
            raise NotFound(what="organisation", listing="opscenter org list")
        if given.user is not None:
            await require_member(conn, organisation, given.user)
        cause = (given.amount, ref, caller.actor)
        try:
            balance = await ledger.grant(conn, organisation, *cause, person=given.user)
        except ledger.LedgerError as problem:
            raise Conflict(why=str(problem)) from None
        granted = Granted(
            organisation=organisation,
            user=given.user,
            amount=given.amount,
            balance=balance,
            ref=ref,
        )
        return Done(granted, 201, [Change("pool", str(organisation))])

    detail = {"amount": credits_text(given.amount), "reason": given.reason, "ref": ref}
    if given.user is not None:
        detail["user"] = str(given.user)
    act = Act("credits.grant", f"organisation:{organisation}", organisation, detail)
    return await write(request, caller, act, effect)


@router.get("/api/v1/credits/balance")
async def balance(
    request: Request, caller: Viewer, organisation: AnyOrganisation = None, user: AnyUser = None
) -> Balance:
    """What is left in the organisation's pool, and what a member has (you, or the one you name),
    as the ledger has it."""
    if user not in (None, caller.person) and rank(caller.role) < rank("moderator"):
        raise RoleMissing(needed="moderator", held=caller.role)
    async with state_of(request).pool.acquire() as conn:
        chosen, person = await readable(conn, caller, organisation), user or caller.person
        if user is not None:
            await require_member(conn, chosen, user)
        row = dict(await conn.fetchrow(sql.load()["credits_of"], chosen, person) or {})
        reset = await _last_reset(conn, row.get("tier"))
    named = {"organisation": chosen, "user": person, "last_reset": reset}
    return Balance.model_validate({**row, **named})


@router.get("/api/v1/credits/transactions")
async def transactions(
    request: Request,
    caller: Analyst,
    organisation: AnyOrganisation = None,
    user: Annotated[UUID | None, Query(description="Only what this member moved.")] = None,
    limit: Limit = PAGE_DEFAULT,
    cursor: Annotated[str | None, Query(max_length=300)] = None,
) -> Page[Transaction]:
    """Every movement of credits of the organisation and its members, newest first: grants, usage,
    moves, refunds."""
    place, last = _place(cursor)
    async with state_of(request).pool.acquire() as conn:
        chosen = await readable(conn, caller, organisation)
        page = (chosen, place, last, limit + 1, user)
        rows = await conn.fetch(sql.load()["transaction_page"], *page)
    more = _cursor(rows[limit - 1]) if len(rows) > limit else None
    return Page(data=[_transaction(row) for row in rows[:limit]], next=more)


async def _last_reset(conn: Connection, plan: str | None) -> datetime | None:
    if plan is None:
        return None
    now_ms, begun = int(time.time() * 1000), list[int]()
    for rule in await conn.fetch(sql.load()["limit_of_subject"], None, "plan", plan):
        if rule["window_kind"] not in ("none", "rolling"):
            window = Window(rule["window_kind"], zone=rule["zone"], anchor=rule["anchor"] or 1)
            begun.append(windows.span(window, now_ms)[0])
    return datetime.fromtimestamp(max(begun) // 1000, UTC) if begun else None


async def readable(conn: Connection, caller: Caller, organisation: UUID | None) -> UUID:
    """The organisation that is asked about, when the caller may see it."""
    if organisation is None:
        return home(caller)
    if not await conn.fetchrow(sql.load()["organisation_show"], organisation, scope(caller)):
        raise NotFound(what="organisation", listing="opscenter org list")
    return organisation


async def require_member(conn: Connection, organisation: UUID, user: UUID) -> None:
    if not await conn.fetchrow(sql.load()["membership_get"], organisation, user):
        raise NotFound(what="user in this organisation", listing="opscenter user list")


def _transaction(row: asyncpg.Record) -> Transaction:
    named = {"user": row["person"], "key": row["kid"]}
    return Transaction.model_validate({**dict(row), **named})


def _cursor(row: asyncpg.Record) -> str:
    return base64.urlsafe_b64encode(f"{row['place']} {row['id']}".encode()).decode()


def _place(cursor: str | None) -> tuple[UUID | None, str]:
    if cursor is None:
        return None, ""
    try:
        place, last = base64.urlsafe_b64decode(cursor.encode("ascii")).decode("ascii").split(" ")
        return UUID(place), last.replace("\0", "")
    except ValueError:
        raise Invalid("cursor", why="The cursor is not one of ours; take it from `next`.") from None
