"""The platform's own keys for providers, as one list of keys: the same rows as those of providers.

What is stored counts before the environment; of a key only the last four letters are shown.
"""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import Field, StrictBool

from control.api import provider_acts
from control.api.providers import Secret
from control.api.shapes import NAME, Input, Output, Page, PlatformAdmin, PlatformAnalyst, Slug, Text
from control.state import state_of

router = APIRouter(prefix="/api/v1/llm/admin/system-keys", tags=["models"])

IdPath = Annotated[str, Path(pattern=NAME)]


class NewSystemKey(Input):
    """`provider` is a kind of the table of providers; `name` tells two of one kind apart."""

    provider: Slug
    key: Secret | None = None
    name: Slug | None = None
    base_url: Text | None = None


class SystemKeyEdit(Input):
    """What is not sent stays; another `base_url` drops the key, unless `key` is sent for it."""

    key: Secret | None = None
    base_url: Text | None = None
    enabled: StrictBool | None = None


class SystemKey(Output):
    id: Annotated[str, Field(validation_alias="name")]
    provider: Annotated[str, Field(validation_alias="kind")]
    base_url: str
    key: Annotated[str | None, Field(validation_alias="secret")]  # masked
    source: str | None  # stored, environment
    enabled: bool
    test: str | None  # accepted, limited, refused, unknown, unreachable
    test_said: str | None
    tested_at: datetime | None
    created_at: datetime
    warnings: list[str] = Field(default_factory=list)


@router.get("")
async def list_system_keys(request: Request, caller: PlatformAnalyst) -> Page[SystemKey]:
    """Every provider with its key, masked, and where that is from."""
    rows = await provider_acts.rows(state_of(request))
    return Page(data=[SystemKey.model_validate(provider_acts.shown(row, [])) for row in rows])


@router.post("", status_code=201, response_model=SystemKey)
async def add_system_key(request: Request, caller: PlatformAdmin, given: NewSystemKey) -> Response:
    """A provider with its key; for one that is there already, edit it."""
    kind = provider_acts.known(given.provider)
    name, url = given.name or kind.name, given.base_url
    return await provider_acts.add(request, caller, SystemKey, name, kind, url, given.key)


@router.patch("/{id}", response_model=SystemKey)
@router.put("/{id}", response_model=SystemKey)
async def edit_system_key(
    request: Request, caller: PlatformAdmin, id: IdPath, given: SystemKeyEdit
) -> Response:
    """Another key, another address, on or off; in force for the next request."""
    return await provider_acts.edit(
        request,
        caller,
        SystemKey,
        id,
        base_url=given.base_url,
        enabled=given.enabled,
        secret=given.key,
    )


@router.post("/{id}/test", response_model=SystemKey)
async def test_system_key(request: Request, caller: PlatformAdmin, id: IdPath) -> Response:
    """Asks the provider whether the key works, by a call that costs nothing."""
    return await provider_acts.test(request, caller, SystemKey, id)


@router.delete("/{id}", response_model=SystemKey)
async def remove_system_key(request: Request, caller: PlatformAdmin, id: IdPath) -> Response:
    """Forgets the key that was stored. The provider stays, with the environment's where there is
    one; `DELETE /api/v1/llm/admin/providers/{name}` takes it away."""
    return await provider_acts.edit(request, caller, SystemKey, id, without_key=True)
