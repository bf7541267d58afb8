"""Signing in and out, and who one is."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import SecretStr

from control import sql
from control.access import new_session_token, session_digest
from control.api.shapes import Email, Field, Input, Output, Viewer
from control.api.write import Act, Done, audit, write
from control.auth import bearer
from control.database import ACQUIRE_TIMEOUT_S, Connection
from control.edge import address
from control.errors import Invalid, LoginInvalid
from control.passwords import LENGTH_MAX
from control.state import LOCAL, state_of
from plugins.access import public

router = APIRouter(prefix="/api/v1/auth", tags=["auth"])


class Login(Input):
    email: Email
    password: Annotated[SecretStr, Field(min_length=1, max_length=LENGTH_MAX)]


class Session(Output):
    token: str
    expires_at: datetime


class Membership(Output):
    organisation: UUID
    name: str
    platform: bool
    role: str
    owner: bool


class Me(Output):
    """Who calls, in which organisation and with which role."""

    actor: str
    person: UUID | None
    email: str | None
    name: str | None
    organisation: UUID | None
    role: str
    across: bool
    memberships: list[Membership]


@router.post("/login", dependencies=[public()], response_model=Session)
async def login(request: Request, given: Login) -> Session:
    """Changes e-mail and password for a session; no API key is made by it."""
    state = state_of(request)
    names = [f"address:{address(request, state.settings)}", f"email:{given.email}"]
    state.logins.count(names)
    row = await state.pool.fetchrow(sql.load()["login_person"], given.email)
    stored = row["password"] if row is not None else None
    if not await state.passwords.matches(given.password.get_secret_value(), stored):
        raise LoginInvalid
    assert row is not None
    state.logins.forget(names)
    return await _session(request, row["id"])


async def _session(request: Request, person: UUID) -> Session:
    state, query, token = state_of(request), sql.load(), new_session_token()
    async with state.pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as conn, conn.transaction():
        await audit(conn, f"person:{person}", Act("login", f"person:{person}"))
        row = await conn.fetchrow(
            query["session_add"], session_digest(token), person, state.settings.session_hours
        )
    assert row is not None
    return Session(token=token, expires_at=row["expires_at"])


@router.post("/logout", status_code=204)
async def logout(request: Request, caller: Viewer) -> Response:
    """Ends the session that this request carries."""
    if request.scope.get(LOCAL) or caller.actor.startswith("key:"):
        raise Invalid(why="There is no session to end: you came by the unix socket or an API key.")
    digest = session_digest(bearer(request))

    async def effect(conn: Connection) -> Done:
        await conn.execute(sql.load()["session_remove"], digest)
        return Done(status=204)

    return await write(request, caller, Act("logout", f"person:{caller.person}"), effect)


@router.get("/me")
async def me(request: Request, caller: Viewer) -> Me:
    """Who you are here, and in which organisations (choose one with X-Ops-Organisation)."""
    state, query = state_of(request), sql.load()
    person = await state.pool.fetchrow(query["person_show"], caller.person)
    rows = await state.pool.fetch(query["person_memberships"], caller.person)
    if caller.actor.startswith("key:"):
        rows = [row for row in rows if row["organisation"] == caller.organisation]
    return Me(
        actor=caller.actor,
        person=caller.person,
        email=person["email"] if person else None,
        name=person["name"] if person else None,
        organisation=caller.organisation,
        role=caller.role,
        across=caller.platform,
        memberships=[Membership.model_validate(dict(row)) for row in rows],
    )
