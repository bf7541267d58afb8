"""Keys for providers that people and organisations bring for themselves (BYOK): what goes by them
costs nothing here. A key goes in sealed for its owner and never comes out.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import asyncpg
from fastapi import APIRouter, Path, Request, Response
from pydantic import AfterValidator, StrictBool, model_validator

from control import sql
from control.api.byok_terms import require_included
from control.api.limit_acts import changes_of_people
from control.api.provider_acts import address, known, replaced_meanwhile, spoken, tried
from control.api.providers import Secret
from control.api.shapes import (
    Developer,
    Field,
    Input,
    Label,
    ModelId,
    Output,
    Page,
    Removed,
    Slug,
    Text,
)
from control.api.write import Act, Change, Done, write
from control.auth import home
from control.database import Connection
from control.errors import Conflict, Invalid, NotFound, RoleMissing
from control.providers.keys import last4, masked, opened, warnings
from control.providers.table import KINDS, Kind
from control.state import State, state_of
from plugins.access import Caller
from proxy.reach.networks import is_possible, is_public

router = APIRouter(prefix="/api/v1/byok/keys", tags=["keys"])

KeyPath = Annotated[UUID, Path()]
KEPT = ("/files", "/batches")


def _no_kept(models: dict[str, str]) -> dict[str, str]:
    for name in models:
        if name.endswith(KEPT):
            raise ValueError(f"{name} is no model: by this name files and batches are on record")
    return models


Models = Annotated[dict[ModelId, Text], Field(max_length=200), AfterValidator(_no_kept)]
SWITCH = "BYOK_PRIVATE"
SHOWN = r"^[^\x00-\x1f\x7f]*$"


class NewOwnKey(Input):
    """`scope` is whose: yours, or your organisation's for all its members. `models` says what
    models are called there, where that is not known: of Azure and of addresses of your own."""

    provider: Slug
    key: Secret
    name: Annotated[str, Field(max_length=200, pattern=SHOWN)] = ""
    scope: Literal["person", "organisation"] = "person"
    base_url: Text | None = None
    models: Models = Field(default_factory=dict)
    fallback: StrictBool = False


class OwnKeyEdit(Input):
    """What is not sent stays. Another `base_url` needs the key again."""

    key: Secret | None = None
    name: Label | None = None
    base_url: Text | None = None
    models: Models | None = None
    fallback: StrictBool | None = None
    enabled: StrictBool | None = None

    @model_validator(mode="after")
    def _bound(self) -> "OwnKeyEdit":
        if self.base_url is not None and self.key is None:
            raise ValueError("a key goes to no other address than it was entered for: send it too")
        return self


class OwnKey(Output):
    id: UUID
    scope: str
    user: UUID | None
    provider: str
    name: str
    key: str  # masked
    base_url: str
    models: dict[str, str]
    fallback: bool  # whether the platform's key may stand in, at its price
    enabled: bool
    in_force: bool  # it is, and the organisation's plan includes such keys
    test: str | None  # accepted, limited, refused, unknown, unreachable
    test_said: str | None
    tested_at: datetime | None
    created_at: datetime
    warnings: list[str] = Field(default_factory=list)


@router.get("")
async def list_own_keys(request: Request, caller: Developer) -> Page[OwnKey]:
    """Your organisation's and your own; an administrator sees those of all members. Masked."""
    rows = await state_of(request).pool.fetch(sql.load()["byok_list"], *_seen(caller), None)
    return Page(data=[_shown(row) for row in rows])


@router.post("", status_code=201, response_model=OwnKey)
async def add_own_key(request: Request, caller: Developer, given: NewOwnKey) -> Response:
    """From the next request on your calls to its provider's models go by it, for nothing."""
    state, organisation = state_of(request), home(caller)
    person = _owner(caller, given.scope)
    kind, secret = known(given.provider), opened(given.key)
    url = _address(state, kind, given.base_url)
    if not kind.is_everywhere and not given.models:
        raise Invalid("models", why="Name its models: what is called how at this address?")
    sealed = state.keys.seal(_sealed_for(organisation, person, kind), url, secret)
    id, said = uuid4(), warnings(kind, secret)
    owner = (id, organisation, person, kind.name, given.name, spoken(kind.adapter_at(url)), url)
    row = (*owner, dict(kind.quirks), given.models, sealed, last4(secret), given.fallback)

    async def effect(conn: Connection) -> Done:
        await require_included(conn, organisation)
        if await conn.fetchrow(sql.load()["byok_add"], *row) is None:
            raise Conflict(
                why=f"There is a key for {kind.title} already; edit or remove that one first."
            )
        if not given.models and not await conn.fetchval(sql.load()["byok_served"], kind.name):
            said.append(
                f"No model of {kind.title} is served here yet. An administrator lets them in with "
                f"`opscenter provider add {kind.name}`, which needs no key."
            )
        return await _done(conn, caller, id, organisation, person, said, 201)

    detail = {"kind": kind.name, "base_url": url, "scope": given.scope, "fallback": given.fallback}
    act = Act("byok.add", f"byok:{id}", organisation, detail)
    return await write(request, caller, act, effect)


