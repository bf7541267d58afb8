"""Providers and models over the control API: keys sealed, prices exact, the snapshot published."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.control_stage import Reply, Stage, stage

PROVIDERS = "/api/v1/llm/admin/providers"
MODELS = "/api/v1/llm/admin/models"
SECRET = "sk-canary-0123456789abcdef"
PROVIDER = {"name": "acme", "base_url": "https://api.acme.test/v1", "secret": SECRET}
MODEL = {
    "id": "acme/large",
    "provider": "acme",
    "upstream_model": "large-1",
    "prices": {"input": "0.15", "output": "0.6", "cache_read": "0.075"},
    "context_max": 1000,
    "output_max": 100,
}


@pytest.fixture
async def api(home: Path, database_url: str, redis_url: str) -> AsyncIterator[Stage]:
    async with stage(home, database_url, redis_url) as made:
        yield made


async def with_provider(api: Stage) -> Reply:
    made = await api.post(PROVIDERS, PROVIDER)
    assert made.status == 201, made.body
    return made


async def test_a_providers_key_goes_in_and_never_comes_out(api: Stage) -> None:
    made = await with_provider(api)
    listed = await api.get(PROVIDERS)
    assert made.json["secret"] == "…cdef"
    assert SECRET.encode() not in made.body + listed.body
    audit = await api.state.pool.fetchval("SELECT string_agg(a::text, '') FROM audit a")
    assert SECRET not in audit


async def test_the_key_is_bound_to_the_address_it_was_entered_for(api: Stage) -> None:
    await with_provider(api)
    sealed = await api.state.pool.fetchval("SELECT secret FROM provider WHERE name = 'acme'")
    assert SECRET.encode() not in sealed
    assert api.state.keys.open("acme", "https://api.acme.test/v1", sealed) == SECRET
    with pytest.raises(ValueError, match="another address"):
        api.state.keys.open("acme", "https://evil.test/v1", sealed)


async def test_a_key_can_be_replaced(api: Stage) -> None:
    await with_provider(api)
    reply = await api.put(f"{PROVIDERS}/acme/secret", {"secret": "short"})
    assert reply.json["secret"] == "…****"
    assert (await api.put(f"{PROVIDERS}/none/secret", {"secret": "x"})).status == 404


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"base_url": "http://api.acme.test/v1"}, 400),
        ({"base_url": "http://169.254.169.254/"}, 400),
        ({"adapter": "echo"}, 400),
        ({"adapter": "none"}, 400),
        ({"secret": "a\r\nb"}, 400),
        ({"secret": ""}, 422),
        ({"name": "../x"}, 422),
        ({"enabled": False}, 422),
    ],
)
async def test_a_provider_that_makes_no_sense_is_refused(
    api: Stage, change: dict[str, object], status: int
) -> None:
    assert (await api.post(PROVIDERS, PROVIDER | change)).status == status


async def test_a_name_is_taken_once(api: Stage) -> None:
    await with_provider(api)
    assert (await api.post(PROVIDERS, PROVIDER)).status == 409


async def test_a_model_is_priced_exactly_and_published(api: Stage) -> None:
    await with_provider(api)
    made = await api.post(MODELS, MODEL)
    assert (made.status, made.json["prices"]) == (201, MODEL["prices"])
    rates = await api.state.pool.fetchval("SELECT rates FROM price WHERE model = 'acme/large'")
    assert rates == {"input": 150_000_000, "output": 600_000_000, "cache_read": 75_000_000}
    assert await api.state.publisher.snapshot_current()


async def test_another_price_is_a_new_version(api: Stage) -> None:
    await with_provider(api)
    first = (await api.post(MODELS, MODEL)).json
    second = (await api.post(MODELS, MODEL | {"prices": {"input": "1", "output": "2"}})).json
    assert second["price_version"] > first["price_version"]
    assert second["prices"] == {"input": "1", "output": "2"}
    assert len(second["deployments"]) == 1


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"prices": {"input": "1", "outptu": "1"}}, 400),
        ({"prices": {"input": "1", "output": 1}}, 422),
        ({"prices": {"input": "-1", "output": "1"}}, 422),
        ({"context_max": True}, 422),
        ({"output_max": 0}, 422),
        ({"provider": "none"}, 404),
        ({"id": "a b"}, 422),
    ],
)
async def test_a_model_that_makes_no_sense_is_refused(
    api: Stage, change: dict[str, object], status: int
) -> None:
    await with_provider(api)
    assert (await api.post(MODELS, MODEL | change)).status == status


async def test_a_model_with_a_slash_is_removed_and_its_price_stays(api: Stage) -> None:
    await with_provider(api)
    await api.post(MODELS, MODEL)
    assert (await api.delete(f"{MODELS}/acme/large")).json == {"removed": "acme/large"}
    assert (await api.delete(f"{MODELS}/acme/large")).status == 404
    count = "SELECT count(*) FROM price WHERE model = 'acme/large'"
    assert await api.state.pool.fetchval(count) == 1


async def test_a_provider_takes_its_places_along(api: Stage) -> None:
    await with_provider(api)
    await api.post(MODELS, MODEL)
    await api.delete(f"{PROVIDERS}/acme")
    models = {one["id"]: one for one in (await api.get(MODELS)).json["data"]}
    assert models["acme/large"]["deployments"] == []
