"""What models there are in the world: all that is known, where each price comes from, and the
providers' own lists asked on demand.
"""

from datetime import datetime
from typing import Annotated, Any

import asyncpg
from fastapi import APIRouter, Path, Query, Request, Response

from control import sql
from control.api.models import SNAPSHOT, shown_rates
from control.api.shapes import (
    MODEL,
    Input,
    Limit,
    Output,
    Page,
    PlatformAdmin,
    PlatformAnalyst,
    Slug,
)
from control.api.write import Act, Done, write
from control.catalogue import refresh
from control.database import Connection
from control.errors import NotFound
from control.state import state_of
from proxy.costs.price import KINDS, read_price
from proxy.reach.dial import trust

router = APIRouter(prefix="/api/v1/llm/admin/catalogue", tags=["models"])

ModelPath = Annotated[str, Path(pattern=MODEL)]
Search = Annotated[str | None, Query(min_length=1, max_length=100)]
Cursor = Annotated[str, Query(max_length=300)]


class Tier(Output):
    above: int  # tokens in
    prices: dict[str, str]


class PriceFound(Output):
    """One layer: who says so, since when, and what it says in dollars per million."""

    source: str  # admin, list or package
    note: str
    at: str | None  # a moment, or the day from which it holds
    prices: dict[str, str]
    tiers: list[Tier]


class Known(Output):
    """`price` is the one in force; null: it has none, and `why_unpriced` says why."""

    id: str
    provider: str
    upstream_model: str
    name: str
    kind: str
    modalities: dict[str, list[str]]
    thinks: bool
    context_max: int | None
    output_max: int | None
    free: bool
    served: bool  # its provider is here, so it can be had
    retired: bool
    seen_at: datetime | None  # when its provider's list had it last
    gone_at: datetime | None  # since when that has it no more
    price: PriceFound | None
    why_unpriced: str


class KnownWhole(Known):
    covers: list[str]  # the kinds of calls that its price can charge
    same_as: str  # whose price it has, being the same with a date
    layers: list[PriceFound]  # all that say a price, the first one counts
    versions: list[PriceFound]  # by which requests were or are charged, newest first


class Source(Output):
    name: str  # package, or list:<provider>
    note: str  # the package's version, or what was wrong with the list
    models: int
    at: datetime


class Refresh(Input):
    provider: Slug | None = None  # all, when none is named


class Refreshed(Output):
    provider: str
    models: int
    new: int
    problem: str  # why its list could not be had; what was known of it stays


@router.get("")
async def list_catalogue(
    request: Request,
    caller: PlatformAnalyst,
    provider: Slug | None = None,
    search: Search = None,
    free: bool | None = None,
    priced: bool | None = None,
    served: bool | None = None,
    cursor: Cursor = "",
    limit: Limit = 100,
) -> Page[Known]:
    """All models that are known, by id; also those that cannot be had here."""
    given = (cursor, provider, search, free, priced, served, limit + 1)
    rows = await state_of(request).pool.fetch(sql.load()["catalogue_list"], *given)
    found = [Known.model_validate(_known(row)) for row in rows[:limit]]
    return Page(data=found, next=found[-1].id if len(rows) > limit else None)


@router.get("/sources")
async def list_sources(request: Request, caller: PlatformAnalyst) -> Page[Source]:
    """From where the catalogue is, and when it was taken from there."""
    rows = await state_of(request).pool.fetch(sql.load()["catalogue_source_list"])
    return Page(data=[Source.model_validate(dict(row)) for row in rows])


@router.get("/models/{model:path}")
async def show_known(request: Request, caller: PlatformAnalyst, model: ModelPath) -> KnownWhole:
    """One model with every layer of its price: an administrator's, its provider's own list's, the
    package's; the first one counts."""
    query, pool = sql.load(), state_of(request).pool
    row = await pool.fetchrow(query["catalogue_show"], model)
    if row is None:
        raise NotFound(what="model", listing="opscenter models catalogue")
    versions = await pool.fetch(query["price_history"], model, 20)
    shown, layers = _known(row), _layers(row)
    in_force = row["price"] if row["own_rates"] is None else {"rates": row["own_rates"]}
    price = in_force and read_price(0, {"tiers": [], "factor_ppm": 0, **in_force})
    return KnownWhole.model_validate(
        {
            **shown,
            "covers": [kind for kind in KINDS if price and price.covers(kind)],
            "same_as": row["same_as"],
            "layers": layers,
            "versions": [_version(one) for one in versions],
        }
    )


@router.post("/refresh", response_model=Page[Refreshed])
async def refresh_catalogue(request: Request, caller: PlatformAdmin, given: Refresh) -> Response:
    """Asks providers for their lists now. Models that are new to us and have no price are known
    and not served; those that a list has no more are served no more."""
    state = state_of(request)
    rows = await refresh.providers(state.pool, given.provider)
    if given.provider and not rows:
        raise NotFound("provider", what="provider", listing="opscenter provider list")
    asked = await refresh.ask(rows, state.keys, trust(state.settings.upstream_ca_file))

    async def effect(conn: Connection) -> Done:
        new = await refresh.keep(conn, asked)
        told = [
            Refreshed(
                provider=one.provider,
                models=len(one.models),
                new=new.get(one.provider, 0),
                problem=one.problem,
            )
            for one in asked
        ]
        return Done(Page[Refreshed](data=told), changes=SNAPSHOT)

    detail = {"providers": [one.provider for one in asked]}
    return await write(request, caller, Act("catalogue.refresh", "catalogue", None, detail), effect)


# Shapes -------------------------------------------------------------------------------


def _known(row: asyncpg.Record) -> dict[str, Any]:
    layers = _layers(row)
    rates = row["own_rates"] or (row["price"] or {}).get("rates")
    return {
        **dict(row),
        "modalities": {"input": row["takes"], "output": row["gives"]},
        "free": rates is not None and not any(rates.values()),
        "price": layers[0] if layers else None,
        "why_unpriced": "" if layers else row["why_unpriced"],
    }


def _layers(row: asyncpg.Record) -> list[PriceFound]:
    found = []
    if row["own_rates"] is not None:
        at = row["own_at"].isoformat()
        found.append(_price("admin", "", at, row["own_rates"], row["own_tiers"]))
    if (listed := row["listed"]) is not None:
        seen = row["seen_at"].isoformat() if row["seen_at"] else None
        note = listed.get("note", "")
        found.append(_price("list", note, seen, listed["rates"], listed["tiers"]))
    for one in reversed(row["package"]):
        note = "; ".join(filter(None, (row["package_of"], one["note"])))
        found.append(_price("package", note, one["from"], one["rates"], one["tiers"]))
    today = datetime.now().astimezone().date().isoformat()
    return [one for one in found if one.source != "package" or (one.at or "") <= today]


def _version(row: asyncpg.Record) -> PriceFound:
    note = "; ".join(filter(None, (f"version {row['version']}", row["note"])))
    at = row["created_at"].isoformat()
    return _price(row["source"], note, at, row["rates"], row["tiers"])


def _price(source: str, note: str, at: str | None, rates: Any, tiers: Any) -> PriceFound:
    higher = [Tier(above=one["above"], prices=shown_rates(one["rates"])) for one in tiers]
    return PriceFound(source=source, note=note, at=at, prices=shown_rates(rates), tiers=higher)