@router.patch("/{id}", response_model=OwnKey)
async def edit_own_key(
    request: Request, caller: Developer, id: KeyPath, given: OwnKeyEdit
) -> Response:
    """Another key, name or address; on or off; whether the platform's key may stand in."""
    state, organisation = state_of(request), home(caller)
    secret = opened(given.key) if given.key is not None else ""

    async def effect(conn: Connection) -> Done:
        row = await _found(conn, caller, id)
        if secret or given.enabled:
            await require_included(conn, organisation)
        kind = KINDS.get(row["kind"], KINDS["compatible"])
        url, sealed, last = row["base_url"], row["secret"], row["last4"]
        speaks = row["adapter"]
        if given.base_url is not None:
            url = _address(state, kind, given.base_url)
            speaks = kind.adapter_at(url)
        if secret:
            whose = _sealed_for(organisation, row["person"], kind)
            sealed, last = state.keys.seal(whose, url, secret), last4(secret)
        name, models = _or(given.name, row["name"]), _or(given.models, row["models"])
        flags = _or(given.fallback, row["fallback"]), _or(given.enabled, row["enabled"])
        changed = (id, name, url, models, sealed, last, *flags, speaks)
        await conn.execute(sql.load()["byok_edit"], *changed)
        said = warnings(kind, secret) if secret else []
        return await _done(conn, caller, id, organisation, row["person"], said)

    detail = {"with_key": bool(secret), **given.model_dump(exclude={"key"}, exclude_none=True)}
    act = Act("byok.edit", f"byok:{id}", organisation, detail)
    return await write(request, caller, act, effect)


@router.post("/{id}/test", response_model=OwnKey)
async def test_own_key(request: Request, caller: Developer, id: KeyPath) -> Response:
    """Asks the provider whether this key works, by a call that costs nothing."""
    state, organisation = state_of(request), home(caller)
    async with state.pool.acquire() as conn:
        row = await _found(conn, caller, id)
    kind = KINDS.get(row["kind"], KINDS["compatible"])
    whose = _sealed_for(organisation, row["person"], kind)
    try:
        secret = state.keys.open(whose, row["base_url"], row["secret"])
    except ValueError:
        raise Conflict(why="This key cannot be read as what was entered. Enter it again.") from None
    judge = is_possible if state.settings.byok_private else is_public
    found = await tried(state, kind, row["base_url"], secret, judge)

    async def effect(conn: Connection) -> Done:
        now = await _found(conn, caller, id)
        if (now["base_url"], now["secret"]) != (row["base_url"], row["secret"]):
            raise replaced_meanwhile()
        await conn.execute(sql.load()["key_test_put"], f"byok:{id}", *found)
        return Done(await _read(conn, caller, id))

    act = Act("byok.test", f"byok:{id}", organisation, {"result": found[0]})
    return await write(request, caller, act, effect)


@router.delete("/{id}", response_model=Removed)
async def remove_own_key(request: Request, caller: Developer, id: KeyPath) -> Response:
    """The next request goes by the platform's key again, at its price."""
    organisation = home(caller)

    async def effect(conn: Connection) -> Done:
        row = await _found(conn, caller, id)
        changes = await _changes(conn, organisation, row["person"])
        await conn.execute(sql.load()["byok_remove"], id)
        return Done(Removed(removed=str(id)), changes=changes)

    act = Act("byok.remove", f"byok:{id}", organisation)
    return await write(request, caller, act, effect)


# Whose they are -------------------------------------------------------------------------


def _seen(caller: Caller) -> tuple[UUID, UUID | None]:
    """The organisation, and whose keys in it: an administrator's are all."""
    return home(caller), None if caller.role == "admin" else caller.person


def _owner(caller: Caller, scope: str) -> UUID | None:
    if scope == "person":
        if caller.person is None:
            raise Invalid("scope", why="The platform has no person of its own; use organisation.")
        return caller.person
    _require_admin(caller)
    return None


def _require_admin(caller: Caller) -> None:
    if caller.role != "admin":
        raise RoleMissing(needed="admin", held=caller.role)


async def _found(conn: Connection, caller: Caller, id: UUID) -> asyncpg.Record:
    """One that the caller may change: his own, or as an administrator any of his organisation."""
    row = await conn.fetchrow(sql.load()["byok_show"], id, *_seen(caller))
    if row is None:
        raise NotFound(what="key", listing="opscenter byok list")
    if row["person"] is None:
        _require_admin(caller)
    return row


def _sealed_for(organisation: UUID, person: UUID | None, kind: Kind) -> str:
    """As the proxies name its owner: proxy/who/records.py."""
    owner = f"o:{organisation}" if person is None else f"m:{organisation}:{person}"
    return f"{owner}:{kind.name}"


def _address(state: State, kind: Kind, given: str | None) -> str:
    return address(kind, given, private=state.settings.byok_private, switch=SWITCH)


async def _changes(conn: Connection, organisation: UUID, person: UUID | None) -> list[Change]:
    if person is None:
        return [Change("organisation", str(organisation))]
    return await changes_of_people(conn, organisation, [person])


def _or(given: Any, present: Any) -> Any:
    return present if given is None else given


async def _done(
    conn: Connection,
    caller: Caller,
    id: UUID,
    organisation: UUID,
    person: UUID | None,
    said: list[str],
    status: int = 200,
) -> Done:
    changes = await _changes(conn, organisation, person)
    return Done(await _read(conn, caller, id, said), status, changes)


async def _read(
    conn: Connection, caller: Caller, id: UUID, said: list[str] | None = None
) -> OwnKey:
    row = await conn.fetchrow(sql.load()["byok_list"], *_seen(caller), id)
    assert row is not None
    return _shown(row, said or [])


def _shown(row: Mapping[str, Any] | asyncpg.Record, said: list[str] | None = None) -> OwnKey:
    scope = "organisation" if row["person"] is None else "person"
    named = {"user": row["person"], "provider": row["kind"], "key": masked(row["last4"])}
    return OwnKey.model_validate({**dict(row), **named, "scope": scope, "warnings": said or []})
