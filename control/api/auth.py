"""Signing in and out, and who one is."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import SecretStr

from control import cookies, sql
from control.access import new_session_token, session_digest
from control.api.shapes import Email, Field, Input, Output, Viewer
from control.api.write import Act, Change, Done, audit, write
from control.auth import SERVICE_HEADER, bearer, is_token
from control.database import ACQUIRE_TIMEOUT_S, Connection
from control.edge import address
from control.errors import CredentialInvalid, Invalid, LoginInvalid
from control.passwords import LENGTH_MAX
from control.state import LOCAL, state_of
from plugins.access import public

SHOWN = frozenset({"authorization", SERVICE_HEADER})  # go before a cookie

router = APIRouter(prefix="/api/v1/auth", tags=["auth"])


class Login(Input):
    email: Email
    password: Annotated[SecretStr, Field(min_length=1, max_length=LENGTH_MAX)]


class SignIn(Login):
    cookie: bool = False  # for a browser: the session goes into a cookie that no script reads


class Session(Output):
    """With a cookie no token, but what X-Ops-Csrf of every write has to be."""

    token: str | None
    expires_at: datetime
    csrf: str | None = None


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
    csrf: str | None  # for a browser's sign-in: what X-Ops-Csrf of every write has to be
    memberships: list[Membership]


@router.post("/login", dependencies=[public()], response_model=Session)
async def login(request: Request, response: Response, given: SignIn) -> Session:
    """Changes e-mail and password for a session, for a browser one in a cookie; no API key is made
    by it."""
    if given.cookie:
        cookies.require_own_page(request)
    made = await _session(request, await person_of(request, given))
    if not given.cookie or made.token is None:
        return made
    cookies.give(response, made.token, state_of(request).settings.session_hours * 3600)
    return Session(token=None, expires_at=made.expires_at, csrf=cookies.csrf_of(made.token))


async def person_of(request: Request, given: Login) -> UUID:
    """Whose e-mail and password these are; every try counts."""
    state = state_of(request)
    names = [f"address:{address(request, state.settings)}", f"email:{given.email}"]
    state.logins.count(names)
    row = await state.pool.fetchrow(sql.load()["login_person"], given.email)
    stored = row["password"] if row is not None else None
    if not await state.passwords.matches(given.password.get_secret_value(), stored):
        raise LoginInvalid
    assert row is not None
    state.logins.forget(names)
    person: UUID = row["id"]
    return person


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
    """Ends the session that this request carries, or that its token stands for, and all tokens
    of that session."""
    if request.scope.get(LOCAL) or caller.actor.startswith("key:"):
        raise Invalid(why="There is no session to end: you came by the unix socket or an API key.")
    digest = await _session_of(request)

    async def effect(conn: Connection) -> Done:
        await conn.execute(sql.load()["session_remove"], digest)
        rows = await conn.fetch(sql.load()["sign_in_of_session"], digest)
        return Done(status=204, changes=[Change("sign_in", row["id"]) for row in rows])

    answer = await write(request, caller, Act("logout", f"person:{caller.person}"), effect)
    cookies.take_away(answer)
    return answer


async def _session_of(request: Request) -> bytes:
    """Its digest."""
    state, text = state_of(request), bearer(request)
    if not is_token(text):
        return session_digest(text)
    token = await state.tokens.check(text)
    row = await state.pool.fetchrow(sql.load()["sign_in_caller"], token.record)
    if row is None:
        raise CredentialInvalid
    return bytes(row["session"])


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
        csrf=_csrf(request),
        memberships=[Membership.model_validate(dict(row)) for row in rows],
    )


def _csrf(request: Request) -> str | None:
    shows = request.scope.get(LOCAL) or not SHOWN.isdisjoint(request.headers)
    kept = None if shows else cookies.session_of(request)
    return None if kept is None else cookies.csrf_of(kept)
