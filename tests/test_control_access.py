"""Roles and tenants: nobody does or sees what is not his, nobody gives what he does not hold."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi import APIRouter, FastAPI

from control.app import CORE, check_access, create_app
from plugins.access import ROLES, AccessError, access_of
from tests.control_stage import Stage, stage

ORGANISATIONS = "/api/v1/admin/organisations"
USERS = "/api/v1/admin/users"
KEYS = "/api/v1/keys"


@pytest.fixture
async def api(home: Path, database_url: str, redis_url: str) -> AsyncIterator[Stage]:
    async with stage(home, database_url, redis_url) as made:
        yield made


def test_every_route_declares_who_may_call_it() -> None:
    for router in CORE:
        check_access(router.routes)


async def test_an_application_with_an_undeclared_route_does_not_start(api: Stage) -> None:
    router = APIRouter()
    router.add_api_route("/api/v1/open", lambda: None)
    with pytest.raises(AccessError, match="/api/v1/open"):
        create_app(api.state, [router])
    mounted = FastAPI()
    mounted.mount("/files", FastAPI())
    with pytest.raises(AccessError):
        check_access(mounted.router.routes)


async def test_every_route_is_closed_to_lower_roles(api: Stage) -> None:
    """Role by route: whoever stands below what a route declares gets 401 or 403, nothing else."""
    acme = await api.organisation()
    callers = {role: await api.person(role, acme) for role in ROLES}
    for router in CORE:
        for route in router.routes:
            access = access_of(route)  # type: ignore[arg-type]
            if not access.role:
                continue
            path = route.path  # type: ignore[attr-defined]
            for name in ("organisation", "user", "key", "name", "model"):
                path = path.replace("{" + name + "}", str(uuid.uuid4()))
            path = path.replace("{model:path}", "x")
            for method in route.methods:  # type: ignore[attr-defined]
                for role, caller in callers.items():
                    if access.platform or ROLES.index(role) < ROLES.index(access.role):
                        reply = await caller.call(method, path, {})
                        assert reply.status == 403, (method, path, role, reply.body)
                assert (await api.of(None).call(method, path, {})).status == 401, (method, path)


async def test_what_belongs_to_others_is_as_if_it_were_not_there(api: Stage) -> None:
    acme, evil = await api.organisation("Acme"), await api.organisation("Evil")
    victim, attacker = await api.person("developer", acme), await api.person("admin", evil)
    person = (await victim.get("/api/v1/auth/me")).json["person"]
    kid = (await victim.get(KEYS)).json["data"][0]["id"]
    for method, path, body in [
        ("GET", f"{ORGANISATIONS}/{acme}", None),
        ("GET", f"{USERS}/{person}", None),
        ("PUT", f"{USERS}/{person}/role", {"role": "viewer"}),
        ("PUT", f"{USERS}/{person}/role", {"role": "viewer", "organisation": acme}),
        ("POST", f"{USERS}/{person}/suspend", None),
        ("POST", f"{USERS}/{person}/password", None),
        ("POST", USERS, {"email": "x@evil.test", "role": "admin", "organisation": acme}),
        ("GET", f"{USERS}/{person}/api-keys", None),
        ("POST", f"{USERS}/{person}/api-keys", {"name": "mine"}),
        ("DELETE", f"{USERS}/{person}/api-keys/{kid}", None),
        ("DELETE", f"{KEYS}/{kid}", None),
        ("GET", f"/api/v1/credits/balance?organisation={acme}", None),
        ("GET", f"/api/v1/credits/transactions?organisation={acme}", None),
        ("GET", f"/api/v1/usage?organisation={acme}", None),
    ]:
        reply = await attacker.call(method, path, body)
        missing = path.replace(acme, str(uuid.uuid4())).replace(person, str(uuid.uuid4()))
        same = await attacker.call(method, missing.replace(kid, "A" * 10), body)
        assert reply.status == 404, (method, path, reply.body)
        assert (same.status, same.message) == (404, reply.message)
    assert (await attacker.get(ORGANISATIONS)).json["data"][0]["id"] == evil
    assert (await victim.get(KEYS)).json["data"][0]["status"] == "active"


async def test_nobody_gives_what_he_does_not_hold(api: Stage) -> None:
    acme = await api.organisation()
    moderator, admin = await api.person("moderator", acme), await api.person("admin", acme)
    above = (await admin.get("/api/v1/auth/me")).json["person"]
    own = (await moderator.get("/api/v1/auth/me")).json["person"]
    for method, path, body in [
        ("POST", USERS, {"email": "a@acme.test", "role": "admin"}),
        ("POST", USERS, {"email": "a@acme.test", "role": "moderator"}),
        ("PUT", f"{USERS}/{own}/role", {"role": "admin"}),
        ("PUT", f"{USERS}/{above}/role", {"role": "viewer"}),
        ("POST", f"{USERS}/{above}/suspend", None),
        ("POST", f"{USERS}/{above}/api-keys", {"name": "as the admin"}),
    ]:
        reply = await moderator.call(method, path, body)
        assert (reply.status, reply.code) == (403, "grant_too_high"), (method, path)
    made = await moderator.post(USERS, {"email": "d@acme.test", "role": "developer"})
    assert made.status == 201


async def test_a_key_makes_no_key_that_may_more_than_itself(api: Stage) -> None:
    ends = "2031-01-01T00:00:00Z"
    wanted = {
        "name": "n",
        "models": ["ops/*", "a"],
        "routes": ["/api/v1/keys*", "/v1/chat/*"],
        "scopes": ["keys:write", "llm"],
        "addresses": ["192.0.2.0/24"],
        "parallel_max": 2,
        "budget": "10",
        "expires_at": ends,
    }
    await api.state.pool.execute("INSERT INTO model VALUES ('a', 1, 1), ('b', 1, 1)")
    made = (await api.post(KEYS, wanted)).json
    narrow = api.of(made["key"])
    for change in (
        {"models": None},
        {"models": ["b"]},
        {"models": ["o*"]},
        {"routes": None},
        {"routes": ["/v1/*"]},
        {"scopes": None},
        {"scopes": ["llm", "usage:read"]},
        {"addresses": None},
        {"addresses": ["192.0.0.0/16"]},
        {"addresses": ["2001:db8::/32"]},
        {"budget": None},
        {"budget": "10.000001"},
        {"parallel_max": None},
        {"parallel_max": 3},
        {"expires_at": None},
        {"expires_at": "2032-01-01T00:00:00Z"},
    ):
        assert (await narrow.post(KEYS, wanted | change)).code == "grant_too_high"
        assert (await narrow.patch(f"{KEYS}/{made['id']}", change)).code == "grant_too_high"
    assert (await narrow.post(KEYS, wanted)).status == 201
    less = {"models": ["ops/echo"], "addresses": ["192.0.2.1"], "budget": "9"}
    assert (await narrow.post(KEYS, wanted | less)).status == 201
    wide = (await api.post(KEYS, {"name": "wide"})).json["id"]
    for act in ("rotate", "unblock"):
        refused = await narrow.post(f"{KEYS}/{wide}/{act}", {})
        assert refused.code == "grant_too_high"


async def test_an_owner_stays_admin_and_nobody_suspends_himself(api: Stage) -> None:
    me = (await api.get("/api/v1/auth/me")).json["person"]
    reply = await api.put(f"{USERS}/{me}/role", {"role": "viewer"})
    assert (reply.status, reply.code) == (409, "conflict")
    assert (await api.post(f"{USERS}/{me}/suspend")).status == 409


async def test_a_suspended_person_is_out_with_all_keys(api: Stage) -> None:
    acme = await api.organisation()
    developer = await api.person("developer", acme)
    person = (await developer.get("/api/v1/auth/me")).json["person"]
    assert (await api.post(f"{USERS}/{person}/suspend")).status == 200
    assert (await developer.get(KEYS)).status == 401
    assert (await api.post(f"{USERS}/{person}/resume")).status == 200
    assert (await developer.get(KEYS)).status == 200


async def test_a_suspended_organisation_is_told_so(api: Stage) -> None:
    acme = await api.organisation()
    developer = await api.person("developer", acme)
    await api.post(f"{ORGANISATIONS}/{acme}/suspend")
    assert (await developer.get(KEYS)).code == "organisation_suspended"


async def test_a_role_elsewhere_does_not_sign_a_person_out(api: Stage) -> None:
    """Else every moderator could shut out the platform's administrator, whom anybody may invite."""
    acme = await api.organisation()
    moderator = await api.person("moderator", acme)
    me = (await api.get("/api/v1/auth/me")).json
    login = (await api.post(f"{USERS}/{me['person']}/password")).json["password"]
    given = {"email": me["email"], "password": login}
    token = (await api.of(None).post("/api/v1/auth/login", given)).json["token"]
    invited = await moderator.post(USERS, {"email": me["email"], "role": "viewer"})
    assert invited.status == 201
    changed = await moderator.put(f"{USERS}/{me['person']}/role", {"role": "analyst"})
    assert changed.status == 200
    assert (await api.of(token).get("/api/v1/auth/me")).json["role"] == "admin"


async def test_a_new_role_ends_the_persons_sign_ins(api: Stage) -> None:
    made = (await api.post(USERS, {"email": "ann@acme.test", "role": "viewer"})).json
    given = {"email": made["email"], "password": made["password"]}
    token = (await api.of(None).post("/api/v1/auth/login", given)).json["token"]
    await api.put(f"{USERS}/{made['id']}/role", {"role": "analyst"})
    assert (await api.of(token).get("/api/v1/auth/me")).status == 401
