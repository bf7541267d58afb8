"""Scopes: what a key may do on the control API and at the door, beside what its person may."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute

from control.app import CORE, check_scopes
from control.scopes import OPEN, SCOPES, scope_of
from plugins.access import AccessError, access_of, needs
from proxy.types import KeyRecord, Model
from proxy.who.rules import forbidden
from tests.control_stage import Stage, stage
from tests.door_stage import DoorStage
from tests.door_stage import door as door_stage

KEYS = "/api/v1/keys"
MODEL = Model("m", 1000, 100, 0, (), None)
ROUTES = [one for router in CORE for one in router.routes if isinstance(one, APIRoute)]
NOBODY = "0123456789"


@pytest.fixture
async def api(home: Path, database_url: str, redis_url: str) -> AsyncIterator[Stage]:
    async with stage(home, database_url, redis_url) as made:
        yield made


def test_every_route_that_has_a_role_has_a_scope_but_for_those_about_oneself() -> None:
    open_ones = {r.path for r in ROUTES if access_of(r).role and scope_of(r, "GET") is None}
    assert open_ones == {"/api/v1/auth/logout", "/api/v1/auth/me", "/openapi.json", "/docs"}
    assert {scope_of(r, method) for r in ROUTES for method in r.methods or ()} <= {None, *SCOPES}


def test_an_application_with_a_route_without_a_scope_does_not_start() -> None:
    router = APIRouter()
    router.add_api_route("/api/v1/open", lambda: None, dependencies=[needs("viewer")])
    with pytest.raises(AccessError, match="/api/v1/open"):
        check_scopes([router])


def test_what_plugins_serve_has_a_scope_of_its_own() -> None:
    router = APIRouter()
    router.add_api_route("/api/v1/hello", lambda: None)
    [route] = router.routes
    assert isinstance(route, APIRoute)
    assert (scope_of(route, "GET"), scope_of(route, "POST")) == ("plugins:read", "plugins:write")


async def test_a_key_does_what_its_scopes_say_and_nothing_else(api: Stage) -> None:
    """Every route by every key that lacks its scope: 403 that names it, before anything is done."""
    lacking = {}
    for scope in SCOPES:
        others = [one for one in SCOPES if one != scope]
        made = await api.post(KEYS, {"name": scope, "scopes": others})
        assert made.json["scopes"] == others
        lacking[scope] = api.of(made.json["key"])
    for route in ROUTES:
        for method in route.methods or ():
            needed = scope_of(route, method)
            if not access_of(route).role or needed is None:
                continue
            reply = await lacking[needed].call(method, _path(route), {})
            assert (reply.status, reply.code) == (403, "scope_missing"), (method, route.path)
            assert needed in reply.message
            other = lacking["llm"] if method == "GET" else None
            if other and "{" not in route.path and "plugins" not in route.path:
                assert (await other.call(method, _path(route))).status == 200, route.path


def _path(route: APIRoute) -> str:
    path = route.path.replace("{model:path}", "x")
    for name in route.param_convertors:
        path = path.replace("{" + name + "}", NOBODY)
    return path


async def test_scopes_change_at_once_and_go_with_a_token(api: Stage) -> None:
    made = (await api.post(KEYS, {"name": "app", "scopes": ["keys:read"]})).json
    app = api.of(made["key"])
    token = api.of((await app.post("/api/v1/auth/token")).json["token"])
    for caller in (app, token):
        assert (await caller.get("/api/v1/auth/me")).status == 200
        assert (await caller.get(KEYS)).status == 200
        assert (await caller.get("/api/v1/usage")).code == "scope_missing"
    path = f"{KEYS}/{made['id']}"
    assert (await api.patch(path, {"scopes": ["usage:read"]})).json["scopes"] == ["usage:read"]
    for caller in (app, token):
        assert (await caller.get("/api/v1/usage")).status == 200
        assert (await caller.get(KEYS)).code == "scope_missing"
    assert (await api.patch(path, {"scopes": None})).json["scopes"] is None
    assert (await app.get(KEYS)).status == 200


async def test_scopes_that_are_none_are_refused(api: Stage) -> None:
    wrong: list[Any] = [[], ["all"], ["llm "], ["keys"], "llm", ["llm", 1]]
    for scopes in wrong:
        assert (await api.post(KEYS, {"name": "n", "scopes": scopes})).status == 422, scopes


def test_the_door_takes_a_scope_for_models_and_one_for_their_list() -> None:
    named: Mapping[str, Any] = {"kid": "k", "shard": 0, "version": 1, "digest": b"", "pepper": 1}
    for scopes, chats, lists in (
        (None, True, True),
        ({"llm"}, True, True),
        ({"models:read"}, False, True),
        ({"usage:read"}, False, False),
    ):
        held = None if scopes is None else frozenset(scopes)
        key = KeyRecord(**named, organisation="o", person="p", models=None, meters=(), scopes=held)
        assert (forbidden(key, "/v1/chat/completions", "", MODEL) is None) == chats
        assert (forbidden(key, "/v1/models", "", None) is None) == lists
        assert forbidden(key, None, "", None) is None


async def test_the_door_hears_of_other_scopes_at_once(
    home: Path, redis_url: str, database_url: str
) -> None:
    async with door_stage(home, redis_url, database_url) as door:
        key = await door.new_key(scopes=["llm"])
        assert (await door.chat(key=key)).status_code == 200
        await _scopes(door, key, "'{usage:read}'")
        refused = await door.chat(key=key)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "scope_missing")
        headers = {"authorization": f"Bearer {key}"}
        assert (await door.http.get("/v1/models", headers=headers)).status_code == 403
        assert (await door.http.get("/v1/me/limits", headers=headers)).status_code == 200
        await _scopes(door, key, "NULL")
        assert (await door.chat(key=key)).status_code == 200


async def _scopes(door: DoorStage, key: str, value: str) -> None:
    await door.pool.execute(f"UPDATE api_key SET scopes = {value} WHERE kid = $1", key[9:19])
    assert await door.drain.publisher.key(key[9:19])


def test_what_is_open_is_not_a_scope() -> None:
    assert not OPEN & {scope.partition(":")[0] for scope in SCOPES}
