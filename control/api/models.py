"""Models: what the door serves, where each can be had and what it costs."""

from datetime import datetime
from typing import Annotated

import asyncpg
from fastapi import APIRouter, Path, Request, Response
from pydantic import StrictBool

from control import sql
from control.api.shapes import (
    MODEL,
    Field,
    Input,
    ModelId,
    Output,
    Page,
    PlatformAdmin,
    PlatformAnalyst,
    RateIn,
    Removed,
    Slug,
    Text,
    Tokens,
)
from control.api.write import Act, Change, Done, write
from control.database import Connection
from control.errors import Invalid, NotFound
from control.money import rate_to_dollars
from control.state import state_of
from proxy.price import SIDES, UNITS, unknown
from proxy.pricing import PER_MILLION

router = APIRouter(prefix="/api/v1/llm/admin/models", tags=["models"])

SNAPSHOT = (Change("snapshot"),)

ModelPath = Annotated[str, Path(pattern=MODEL)]


class NewModel(Input):
    """`prices` are dollars per million tokens, as text; `input` and `output` must be there."""

    id: ModelId
    provider: Slug
    upstream_model: Text
    prices: Annotated[dict[str, RateIn], Field(min_length=2, max_length=20)]
    context_max: Tokens
    output_max: Tokens


class ModelEdit(Input):
    """Fields that are not sent stay as they are."""

    context_max: Tokens | None = None
    output_max: Tokens | None = None
    thinks: StrictBool | None = None
    enabled: StrictBool | None = None


class Place(Output):
    provider: str
    upstream_model: str
    enabled: bool


class Model(Output):
    id: str
    context_max: int
    output_max: int
    thinks: bool  # gives out tokens that no stream shows, so its streams are held whole
    enabled: bool
    created_at: datetime
    deployments: list[Place]
    prices: dict[str, str] | None  # dollars per million tokens
    price_version: int | None


@router.get("")
async def list_models(request: Request, caller: PlatformAnalyst) -> Page[Model]:
    rows = await state_of(request).pool.fetch(sql.load()["model_list"], None)
    return Page(data=[_model(row) for row in rows])


@router.post("", status_code=201, response_model=Model)
async def add_model(request: Request, caller: PlatformAdmin, given: NewModel) -> Response:
    """A model at a provider with its price. Again for another provider: a further place; again
    with other prices: they hold for requests from now on, what was charged stays as it was."""
    _complete(given.prices)

    async def effect(conn: Connection) -> Done:
        query = sql.load()
        if await conn.fetchrow(query["provider_show"], given.provider) is None:
            raise NotFound("provider", what="provider", listing="opscenter provider list")
        await conn.execute(query["model_put"], given.id, given.context_max, given.output_max)
        await conn.execute(query["deployment_put"], given.id, given.provider, given.upstream_model)
        await conn.execute(query["price_add"], given.id, given.prices)
        return Done(_model(await conn.fetchrow(query["model_list"], given.id)), 201, SNAPSHOT)

    act = Act("model.add", f"model:{given.id}", None, given.model_dump(mode="json"))
    return await write(request, caller, act, effect)


@router.patch("/{model:path}", response_model=Model)
async def edit_model(
    request: Request, caller: PlatformAdmin, model: ModelPath, given: ModelEdit
) -> Response:
    """Its limits, whether it thinks, and whether it is served; for requests from now on."""
    wanted = (given.context_max, given.output_max, given.thinks, given.enabled)

    async def effect(conn: Connection) -> Done:
        query = sql.load()
        if await conn.fetchrow(query["model_edit"], model, *wanted) is None:
            raise NotFound(what="model", listing="opscenter models list")
        return Done(_model(await conn.fetchrow(query["model_list"], model)), changes=SNAPSHOT)

    detail = given.model_dump(exclude_none=True)
    return await write(request, caller, Act("model.edit", f"model:{model}", None, detail), effect)


@router.delete("/{model:path}", response_model=Removed)
async def remove_model(request: Request, caller: PlatformAdmin, model: ModelPath) -> Response:
    """It is served no more; its prices and its usage stay on record."""

    async def effect(conn: Connection) -> Done:
        if await conn.fetchrow(sql.load()["model_remove"], model) is None:
            raise NotFound(what="model", listing="opscenter models list")
        return Done(Removed(removed=model), changes=SNAPSHOT)

    return await write(request, caller, Act("model.remove", f"model:{model}"), effect)


def _complete(prices: dict[str, int]) -> None:
    if unknown(prices) or not {"input", "output"} <= set(prices):
        known = ", ".join([*SIDES, *UNITS])
        raise Invalid("prices", why=f"Prices need input and output; known classes are {known}.")


def _model(row: asyncpg.Record | None) -> Model:
    assert row is not None
    rates = row["rates"]
    prices = (
        {name: rate_to_dollars(_charged(rate, row)) for name, rate in rates.items()}
        if rates is not None
        else None
    )
    return Model.model_validate({**dict(row), "prices": prices})


def _charged(rate: int, row: asyncpg.Record) -> int:
    """With the markup, as it is charged."""
    charged: int = rate * row["factor_ppm"] // PER_MILLION
    return charged
