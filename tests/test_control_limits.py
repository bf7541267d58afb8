"""Budgets and limits that people set over the control API, and the accounts of programs."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.control_stage import Json, Stage, stage

ORGANISATIONS = "/api/v1/admin/organisations"
USERS = "/api/v1/admin/users"
SERVICES = "/api/v1/admin/services"
MODEL = "/api/v1/llm/admin/models/ops/echo"


@pytest.fixture
async def api(home: Path, database_url: str, redis_url: str) -> AsyncIterator[Stage]:
    async with stage(home, database_url, redis_url) as made:
        yield made


async def limit_in_redis(api: Stage, organisation: str, owner: str) -> bytes | None:
    found = await api.state.pool.fetchval(
        "SELECT shard FROM organisation WHERE id = $1", organisation
    )
    limit: bytes | None = await api.state.redis.command(
        "HGET", f"{{s{found:02d}}}:{owner}", "bud.l"
    )
    return limit


async def test_an_organisations_budget_is_set_shown_and_taken_away(api: Stage) -> None:
    acme = await api.organisation()
    path = f"{ORGANISATIONS}/{acme}"
    edited = (await api.patch(path, {"budget": "7.5", "parallel_max": 9})).json
    assert (edited["budget"], edited["budget_used"]) == ("7.500000", "0.000000")
    assert await limit_in_redis(api, acme, f"o:{acme}") == b"7500000"
    edited = (await api.patch(path, {"name": "Acme Ltd"})).json
    assert (edited["name"], edited["budget"], edited["parallel_max"]) == ("Acme Ltd", "7.500000", 9)
    edited = (await api.patch(path, {"budget": None, "parallel_max": None})).json
    assert (edited["budget"], edited["parallel_max"]) == (None, None)
    assert (await api.patch(path, {"name": ""})).status == 422
    assert (await api.patch(path, {"budget": "-1"})).status == 422


async def test_a_members_allocation_holds_for_all_keys_at_once(api: Stage) -> None:
    """What the proxies know of a person stands beside the records of his keys."""
    acme = await api.organisation()
    member = await api.person("developer", acme)
    person = (await member.get("/api/v1/auth/me")).json["person"]
    path = f"{USERS}/{person}/allocation"
    shown = (await api.put(path, {"allocation": "3", "organisation": acme})).json
    assert [one["allocation"] for one in shown["memberships"]] == ["3.000000"]
    assert await limit_in_redis(api, acme, f"w:m:{acme}:{person}") == b"3000000"
    await api.put(path, {"allocation": "4", "organisation": acme})
    assert await limit_in_redis(api, acme, f"w:m:{acme}:{person}") == b"4000000"
    listed = (await api.get(f"{USERS}?organisation={acme}")).json["data"]
    assert [one["memberships"][0]["allocation"] for one in listed] == ["4.000000"]
    shown = (await api.put(path, {"allocation": None, "organisation": acme})).json
    assert [one["allocation"] for one in shown["memberships"]] == [None]


async def test_a_person_has_another_allocation_in_each_organisation(api: Stage) -> None:
    """Also where both lie in one shard: neither counts, limits nor hides the other's."""
    acme = await api.organisation()
    born = "SELECT nextval('organisation_birth') FROM generate_series(1, 63)"
    await api.state.pool.execute(born)
    beta = await api.organisation("Beta")
    query = "SELECT count(DISTINCT shard) FROM organisation WHERE id = ANY($1::uuid[])"
    assert await api.state.pool.fetchval(query, [acme, beta]) == 1
    wanted = {"email": "ann@acme.test", "role": "developer", "password": False}
    for one in (acme, beta):
        made = (await api.at_home.post(USERS, wanted | {"organisation": one})).json
        key = {"name": "k", "organisation": one}
        await api.at_home.post(f"{USERS}/{made['id']}/api-keys", key)
    path = f"{USERS}/{made['id']}/allocation"
    for amount in ("7", "8", "9"):
        await api.put(path, {"allocation": amount, "organisation": beta})
    await api.put(path, {"allocation": "3", "organisation": acme})
    assert await limit_in_redis(api, acme, f"w:m:{acme}:{made['id']}") == b"3000000"
    assert await limit_in_redis(api, beta, f"w:m:{beta}:{made['id']}") == b"9000000"


async def test_nobody_gives_himself_an_allocation_but_an_admin(api: Stage) -> None:
    acme = await api.organisation()
    moderator, admin = await api.person("moderator", acme), await api.person("admin", acme)
    for caller, status in ((moderator, 403), (admin, 200)):
        me = (await caller.get("/api/v1/auth/me")).json["person"]
        assert (await caller.put(f"{USERS}/{me}/allocation", {"allocation": "9"})).status == status
    stranger = (await api.get("/api/v1/auth/me")).json["person"]
    assert (await admin.put(f"{USERS}/{stranger}/allocation", {"allocation": "9"})).status == 404


async def test_a_model_is_edited_without_a_new_price(api: Stage) -> None:
    before = (await api.get("/api/v1/llm/admin/models")).json["data"][0]
    edited = (await api.patch(MODEL, {"thinks": True})).json
    assert edited == before | {"thinks": True}
    edited = (await api.patch(MODEL, {"output_max": 7, "enabled": False})).json
    assert edited == before | {"thinks": True, "output_max": 7, "enabled": False}
    assert (await api.patch(MODEL, {"thinks": "yes"})).status == 422
    assert (await api.patch(MODEL.replace("echo", "ecko"), {"thinks": True})).status == 404


async def test_a_program_has_an_organisation_of_its_own_and_never_signs_in(api: Stage) -> None:
    made: Json = (await api.post(SERVICES, {"name": "enrichment"})).json
    program = api.of(None)
    me = (await program.get("/api/v1/auth/me", x_service_key=made["key"])).json
    assert (me["organisation"], me["role"]) == (made["organisation"], "viewer")
    both = await program.get(
        "/api/v1/auth/me", x_service_key=made["key"], authorization="Bearer unused"
    )
    assert both.status == 200
    refused = await program.get("/api/v1/auth/me", x_service_key="sk_ops_unknown")
    assert refused.status == 401
    assert (await api.post(f"{USERS}/{made['user']}/password")).code == "conflict"
    login = {"email": made["email"], "password": "a password"}
    assert (await program.post("/api/v1/auth/login", login)).status == 401
    assert (await api.post(SERVICES, {"name": "enrichment"})).code == "conflict"
    listed = (await api.get(f"{ORGANISATIONS}?limit=500")).json["data"]
    assert [one["name"] for one in listed].count("enrichment") == 1
    keys = (await api.get(f"{USERS}/{made['user']}/api-keys")).json["data"]
    assert [one["id"] for one in keys] == [made["key_id"]]
