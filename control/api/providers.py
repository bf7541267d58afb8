"""Providers: where models can be had. A key goes in sealed and never comes out; only its last four
letters are shown.
"""

import re
from datetime import datetime
from typing import Annotated

import asyncpg
from fastapi import APIRouter, Path, Request, Response
from pydantic import SecretStr

from control import sql
from control.api.shapes import (
    NAME,
    Field,
    Input,
    Output,
    Page,
    PlatformAdmin,
    PlatformAnalyst,
    Removed,
    Slug,
    Text,
)
from control.api.write import Act, Change, Done, write
from control.database import Connection
from control.destinations import checked
from control.errors import Conflict, Invalid, NotFound
from control.state import state_of
from proxy.providers.catalog import ADAPTERS

router = APIRouter(prefix="/api/v1/llm/admin/providers", tags=["models"])

SECRET_MAX = 4096
MASKABLE_MIN = 16  # letters; of a shorter secret nothing is shown
SNAPSHOT = (Change("snapshot"),)

ProviderPath = Annotated[str, Path(pattern=NAME)]


class NewProvider(Input):
    name: Slug
    base_url: Text
    adapter: Slug = "openai"
    secret: Annotated[SecretStr, Field(min_length=1, max_length=SECRET_MAX)] | None = None


class NewSecret(Input):
    secret: Annotated[SecretStr, Field(min_length=1, max_length=SECRET_MAX)]


class Provider(Output):
    name: str
    adapter: str
    base_url: str
    secret: str | None  # masked
    enabled: bool
    created_at: datetime


@router.get("")
async def list_providers(request: Request, caller: PlatformAnalyst) -> Page[Provider]:
    rows = await state_of(request).pool.fetch(sql.load()["provider_list"])
    return Page(data=[_provider(row) for row in rows])


@router.post("", status_code=201, response_model=Provider)
async def add_provider(request: Request, caller: PlatformAdmin, given: NewProvider) -> Response:
    """A place where models can be had. Its key is stored sealed and bound to this address."""
    state = state_of(request)
    if given.adapter not in ADAPTERS or given.adapter == "echo":
        names = ", ".join(name for name in ADAPTERS if name != "echo")
        raise Invalid("adapter", why=f"There is no adapter {given.adapter}; take one of {names}.")
    base_url = checked(given.base_url, private=state.settings.private_providers)
    sealed, last4 = None, None
    if given.secret is not None:
        secret = _header_safe(given.secret)
        sealed, last4 = state.keys.seal(given.name, base_url, secret), _last4(secret)

    async def effect(conn: Connection) -> Done:
        row = await conn.fetchrow(
            sql.load()["provider_add"], given.name, given.adapter, base_url, sealed, last4
        )
        if row is None:
            raise Conflict(
                why=f"There is a provider {given.name} already; remove it first or rename this one."
            )
        return Done(_provider(row), 201, SNAPSHOT)

    detail = {"adapter": given.adapter, "base_url": base_url, "with_secret": sealed is not None}
    act = Act("provider.add", f"provider:{given.name}", None, detail)
    return await write(request, caller, act, effect)


@router.put("/{name}/secret", response_model=Provider)
async def set_secret(
    request: Request, caller: PlatformAdmin, name: ProviderPath, given: NewSecret
) -> Response:
    """Another key for the same address; a request that runs keeps the old one."""
    state, secret = state_of(request), _header_safe(given.secret)

    async def effect(conn: Connection) -> Done:
        query = sql.load()
        present = await conn.fetchrow(query["provider_show"], name)
        if present is None:
            raise NotFound(what="provider", listing="opscenter provider list")
        sealed = state.keys.seal(name, present["base_url"], secret)
        row = await conn.fetchrow(query["provider_secret"], name, sealed, _last4(secret))
        assert row is not None
        return Done(_provider(row), changes=SNAPSHOT)

    return await write(request, caller, Act("provider.secret", f"provider:{name}"), effect)


@router.delete("/{name}", response_model=Removed)
async def remove_provider(request: Request, caller: PlatformAdmin, name: ProviderPath) -> Response:
    """Takes its deployments along; a model without a place is served no more."""

    async def effect(conn: Connection) -> Done:
        if await conn.fetchrow(sql.load()["provider_remove"], name) is None:
            raise NotFound(what="provider", listing="opscenter provider list")
        return Done(Removed(removed=name), changes=SNAPSHOT)

    return await write(request, caller, Act("provider.remove", f"provider:{name}"), effect)


def _provider(row: asyncpg.Record) -> Provider:
    masked = f"…{row['secret_last4']}" if row["secret_last4"] else None
    return Provider.model_validate({**dict(row), "secret": masked})


def _header_safe(given: SecretStr) -> str:
    """It travels in a header, so nothing in it may end one."""
    secret = given.get_secret_value().strip()
    if not re.fullmatch(r"[!-~]+", secret):
        raise Invalid("secret", why="A provider's key is visible ASCII only; copy it again.")
    return secret


def _last4(secret: str) -> str:
    return secret[-4:] if len(secret) >= MASKABLE_MIN else "****"
