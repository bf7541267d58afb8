"""Models: what the door serves, where each can be had and what it costs."""

from collections.abc import Mapping
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
from control.errors import Conflict, Invalid, NotFound
from control.money import rate_to_dollars
from control.state import state_of
from proxy.costs.price import KINDS, SIDES, UNITS, Price, unknown
from proxy.costs.pricing import PER_MILLION

router = APIRouter(prefix="/api/v1/llm/admin/models", tags=["models"])

SNAPSHOT = (Change("snapshot"),)

ModelPath = Annotated[str, Path(pattern=MODEL)]


class NewModel(Input):
    """`prices` are dollars as text: per million tokens, and per million of what is no token."""

    id: ModelId
    provider: Slug
    upstream_model: Text
    prices: Annotated[dict[str, RateIn], Field(min_length=1, max_length=40)]
    context_max: Tokens
    output_max: Tokens


Prices = Annotated[dict[str, RateIn], Field(min_length=1, max_length=40)]


class NewTier(Input):
    above: Tokens
    prices: Prices


class ModelEdit(Input):
    """Fields that are not sent stay as they are. `prices` replace all prices of the model;
    `catalogue_price` takes them back, so that the catalogue's hold again."""

    prices: Prices | None = None
    tiers: Annotated[list[NewTier], Field(max_length=10)] | None = None
    catalogue_price: StrictBool = False
    context_max: Tokens | None = None
    output_max: Tokens | None = None
    thinks: StrictBool | None = None
    enabled: StrictBool | None = None
    byok_enabled: StrictBool | None = None  # whether keys of one's own serve it


class Place(Output):
    provider: str
    upstream_model: str
    enabled: bool


class ShownTier(Output):
    above: int  # tokens in
    prices: dict[str, str]


class Model(Output):
    id: str
    context_max: int
    output_max: int
    thinks: bool  # gives out tokens that no stream shows, so its streams are held whole
    output_assumed: bool  # nobody says its maximum, so this one is sent along
    enabled: bool
    byok_enabled: bool  # keys of one's own serve it
    source: str  # admin or catalogue
    created_at: datetime
    deployments: list[Place]
    prices: dict[str, str] | None  # dollars per million
    tiers: list[ShownTier]  # where more tokens come in
    price_version: int | None
    price_source: str | None  # admin, list (the provider's own) or package
    price_note: str | None
    price_at: datetime | None


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
        await conn.execute(query["price_add"], given.id, given.prices, [])
        return Done(_model(await conn.fetchrow(query["model_list"], given.id)), 201, SNAPSHOT)

    act = Act("model.add", f"model:{given.id}", None, given.model_dump(mode="json"))
    return await write(request, caller, act, effect)


@router.patch("/{model:path}", response_model=Model)
async def edit_model(
    request: Request, caller: PlatformAdmin, model: ModelPath, given: ModelEdit
) -> Response:
    """Its prices and limits, whether it thinks, whether it is served, and also by keys of one's
    own; from now on."""
    facts = (given.context_max, given.output_max, given.thinks)
    wanted = (*facts, given.enabled, given.byok_enabled)
    tiers = [{"above": one.above, "rates": one.prices} for one in given.tiers or ()]
    if given.prices is not None:
        _complete(given.prices, *(one.prices for one in given.tiers or ()))
    elif tiers:
        raise Invalid("tiers", why="Tiers need the prices beside them that hold below.")

    async def effect(conn: Connection) -> Done:
        query = sql.load()
        if await conn.fetchrow(query["model_edit"], model, *wanted) is None:
            raise NotFound(what="model", listing="opscenter models list")
        if given.prices is not None:
            await conn.execute(query["price_add"], model, given.prices, tiers)
        elif given.catalogue_price and not await conn.fetchval(query["price_reset"], model):
            raise Conflict(why=f"The catalogue has no price for {model}.")
        return Done(_model(await conn.fetchrow(query["model_list"], model)), changes=SNAPSHOT)

    detail = given.model_dump(exclude_none=True)
    return await write(request, caller, Act("model.edit", f"model:{model}", None, detail), effect)


@router.delete("/{model:path}", response_model=Removed)
async def remove_model(request: Request, caller: PlatformAdmin, model: ModelPath) -> Response:
    """It is served no more; its prices and its usage stay on record. One that the catalogue brings
    would come again: it is switched off instead."""

    async def effect(conn: Connection) -> Done:
        known = await conn.fetchrow(sql.load()["catalogue_show"], model)
        if known is not None and known["served"]:
            raise Conflict(why=f"The catalogue brings {model}: opscenter models edit --no-enabled.")
        if await conn.fetchrow(sql.load()["model_remove"], model) is None:
            raise NotFound(what="model", listing="opscenter models list")
        return Done(Removed(removed=model), changes=SNAPSHOT)

    return await write(request, caller, Act("model.remove", f"model:{model}"), effect)


def _complete(*prices: dict[str, int]) -> None:
    """Each class is known, and some kind of call can be charged."""
    for one in prices:
        price = Price(0, one, PER_MILLION)
        if unknown(one) or not any(price.covers(kind) for kind in KINDS):
            known = ", ".join([*SIDES, *UNITS])
            raise Invalid(
                "prices",
                why="Prices need input and output, or what else a call is charged by;"
                f" known classes are {known}.",
            )


def shown_rates(rates: Mapping[str, int]) -> dict[str, str]:
    """Dollars for a million of each."""
    return {name: rate_to_dollars(rate) for name, rate in rates.items()}


def _model(row: asyncpg.Record | None) -> Model:
    assert row is not None
    prices, tiers = None, []
    if row["rates"] is not None:
        prices = shown_rates(_charged(row["rates"], row))
        tiers = [
            {"above": one["above"], "prices": shown_rates(_charged(one["rates"], row))}
            for one in row["tiers"]
        ]
    return Model.model_validate({**dict(row), "prices": prices, "tiers": tiers})


def _charged(rates: Mapping[str, int], row: asyncpg.Record) -> dict[str, int]:
    """With the markup, as it is charged."""
    return {name: rate * row["factor_ppm"] // PER_MILLION for name, rate in rates.items()}
