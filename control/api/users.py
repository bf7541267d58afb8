"""People: listed, made, given roles, suspended, given new passwords."""

import uuid
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Query, Request, Response
from pydantic import StrictBool

from control import sql
from control.api.shapes import (
    PAGE_DEFAULT,
    Admin,
    Credits,
    CreditsIn,
    Email,
    Input,
    Label,
    Limit,
    Moderator,
    Output,
    Page,
)
from control.api.write import Act, Change, Done, write
from control.auth import home, rank, require_above, scope
from control.database import Connection
from control.errors import Conflict, GrantTooHigh, NotFound
from control.passwords import generate
from control.state import state_of
from plugins.access import Caller

router = APIRouter(prefix="/api/v1/admin/users", tags=["users"])

Role = Literal["admin", "moderator", "developer", "analyst", "viewer"]


class NewUser(Input):
    email: Email
    name: Label | None = None
    role: Role
    organisation: UUID | None = None
    password: StrictBool = True  # whether one is generated; without it he signs in elsewhere


class NewRole(Input):
    role: Role
    organisation: UUID | None = None


class NewShare(Input):
    allocation: CreditsIn | None
    organisation: UUID | None = None


class UserMembership(Output):
    organisation: UUID
    name: str
    role: str
    owner: bool
    allocation: Credits | None  # of the organisation's pool; null: all of it
    allocation_used: Credits | None  # as far as it is booked


class User(Output):
    id: UUID
    email: str
    name: str
    status: str
    service: bool  # a program's, that never signs in
    created_at: datetime
    memberships: list[UserMembership]


class UserMade(User):
    password: str | None  # shown this once


def with_password(user: User, password: str | None) -> UserMade:
    # not dumped and read again: that would turn its credits into text
    return UserMade.model_construct(**{**user.__dict__, "password": password})


def _missing() -> NotFound:
    return NotFound(what="user", listing="opscenter user list")


@router.get("")
async def list_users(
    request: Request,
    caller: Moderator,
    organisation: UUID | None = None,
    search: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = PAGE_DEFAULT,
    cursor: Annotated[str | None, Query(max_length=320)] = None,
) -> Page[User]:
    """The people of your organisation, by e-mail; moderators of the platform see everybody."""
    bound = scope(caller)
    if bound is not None and organisation not in (None, bound):
        return Page(data=[])
    rows = await state_of(request).pool.fetch(
        sql.load()["person_list"], bound or organisation, search, cursor, limit + 1
    )
    more = rows[limit - 1]["email"] if len(rows) > limit else None
    return Page(data=[User.model_validate(dict(row)) for row in rows[:limit]], next=more)


@router.get("/{user}")
async def show_user(request: Request, caller: Moderator, user: UUID) -> User:
    """One person, with the memberships that you may see."""
    async with state_of(request).pool.acquire() as conn, conn.transaction():
        return await _user(conn, caller, user)


@router.post("", status_code=201, response_model=UserMade)
async def create_user(request: Request, caller: Moderator, given: NewUser) -> Response:
    """Makes a person with a role; one who has an account joins the organisation with it."""
    state, person = state_of(request), uuid.uuid4()
    organisation = _chosen(caller, given.organisation)
    require_above(caller, given.role)
    password = generate() if given.password else None
    digest = await state.passwords.digest(password) if password else None

    async def effect(conn: Connection) -> Done:
        query = sql.load()
        if not await conn.fetchrow(query["organisation_show"], organisation, scope(caller)):
            raise NotFound(what="organisation", listing="opscenter org list")
        known = await conn.fetchval(query["person_by_email"], given.email)
        if known is None:
            name = given.name or ""
            await conn.fetchrow(query["person_add"], person, given.email, name, digest, False)
        await _join(conn, caller, known or person, organisation, given.role)
        made = await _user(conn, caller, known or person)
        shown = with_password(made, None if known else password)
        return Done(shown, 201)

    detail = {"email": given.email, "role": given.role}
    return await write(
        request, caller, Act("user.create", f"email:{given.email}", organisation, detail), effect
    )


async def _join(
    conn: Connection, caller: Caller, person: UUID, organisation: UUID, role: str
) -> None:
    try:
        async with conn.transaction():
            await conn.execute(sql.load()["membership_add"], organisation, person, role, False)
    except asyncpg.UniqueViolationError:
        raise Conflict(
            why="This person is a member already. Change the role with `opscenter user role`."
        ) from None


@router.put("/{user}/role", response_model=User)
async def set_role(request: Request, caller: Moderator, user: UUID, given: NewRole) -> Response:
    """Another role in one organisation; it ends the person's sign-ins, but not those of one who
    belongs to others too. An owner stays admin."""
    organisation = _chosen(caller, given.organisation)

    async def effect(conn: Connection) -> Done:
        query = sql.load()
        shown = await _user(conn, caller, user)
        held = await conn.fetchrow(query["membership_get"], organisation, user)
        if held is None:
            raise _missing()
        if held["owner"]:
            raise Conflict(why="The owner of an organisation stays its admin.")
        if user == caller.person and rank(given.role) > rank(held["role"]):
            raise GrantTooHigh(why="your own role is raised by somebody else")
        if user != caller.person:
            require_above(caller, held["role"])
        if rank(given.role) >= rank(held["role"]):
            require_above(caller, given.role)
        await conn.execute(query["membership_role"], organisation, user, given.role)
        # the role itself is read anew for each request
        if await _seen_whole(conn, shown):
            await conn.execute(query["session_remove_of_person"], user)
        return Done(await _user(conn, caller, user), changes=await sign_ins(conn, user))

    act = Act("user.role", f"person:{user}", organisation, {"role": given.role})
    return await write(request, caller, act, effect)


