"""API keys over the control API: shown once, never chosen by their user, revoked at once."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.control_stage import Stage, stage

KEYS = "/api/v1/keys"


@pytest.fixture
async def api(home: Path, database_url: str, redis_url: str) -> AsyncIterator[Stage]:
    async with stage(home, database_url, redis_url) as made:
        yield made


async def test_a_key_is_shown_once_and_masked_ever_after(api: Stage) -> None:
    made = (await api.post(KEYS, {"name": "app"})).json
    listed = await api.get(KEYS)
    one = next(one for one in listed.json["data"] if one["id"] == made["id"])
    assert one["key"] == f"sk_ops_…{made['key'][-4:]}"
    assert made["key"].encode() not in listed.body
    stored = await api.state.pool.fetchval("SELECT string_agg(k::text, '') FROM api_key k")
    assert made["key"][20:-6] not in stored


async def test_a_revoked_key_is_out_and_redis_knows(api: Stage) -> None:
    made = (await api.post(KEYS, {"name": "app"})).json
    app = api.of(made["key"])
    assert (await app.get(KEYS)).status == 200
    assert (await api.delete(f"{KEYS}/{made['id']}")).json["status"] == "revoked"
    assert (await app.get(KEYS)).status == 401
    record = f"{{s{made['key'][7:9]}}}:k:{made['id']}"
    assert await api.state.redis.command("HGET", record, "st") == b"revoked"


async def test_a_key_is_never_chosen_by_its_user(api: Stage) -> None:
    reply = await api.post(KEYS, {"name": "app", "key": "sk_ops_mine"})
    assert (reply.status, reply.json["error"]["param"]) == (422, "key")


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"name": ""},
        {"name": "a\u0000b"},
        {"name": "x" * 201},
        {"name": "a", "parallel_max": 0},
        {"name": "a", "parallel_max": True},
        {"name": "a", "parallel_max": "5"},
        {"name": "a", "expires_at": "2001-01-01T00:00:00Z"},
        {"name": "a", "expires_at": "2031-01-01T00:00:00"},
        {"name": "a", "expires_at": 1},
        {"name": "a", "models": []},
        {"name": "a", "models": ["../x"]},
        {"name": "a", "role": "admin"},
        {"name": "a", "organisation": "x"},
    ],
)
async def test_a_key_that_makes_no_sense_is_refused(api: Stage, wanted: object) -> None:
    assert (await api.post(KEYS, wanted)).status == 422


async def test_a_model_that_is_not_there_is_named(api: Stage) -> None:
    reply = await api.post(KEYS, {"name": "a", "models": ["ops/ecko"]})
    assert (reply.status, "ops/ecko" in reply.message) == (400, True)
