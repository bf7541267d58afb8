"""API keys: made and shown once, listed masked, revoked at once; one's own and others'."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Query, Request, Response

from control import sql
from control.access import NewKey, add_key
from control.api.shapes import (
    KID,
    PAGE_DEFAULT,
    Developer,
    Field,
    Future,
    Input,
    KidPath,
    Label,
    Limit,
    ModelId,
    Moderator,
    Output,
    Page,
    Parallel,
)
from control.api.write import Act, Change, Done, write
from control.auth import home, require_above, scope
from control.database import Connection
from control.errors import Conflict, GrantTooHigh, Invalid, NotFound
from control.state import state_of
from plugins.access import Caller
from proxy import keys

router = APIRouter(tags=["keys"])

OWN = "/api/v1/keys"
OTHERS = "/api/v1/admin/users/{user}/api-keys"
KEYS_MAX = 1000  # active ones per person
MODELS_MAX = 200

Cursor = Annotated[str | None, Query(pattern=KID)]


class KeyWanted(Input):
    name: Label
    expires_at: Future | None = None
    models: Annotated[list[ModelId], Field(min_length=1, max_length=MODELS_MAX)] | None = None
    parallel_max: Parallel | None = None


class KeyWantedFor(KeyWanted):
    organisation: UUID | None = None


class ApiKey(Output):
    id: str
    key: str  # masked
    name: str
    organisation: UUID
    user: UUID
    models: list[str] | None
    parallel_max: int | None
    status: str
    expires_at: datetime | None
    created_at: datetime
    revoked_at: datetime | None


class KeyMade(ApiKey):
    """`key` is the whole key, shown this once."""


def masked(row: asyncpg.Record) -> ApiKey:
    hidden = {"id": row["kid"], "key": f"{keys.PREFIX}…{row['last4']}", "user": row["person"]}
    return ApiKey.model_validate({**dict(row), **hidden})


# One's own --------------------------------------------------------------------------


@router.get(OWN)
async def list_keys(
    request: Request, caller: Developer, limit: Limit = PAGE_DEFAULT, cursor: Cursor = None
) -> Page[ApiKey]:
    """Your keys in this organisation, masked."""
    return await _list(request, _self(caller), home(caller), limit, cursor)


@router.post(OWN, status_code=201, response_model=KeyMade)
async def create_key(request: Request, caller: Developer, given: KeyWanted) -> Response:
    """A new key for yourself. It is shown in this answer and never again."""
    return await _create(request, caller, _self(caller), home(caller), given)


@router.delete(OWN + "/{key}", response_model=ApiKey)
async def revoke_key(request: Request, caller: Developer, key: KidPath) -> Response:
    """When this answers 200, no request is admitted with the key any more."""
    return await _revoke(request, caller, _self(caller), home(caller), key)


# Others' ----------------------------------------------------------------------------


@router.get(OTHERS)
async def list_keys_of(
    request: Request,
    caller: Moderator,
    user: UUID,
    limit: Limit = PAGE_DEFAULT,
    cursor: Cursor = None,
) -> Page[ApiKey]:
    async with state_of(request).pool.acquire() as conn:
        await _member(conn, caller, user, None)
    return await _list(request, user, scope(caller), limit, cursor)


@router.post(OTHERS, status_code=201, response_model=KeyMade)
async def create_key_of(
    request: Request, caller: Moderator, user: UUID, given: KeyWantedFor
) -> Response:
    """A key that acts as this person: only for people below yourself, unless you are admin."""
    return await _create(request, caller, user, given.organisation, given)


@router.delete(OTHERS + "/{key}", response_model=ApiKey)
async def revoke_key_of(request: Request, caller: Moderator, user: UUID, key: KidPath) -> Response:
    return await _revoke(request, caller, user, scope(caller), key)


# What they share ----------------------------------------------------------------------


def _self(caller: Caller) -> UUID:
    if caller.person is None:
        raise Invalid(why="The platform has no owner whose key this could be; name a user.")
    return caller.person


async def _list(
    request: Request, person: UUID, organisation: UUID | None, limit: int, cursor: str | None
) -> Page[ApiKey]:
    rows = await state_of(request).pool.fetch(
        sql.load()["api_key_list"], person, organisation, cursor, limit + 1
    )
    more = rows[limit - 1]["kid"] if len(rows) > limit else None
    return Page(data=[masked(row) for row in rows[:limit]], next=more)


async def _create(
    request: Request, caller: Caller, person: UUID, organisation: UUID | None, given: KeyWanted
) -> Response:
    state = state_of(request)
    async with state.pool.acquire() as conn:
        member = await _member(conn, caller, person, organisation)
    key = keys.mint(member["shard"])
    wanted = NewKey(
        member["organisation"],
        member["shard"],
        person,
        given.name,
        given.models,
        given.parallel_max,
        given.expires_at,
    )

    async def effect(conn: Connection) -> Done:
        await _allowed(conn, caller, person, member["role"], given)
        row = await add_key(conn, state.keys, key, wanted)
        shown = KeyMade(**{**masked(row).model_dump(), "key": key.text})
        return Done(shown, 201, [Change("key", key.kid)])

    detail = given.model_dump(mode="json") | {"user": str(person)}
    act = Act("key.create", f"key:{key.kid}", wanted.organisation, detail)
    return await write(request, caller, act, effect)


async def _member(
    conn: Connection, caller: Caller, person: UUID, organisation: UUID | None
) -> asyncpg.Record:
    row = await conn.fetchrow(sql.load()["person_in"], person, organisation, scope(caller))
    if row is None:
        raise NotFound(what="user in this organisation", listing="opscenter user list")
    return row


async def _allowed(
    conn: Connection, caller: Caller, person: UUID, role: str, given: KeyWanted
) -> None:
    query = sql.load()
    if person != caller.person:
        require_above(caller, role)
    if await conn.fetchval(query["api_key_count"], person) >= KEYS_MAX:
        raise Conflict(why=f"Nobody has more than {KEYS_MAX} active keys; revoke one first.")
    if given.models:
        unknown = await conn.fetch(query["models_unknown"], given.models)
        if unknown:
            names = ", ".join(row["given"] for row in unknown[:5])
            raise Invalid(
                "models", why=f"There is no model {names} here; see `opscenter models list`."
            )
    if caller.actor.startswith("key:"):
        limits = await conn.fetchrow(query["api_key_limits"], caller.actor.removeprefix("key:"))
        assert limits is not None
        _within(limits, given)


def _within(limits: asyncpg.Record, given: KeyWanted) -> None:
    """A key that makes a key gives it no more than it has itself."""
    if limits["models"] is not None and not _subset(given.models, limits["models"]):
        raise GrantTooHigh(why="the key that you use may not use all of these models")
    end = limits["expires_at"]
    if end and (given.expires_at is None or given.expires_at > end):
        raise GrantTooHigh(why=f"the key that you use ends at {end:%Y-%m-%d %H:%M}Z")
    most = limits["parallel_max"]
    if most and (given.parallel_max is None or given.parallel_max > most):
        raise GrantTooHigh(why=f"the key that you use may run {most} requests at one time")


def _subset(wanted: Sequence[str] | None, held: Sequence[str]) -> bool:
    return wanted is not None and set(wanted) <= set(held)


async def _revoke(
    request: Request, caller: Caller, person: UUID, organisation: UUID | None, kid: str
) -> Response:
    async def effect(conn: Connection) -> Done:
        query = sql.load()
        found = await conn.fetchrow(query["api_key_show"], kid, person, organisation)
        if found is None:
            raise NotFound(what="API key", listing="opscenter key list")
        if person != caller.person:
            member = await _member(conn, caller, person, found["organisation"])
            require_above(caller, member["role"])
        await conn.fetchrow(query["api_key_revoke"], kid)
        row = await conn.fetchrow(query["api_key_show"], kid, person, organisation)
        assert row is not None
        return Done(masked(row), changes=[Change("key", kid)])

    act = Act("key.revoke", f"key:{kid}", organisation or caller.organisation)
    return await write(request, caller, act, effect)