@router.put("/{user}/allocation", response_model=User)
async def allocate(request: Request, caller: Moderator, user: UUID, given: NewShare) -> Response:
    """What a member may spend of the organisation's pool, over all keys; null: all of it."""
    organisation = _chosen(caller, given.organisation)

    async def effect(conn: Connection) -> Done:
        query = sql.load()
        await _user(conn, caller, user)
        held = await conn.fetchrow(query["membership_get"], organisation, user)
        if held is None:
            raise _missing()
        require_above(caller, held["role"])
        await conn.execute(query["membership_allocate"], organisation, user, given.allocation)
        keys = await conn.fetch(query["api_key_of_member"], organisation, user)
        changes = [Change("key", row["kid"]) for row in keys] + await sign_ins(conn, user)
        return Done(await _user(conn, caller, user), changes=changes)

    detail = given.model_dump(mode="json", include={"allocation"})
    act = Act("user.allocation", f"person:{user}", organisation, detail)
    return await write(request, caller, act, effect)


@router.post("/{user}/suspend", response_model=User)
async def suspend_user(request: Request, caller: Moderator, user: UUID) -> Response:
    """Ends the person's sign-ins and API keys, from the next request on."""
    return await _set_status(request, caller, user, "suspended")


@router.post("/{user}/resume", response_model=User)
async def resume_user(request: Request, caller: Moderator, user: UUID) -> Response:
    """Lets a suspended person and the person's API keys in again."""
    return await _set_status(request, caller, user, "active")


async def _set_status(request: Request, caller: Caller, user: UUID, status: str) -> Response:
    async def effect(conn: Connection) -> Done:
        query = sql.load()
        await _governed(conn, caller, user)
        if user == caller.person:
            raise Conflict(why="You cannot suspend or resume yourself.")
        await conn.execute(query["person_status"], user, status)
        await conn.execute(query["session_remove_of_person"], user)
        keys = await conn.fetch(query["api_key_touch_of_person"], user)
        changes = [Change("key", row["kid"]) for row in keys] + await sign_ins(conn, user)
        return Done(await _user(conn, caller, user), changes=changes)

    return await write(
        request, caller, Act(f"user.{status}", f"person:{user}", caller.organisation), effect
    )


@router.post("/{user}/password", response_model=UserMade)
async def new_password(request: Request, caller: Admin, user: UUID) -> Response:
    """Generates a new password, shown once, and ends the person's sign-ins."""
    password = generate()
    digest = await state_of(request).passwords.digest(password)

    async def effect(conn: Connection) -> Done:
        query = sql.load()
        made = await _governed(conn, caller, user)
        if made.service:
            raise Conflict(why="A program's account signs in with its key alone.")
        await conn.execute(query["person_password"], user, digest)
        await conn.execute(query["session_remove_of_person"], user)
        shown = with_password(made, password)
        return Done(shown, changes=await sign_ins(conn, user))

    return await write(
        request, caller, Act("user.password", f"person:{user}", caller.organisation), effect
    )


async def sign_ins(conn: Connection, user: UUID) -> list[Change]:
    """What the proxies know of a person's tokens has changed with the person."""
    rows = await conn.fetch(sql.load()["sign_in_of_person"], user)
    return [Change("sign_in", row["id"]) for row in rows]


# What a caller may touch ------------------------------------------------------------


def _chosen(caller: Caller, organisation: UUID | None) -> UUID:
    """Without a word it is the caller's own; another one only for the platform's moderators."""
    bound = scope(caller)
    if bound is not None and organisation not in (None, bound):
        raise NotFound(what="organisation", listing="opscenter org list")
    return organisation or home(caller)


async def _user(conn: Connection, caller: Caller, user: UUID) -> User:
    """The person, where the caller may see him, with the memberships that the caller may see."""
    query, bound = sql.load(), scope(caller)
    row = await conn.fetchrow(query["person_visible"], user, bound)
    if row is None:
        raise _missing()
    rows = await conn.fetch(query["person_memberships"], user)
    seen = [dict(one) for one in rows if bound in (None, one["organisation"])]
    return User.model_validate({**dict(row), "memberships": seen})


async def _governed(conn: Connection, caller: Caller, user: UUID) -> User:
    """The account itself is governed only by who stands above all of its memberships."""
    shown = await _user(conn, caller, user)
    if not await _seen_whole(conn, shown):
        raise GrantTooHigh(why="this person belongs to other organisations too")
    if user != caller.person:
        for membership in shown.memberships:
            require_above(caller, membership.role)
    return shown


async def _seen_whole(conn: Connection, shown: User) -> bool:
    """Whether the caller may see all that this person belongs to."""
    rows = await conn.fetch(sql.load()["person_memberships"], shown.id)
    return len(shown.memberships) == len(rows)
