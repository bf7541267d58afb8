"""The catalogue: known at once, served where its provider is, priced in layers."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from control import sql
from control.catalogue import keep, package, refresh, store
from control.catalogue.fields import Listed
from control.catalogue.refresh import Asked
from proxy.snapshot import build
from proxy.types import Snapshot
from tests.control_stage import Reply, Stage, stage

CATALOGUE = "/api/v1/llm/admin/catalogue"
PROVIDERS = "/api/v1/llm/admin/providers"
MODELS = "/api/v1/llm/admin/models"
PER_MILLION = 1_000_000_000  # ucr of a dollar


@pytest.fixture(scope="session")
def rows() -> list[package.Row]:
    """What the package says, read once: 0.5 s."""
    return package.rows()


@pytest.fixture
async def api(
    home: Path, database_url: str, redis_url: str, rows: list[package.Row]
) -> AsyncIterator[Stage]:
    few = [row for row in rows if row["provider"] in ("openai", "x-ai", "anthropic")]
    async with stage(home, database_url, redis_url) as made:
        async with made.state.pool.acquire() as conn:
            await store.fill(conn, orjson.dumps(few))
        yield made.at_home


async def provider(api: Stage, name: str) -> Reply:
    made = await api.post(PROVIDERS, {"name": name, "base_url": "https://api.acme.test/v1"})
    assert made.status == 201, made.body
    return made


async def served(api: Stage) -> Snapshot:
    found = await api.state.pool.fetch(sql.load()["snapshot_models"])
    return build(1, orjson.dumps([dict(row) for row in found]), api.state.keys)


async def heard(api: Stage, name: str, *models: Listed) -> None:
    async with api.state.pool.acquire() as conn:
        await store.merge(conn, name, models)


# What comes with the product ----------------------------------------------------------


def test_more_than_1300_models_come_with_a_price(rows: list[package.Row]) -> None:
    ours = {"openai", "anthropic", "google", "openrouter", "groq", "x-ai"}
    ours |= {"cohere", "together", "mistral", "huggingface"}
    priced = [row for row in rows if row["provider"] in ours and row["prices"]]
    assert len(priced) >= 1_300
    assert {row["provider"] for row in priced} == ours


@pytest.mark.parametrize(
    ("id", "price"),
    [
        ("openai/gpt-4o", {"input": "2.5", "cache_read": "1.25", "output": "10"}),
        ("openai/gpt-4o-2024-08-06", {"input": "2.5", "cache_read": "1.25", "output": "10"}),
        ("anthropic/claude-sonnet-4-5", {"cache_write": "3.75", "cache_write_1h": "6"}),
        ("anthropic/claude-sonnet-4-5-20250929", {"input": "3", "output": "15"}),
        ("google/gemini-2.5-flash", {"input": "0.3", "audio_in": "1", "cache_audio_in": "0.1"}),
        ("openai/gpt-4o-audio-preview", {"audio_in": "40", "audio_out": "80", "output": "10"}),
        ("openai/tts-1", {"characters": "15"}),
        ("cohere/command-a", {"input": "2.5", "output": "10"}),
        ("mistral/mistral-ocr-2505", {"pages": "1000", "pages/annotated": "3000"}),
        ("groq/whisper-large-v3", {"seconds": "111000"}),
        ("openai/dall-e-3", {"images/hd/1024x1792": "120000"}),
        ("openai/omni-moderation-latest", {"input": "0"}),
        ("openrouter/allenai/molmo-7b-d:free", {"input": "0", "output": "0"}),
    ],
)
def test_prices_are_the_lists_to_the_last_digit(
    rows: list[package.Row], id: str, price: dict[str, str]
) -> None:
    """Dollars for a million; an hour of sound is a million of hours here."""
    [row] = [row for row in rows if f"{row['provider']}/{row['upstream_model']}" == id]
    in_force = row["prices"][0]["rates"]
    scaled = {name: str(in_force[name] / PER_MILLION).removesuffix(".0") for name in price}
    assert scaled == price


def test_an_empty_price_is_none(rows: list[package.Row]) -> None:
    """Only what says in its name that it is free is free."""
    unpriced = {r["upstream_model"] for r in rows if not r["prices"]}
    assert "gemma-3" in unpriced
    assert not any(name.endswith(":free") for name in unpriced)
    assert "openai/gpt-audio" in unpriced  # at a router that says no price of sound
    assert all(row["why_unpriced"] for row in rows if not row["prices"])


def test_prices_by_tier_and_by_day_are_kept(rows: list[package.Row]) -> None:
    """What held before is not, what will hold is."""
    found = {f"{r['provider']}/{r['upstream_model']}": r["prices"] for r in rows}
    [tier] = found["anthropic/claude-sonnet-4-5"][0]["tiers"]
    assert (tier["above"], tier["rates"]["output"]) == (200_000, 22_500_000_000)
    assert found["openai/o3"][0]["rates"]["input"] == 2_000_000_000
    assert all(one["from"] for prices in found.values() for one in prices[1:])


# Known and served -----------------------------------------------------------------------


async def test_a_model_is_known_at_once_and_served_with_its_provider(api: Stage) -> None:
    known = (await api.get(f"{CATALOGUE}?provider=openai&limit=500")).json["data"]
    assert len(known) > 100
    assert not any(one["served"] for one in known)
    assert set((await served(api)).models) == {"ops/echo"}
    await provider(api, "openai")
    models = (await served(api)).models
    gpt = models["openai/gpt-4o"]
    assert gpt.price is not None
    assert gpt.price.rates["output"] == 10_000_000_000
    assert (gpt.context_max, gpt.output_max, gpt.output_assumed) == (128_000, 16_384, False)
    assert (gpt.takes, gpt.gives) == (("text", "image"), ("text",))
    assert not any(id.startswith("x-ai/") for id in models)
    await api.delete(f"{PROVIDERS}/openai")
    assert set((await served(api)).models) == {"ops/echo"}


async def test_a_provider_may_have_another_name_here(api: Stage) -> None:
    await provider(api, "xai")
    world = await served(api)
    grok = world.models["x-ai/grok-3"]
    assert [place.provider for place in grok.deployments] == ["xai"]
    for name in ("grok-3", "xai/grok-3", "x-ai:grok-3", "xai:grok-3"):
        assert world.names[name] is grok
    assert grok.output_assumed  # nobody says its maximum


async def test_filling_again_changes_nothing_and_tells_nobody(
    api: Stage, rows: list[package.Row]
) -> None:
    await provider(api, "x-ai")
    few = [row for row in rows if row["provider"] == "x-ai"]
    async with api.state.pool.acquire() as conn:
        versions = "SELECT (SELECT version FROM snapshot), (SELECT count(*) FROM price)"
        before = await conn.fetchrow(versions)
        assert await store.is_filled(conn)
        await store.fill(conn, orjson.dumps(few))
        assert await conn.fetchrow(versions) == before


async def test_the_list_can_be_searched_and_paged(api: Stage) -> None:
    first = (await api.get(f"{CATALOGUE}?search=GROK-3&limit=2")).json
    assert [one["id"] for one in first["data"]] == ["x-ai/grok-3", "x-ai/grok-3-beta"]
    second = (await api.get(f"{CATALOGUE}?search=GROK-3&limit=2&cursor={first['next']}")).json
    assert second["data"][0]["id"] == "x-ai/grok-3-fast"
    free = (await api.get(f"{CATALOGUE}?free=true")).json["data"]
    assert {one["id"].partition("-")[0] for one in free} == {"openai/omni", "openai/text"}
    assert (await api.get(f"{CATALOGUE}?priced=false")).json["data"]
    assert (await api.get(f"{CATALOGUE}/models/x-ai/none")).status == 404


async def test_the_first_start_reads_the_package_in_a_process_of_its_own(
    home: Path, database_url: str, redis_url: str
) -> None:
    """Once for each version of it; a second control plane finds it done."""
    async with stage(home, database_url, redis_url) as api:
        pool = api.state.pool
        assert await keep.fill(pool)
        counted = "SELECT count(*) FROM catalogue c WHERE catalogue_price(c) IS NOT NULL"
        assert await pool.fetchval(counted) > 3_000
        at = await pool.fetchval("SELECT at FROM catalogue_source")
        assert await keep.fill(pool)
        assert await pool.fetchval("SELECT at FROM catalogue_source") == at


# Layers of prices -------------------------------------------------------------------------


async def shown(api: Stage, id: str = "x-ai/grok-3") -> Any:
    return (await api.get(f"{CATALOGUE}/models/{id}")).json


async def charged(api: Stage) -> tuple[int, str]:
    price = (await served(api)).models["x-ai/grok-3"].price
    [model] = [m for m in (await api.get(MODELS)).json["data"] if m["id"] == "x-ai/grok-3"]
    assert price is not None
    return price.rates["input"] // 1_000_000, model["price_source"]


async def test_an_administrators_price_comes_before_the_lists_and_that_before_the_package(
    api: Stage,
) -> None:
    """Each change is a further version, the same list again is none; taken back, the next layer
    holds again."""
    await provider(api, "x-ai")
    assert await charged(api) == (3_000, "package")
    for _ in range(3):
        await heard(api, "x-ai", Listed("grok-3", rates={"input": 4_000_000_000, "output": 1}))
    assert await charged(api) == (4_000, "list")
    own = {"prices": {"input": "5", "output": "6"}}
    assert (await api.patch(f"{MODELS}/x-ai/grok-3", own)).status == 200
    assert await charged(api) == (5_000, "admin")
    await heard(api, "x-ai", Listed("grok-3", rates={"input": 7_000_000_000, "output": 1}))
    assert await charged(api) == (5_000, "admin")
    assert [one["source"] for one in (await shown(api))["layers"]] == ["admin", "list", "package"]
    assert (await api.patch(f"{MODELS}/x-ai/grok-3", {"catalogue_price": True})).status == 200
    assert await charged(api) == (7_000, "list")
    assert [one["source"] for one in (await shown(api))["versions"]] == [
        *("list", "admin", "list", "package"),
    ]


async def test_a_price_begins_on_its_day(api: Stage, rows: list[package.Row]) -> None:
    await provider(api, "x-ai")
    [row] = [r for r in rows if r["upstream_model"] == "grok-3" and r["provider"] == "x-ai"]
    later = {"from": "2999-01-01", "rates": {"input": 1, "output": 1}, "tiers": [], "note": ""}
    begun = {**later, "from": "2020-01-01", "rates": {"input": 9_000_000_000, "output": 1}}
    async with api.state.pool.acquire() as conn:
        prices = [*row["prices"], begun, later]
        await store.fill(conn, orjson.dumps([{**row, "prices": prices}]))
    assert await charged(api) == (9_000, "package")


async def test_a_price_that_charges_no_kind_of_call_is_refused(api: Stage) -> None:
    """Tiers can be set too."""
    await provider(api, "x-ai")
    for names in ("outptu", "cache_read", "output", "", "input seconds/x"):
        prices = dict.fromkeys(names.split(), "1")
        answer = await api.patch(f"{MODELS}/x-ai/grok-3", {"prices": prices})
        assert answer.status in (400, 422), prices
    own = {"prices": {"input": "1", "output": "2"}}
    higher = [{"above": 1000, "prices": {"input": "2", "output": "4"}}]
    assert (await api.patch(f"{MODELS}/x-ai/grok-3", {**own, "tiers": higher})).status == 200
    assert (await api.patch(f"{MODELS}/x-ai/grok-3", {"tiers": higher})).status == 400
    price = (await served(api)).models["x-ai/grok-3"].price
    assert price is not None
    assert [(tier.above, tier.rates["output"]) for tier in price.tiers] == [(1000, 4_000_000_000)]


async def test_what_an_administrator_switched_off_stays_off(api: Stage) -> None:
    await provider(api, "x-ai")
    assert (await api.delete(f"{MODELS}/x-ai/grok-3")).status == 409
    assert (await api.patch(f"{MODELS}/x-ai/grok-3", {"enabled": False})).status == 200
    await heard(api, "x-ai", Listed("grok-3"))
    assert "x-ai/grok-3" not in (await served(api)).models


# Providers' own lists -----------------------------------------------------------------------


async def test_a_list_adds_what_is_new_and_takes_away_what_is_gone(api: Stage) -> None:
    """A new model without a price is known, and told to be unpriced when it is called."""
    await provider(api, "x-ai")
    await heard(api, "x-ai", Listed("grok-99", context_max=9, output_max=7), Listed("GROK-3"))
    models = (await served(api)).models
    assert set(models) == {"ops/echo", "x-ai/grok-99", "x-ai/grok-3"}
    new = models["x-ai/grok-99"]
    assert (new.price, new.context_max, new.output_max) == (None, 9, 7)
    gone = await shown(api, "x-ai/grok-4.3")
    assert (gone["served"], gone["gone_at"] is None) == (False, False)
    assert (await shown(api, "x-ai/grok-99"))["why_unpriced"]


async def test_a_name_with_a_date_costs_what_the_one_without_does(api: Stage) -> None:
    """And the one without stays, although the list has only those with dates."""
    await provider(api, "anthropic")
    await heard(api, "anthropic", Listed("claude-sonnet-4-5-20991231"))
    models = (await served(api)).models
    assert set(models) == {
        *("ops/echo", "anthropic/claude-sonnet-4-5", "anthropic/claude-sonnet-4-5-20991231")
    }
    dated, plain = (models[f"anthropic/claude-sonnet-4-5{end}"] for end in ("-20991231", ""))
    assert dated.price is not None
    assert plain.price is not None
    assert dated.price.rates == plain.price.rates
    assert (await shown(api, dated.id))["same_as"] == "claude-sonnet-4-5"


async def test_a_list_that_cannot_be_had_changes_nothing(api: Stage) -> None:
    await provider(api, "x-ai")
    before = set((await served(api)).models)
    async with api.state.pool.acquire() as conn:
        await refresh.keep(conn, [Asked("x-ai", "x-ai", problem="it answers with status 401")])
    assert set((await served(api)).models) == before
    sources = {one["name"]: one for one in (await api.get(f"{CATALOGUE}/sources")).json["data"]}
    assert sources["list:x-ai"]["note"] == "it answers with status 401"
    assert sources["package"]["models"] > 100
