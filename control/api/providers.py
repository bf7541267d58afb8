"""Providers: where models can be had. A key goes in sealed and never comes out; only its last four
letters are shown.
"""

import os
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import SecretStr, StrictBool

from control import sql
from control.api import provider_acts
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
from control.api.write import Act, Done, write
from control.database import Connection
from control.providers.keys import SECRET_MAX
from control.providers.table import KINDS, kind_of
from control.state import state_of

router = APIRouter(prefix="/api/v1/llm/admin/providers", tags=["models"])

ProviderPath = Annotated[str, Path(pattern=NAME)]
Secret = Annotated[SecretStr, Field(min_length=1, max_length=SECRET_MAX)]


class NewProvider(Input):
    """`kind` is a row of the table of providers, the name where it is left out; it brings address
    and adapter along."""

    name: Slug
    kind: Slug | None = None
    base_url: Text | None = None
    adapter: Slug | None = None
    secret: Secret | None = None


class NewSecret(Input):
    secret: Secret


class ProviderEdit(Input):
    """What is not sent stays; another `base_url` drops the key, unless `secret` is sent for it."""

    base_url: Text | None = None
    enabled: StrictBool | None = None
    secret: Secret | None = None


class Provider(Output):
    name: str
    kind: str
    adapter: str
    base_url: str
    secret: str | None  # masked
    source: str | None  # of the key: stored, environment
    enabled: bool
    test: str | None  # accepted, limited, refused, unknown, unreachable
    test_said: str | None
    tested_at: datetime | None
    created_at: datetime
    warnings: list[str] = Field(default_factory=list)


class ProviderKind(Output):
    name: str
    title: str
    base_url: str | None
    adapter: str
    variables: list[str]  # of the environment, the first that is set
    variable_set: bool
    prefixes: list[str]  # of keys


@router.get("")
async def list_providers(request: Request, caller: PlatformAnalyst) -> Page[Provider]:
    rows = await provider_acts.rows(state_of(request))
    return Page(data=[Provider.model_validate(provider_acts.shown(row, [])) for row in rows])


@router.get("/kinds")
async def list_kinds(request: Request, caller: PlatformAnalyst) -> Page[ProviderKind]:
    """Those that are known: `provider add` takes each by its name."""
    rows = [
        ProviderKind(
            name=kind.name,
            title=kind.title,
            base_url=kind.base_url or None,
            adapter=kind.adapter,
            variables=list(kind.variables),
            variable_set=any(map(os.environ.get, kind.variables)),
            prefixes=list(kind.prefixes),
        )
        for kind in KINDS.values()
    ]
    return Page(data=rows)


@router.post("", status_code=201, response_model=Provider)
async def add_provider(request: Request, caller: PlatformAdmin, given: NewProvider) -> Response:
    """A place where models can be had. Its key is stored sealed and bound to this address; without
    one, the provider's usual variable of the environment is used."""
    kind = provider_acts.known(given.kind) if given.kind else kind_of(given.name)
    return await provider_acts.add(
        request,
        caller,
        Provider,
        given.name,
        kind or KINDS["compatible"],
        given.base_url,
        given.secret,
        given.adapter,
    )


@router.patch("/{name}", response_model=Provider)
async def edit_provider(
    request: Request, caller: PlatformAdmin, name: ProviderPath, given: ProviderEdit
) -> Response:
    """Its address, its key, and whether it is used; for requests from now on."""
    return await provider_acts.edit(
        request,
        caller,
        Provider,
        name,
        base_url=given.base_url,
        enabled=given.enabled,
        secret=given.secret,
    )


@router.put("/{name}/secret", response_model=Provider)
async def set_secret(
    request: Request, caller: PlatformAdmin, name: ProviderPath, given: NewSecret
) -> Response:
    """Another key for the same address; a request that runs keeps the old one."""
    return await provider_acts.edit(request, caller, Provider, name, secret=given.secret)


@router.post("/{name}/test", response_model=Provider)
async def test_provider(request: Request, caller: PlatformAdmin, name: ProviderPath) -> Response:
    """Asks the provider whether its key works, by a call that costs nothing."""
    return await provider_acts.test(request, caller, Provider, name)


@router.delete("/{name}", response_model=Removed)
async def remove_provider(request: Request, caller: PlatformAdmin, name: ProviderPath) -> Response:
    """Takes its deployments along; a model without a place is served no more."""

    async def effect(conn: Connection) -> Done:
        if await conn.fetchrow(sql.load()["provider_remove"], name) is None:
            raise provider_acts.missing()
        return Done(Removed(removed=name), changes=provider_acts.SNAPSHOT)

    return await write(request, caller, Act("provider.remove", f"provider:{name}"), effect)
