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
        {"name": "a", "models": ["a*b"]},
        {"name": "a", "routes": ["v1"]},
        {"name": "a", "routes": ["/v1/*/x"]},
        {"name": "a", "addresses": ["10.0.0.1/8"]},
        {"name": "a", "addresses": ["example.com"]},
        {"name": "a", "addresses": []},
        {"name": "a", "budget": 5},
        {"name": "a", "budget": "0"},
        {"name": "a", "tags": {"a b": "c"}},
        {"name": "a", "tags": {"a": 1}},
        {"name": "a", "role": "admin"},
        {"name": "a", "organisation": "x"},
    ],
)
async def test_a_key_that_makes_no_sense_is_refused(api: Stage, wanted: object) -> None:
    assert (await api.post(KEYS, wanted)).status == 422


async def test_a_model_that_is_not_there_is_named(api: Stage) -> None:
    reply = await api.post(KEYS, {"name": "a", "models": ["ops/ecko"]})
    assert (reply.status, "ops/ecko" in reply.message) == (400, True)


LIMITS = {
    "expires_at": "2031-01-01T00:00:00Z",
    "models": ["ops/*"],
    "routes": ["/v1/*", "/api/v1/keys*"],
    "addresses": ["192.0.2.0/24"],
    "parallel_max": 3,
    "budget": "12.5",
    "tags": {"team": "search"},
}


async def test_a_key_has_the_limits_that_were_named_and_loses_those_that_are_taken_away(
    api: Stage,
) -> None:
    made = (await api.post(KEYS, {"name": "app", **LIMITS})).json
    shown = LIMITS | {"budget": "12.500000", "budget_used": "0.000000", "name": "app"}
    assert {name: made[name] for name in shown} == shown
    path = f"{KEYS}/{made['id']}"
    assert (await api.patch(path, {"budget": "20", "name": "other"})).status == 200
    shown |= {"budget": "20.000000", "name": "other"}
    found = (await api.get(path)).json
    assert {name: found[name] for name in shown} == shown
    nothing = dict.fromkeys(LIMITS) | {"tags": {}}
    found = (await api.patch(path, nothing)).json
    assert {name: found[name] for name in LIMITS} == nothing
    assert (await api.patch(path, {"name": ""})).status == 422
    assert (await api.patch(path, {"kid": "x"})).status == 422


async def test_a_blocked_key_is_out_until_it_is_let_in_again(api: Stage) -> None:
    made = (await api.post(KEYS, {"name": "app"})).json
    app, path = api.of(made["key"]), f"{KEYS}/{made['id']}"
    assert (await api.post(path + "/block")).json["status"] == "blocked"
    refused = await app.get(KEYS)
    assert (refused.status, refused.code) == (403, "key_blocked")
    assert (await api.post(path + "/unblock")).json["status"] == "active"
    assert (await app.get(KEYS)).status == 200
    assert (await api.delete(path)).json["status"] == "revoked"
    for act in ("block", "unblock"):
        assert (await api.post(f"{path}/{act}")).code == "conflict"
    assert (await api.post(path + "/rotate", {})).code == "conflict"
    assert (await api.patch(path, {"name": "b"})).code == "conflict"
    assert (await api.delete(path)).json["status"] == "revoked"


async def test_a_rotated_key_has_two_secrets_for_a_while(api: Stage) -> None:
    made = (await api.post(KEYS, {"name": "app", "budget": "5"})).json
    path = f"{KEYS}/{made['id']}/rotate"
    new = (await api.post(path, {"overlap_s": 60})).json
    assert (new["id"], new["budget"]) == (made["id"], "5.000000")
    assert new["old_key_until"] is not None
    assert new["key"] != made["key"]
    assert (await api.of(made["key"]).get(KEYS)).status == 200
    assert (await api.of(new["key"]).get(KEYS)).status == 200
    newest = (await api.post(path, {"overlap_s": 0})).json
    assert newest["old_key_until"] is None
    assert (await api.of(made["key"]).get(KEYS)).status == 401
    assert (await api.of(new["key"]).get(KEYS)).status == 401
    assert (await api.of(newest["key"]).get(KEYS)).status == 200


async def test_the_limits_of_a_key_hold_here_too(api: Stage) -> None:
    """Paths and addresses: a key for the door alone cannot make another one."""
    wanted = {"name": "a", "routes": ["/v1/*"]}
    door_only = api.of((await api.post(KEYS, wanted)).json["key"])
    refused = await door_only.post(KEYS, wanted)
    assert (refused.status, refused.code) == (403, "route_not_allowed")
    elsewhere = {"name": "a", "addresses": ["10.0.0.0/8"]}
    refused = await api.of((await api.post(KEYS, elsewhere)).json["key"]).get(KEYS)
    assert (refused.status, refused.code) == (403, "address_not_allowed")


async def test_keys_of_others_are_edited_by_who_stands_above_them(api: Stage) -> None:
    acme = await api.organisation()
    developer, admin = await api.person("developer", acme), await api.person("admin", acme)
    moderator = await api.person("moderator", acme)
    for owner, answers in ((developer, 200), (admin, 403)):
        person = (await owner.get("/api/v1/auth/me")).json["person"]
        path = f"/api/v1/admin/users/{person}/api-keys"
        path += "/" + (await owner.get(KEYS)).json["data"][0]["id"]
        assert (await moderator.get(path)).status == 200
        for act in ("block", "unblock", "rotate"):
            assert (await moderator.post(f"{path}/{act}", {})).status == answers
        assert (await moderator.patch(path, {"budget": "3"})).status == answers
        assert (await moderator.delete(path)).status == answers
