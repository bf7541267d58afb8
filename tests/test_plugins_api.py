"""Administrators see and steer plugins over the control API, in the real application."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from control.edge import Edge
from control.main import _plugged
from control.secrets import unlock
from tests.control_stage import Stage, stage
from tests.plugin_stage import Install

pytest_plugins = ["tests.plugin_fixtures"]

PLUGINS = "/api/v1/admin/plugins"


@pytest.fixture
async def api(home: Path, database_url: str, redis_url: str) -> AsyncIterator[Stage]:
    async with stage(home, database_url, redis_url) as made:
        state = made.state
        async with _plugged(state, unlock(state.settings)) as app:
            yield replace(made, app=Edge(app, state.settings, state.counters))


async def test_plugins_are_listed_with_what_they_may(api: Stage) -> None:
    [hello] = (await api.get(PLUGINS)).json["data"]
    assert hello["seconds"] == 0
    assert {**hello, "version": "", "seconds": 0} == {
        "name": "hello",
        "version": "",
        "enabled": False,
        "state": "found",
        "error": "",
        "permissions": ["routes"],
        "seconds": 0,
    }


async def test_a_plugin_is_steered_over_the_api(api: Stage) -> None:
    assert (await api.get("/api/v1/hello")).status == 404

    enabled = await api.post(f"{PLUGINS}/hello/enable")
    assert (enabled.status, enabled.json["state"]) == (200, "running")
    assert (await api.get("/api/v1/hello")).json == {"greeting": "Hello.", "said": 1}

    changed = await api.put(f"{PLUGINS}/hello/config", {"greeting": "Salut."})
    assert (changed.status, changed.json["state"]) == (200, "running")
    assert (await api.get("/api/v1/hello")).json == {"greeting": "Salut.", "said": 1}

    assert (await api.post(f"{PLUGINS}/hello/reload")).status == 200
    assert (await api.get("/api/v1/hello")).json["said"] == 1

    assert (await api.post(f"{PLUGINS}/hello/disable")).json["enabled"] is False
    assert (await api.get("/api/v1/hello")).status == 404


async def test_every_change_is_on_the_audit_log_without_the_values(api: Stage) -> None:
    await api.put(f"{PLUGINS}/hello/config", {"greeting": "open sesame"})
    await api.post(f"{PLUGINS}/hello/enable")
    rows = await api.state.pool.fetch(
        "SELECT action, detail FROM audit WHERE object = 'plugin:hello' ORDER BY id"
    )
    assert [(row["action"], row["detail"]) for row in rows] == [
        ("plugin.configure", {"fields": ["greeting"]}),
        ("plugin.enable", {}),
    ]


async def test_a_repeated_change_is_done_once(api: Stage) -> None:
    first = await api.post(f"{PLUGINS}/hello/enable", idempotency_key="once")
    await api.get("/api/v1/hello")
    await api.post(f"{PLUGINS}/hello/disable")

    again = await api.post(f"{PLUGINS}/hello/enable", idempotency_key="once")
    assert (again.status, again.body) == (first.status, first.body)
    assert (await api.get("/api/v1/hello")).status == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", PLUGINS),
        ("POST", f"{PLUGINS}/hello/enable"),
        ("POST", f"{PLUGINS}/hello/disable"),
        ("POST", f"{PLUGINS}/hello/reload"),
        ("PUT", f"{PLUGINS}/hello/config"),
    ],
)
async def test_plugins_are_the_platform_administrators(api: Stage, method: str, path: str) -> None:
    acme = await api.organisation()
    admin_of_acme = await api.person("admin", acme)
    moderator = await api.person("moderator")
    for stranger, status in [(admin_of_acme, 403), (moderator, 403), (api.of(None), 401)]:
        assert (await stranger.call(method, path, {})).status == status


async def test_a_role_is_asked_for_at_a_plugins_route(api: Stage, install: Install) -> None:
    install("toy_counter")
    assert (await api.post(f"{PLUGINS}/toy_counter/enable")).status == 200
    viewer, developer = await api.person("viewer"), await api.person("developer")
    assert (await viewer.get("/api/v1/counter")).code == "role_missing"
    assert (await developer.get("/api/v1/counter")).json == {"count": 1}
    assert (await api.of(None).get("/api/v1/counter/plain")).status == 200


async def test_what_cannot_be_is_told_and_changes_nothing(api: Stage, install: Install) -> None:
    install("toy_import")
    cases = [
        await api.post(f"{PLUGINS}/nobody/enable"),
        await api.put(f"{PLUGINS}/hello/config", {"greeting": 1}),
        await api.post(f"{PLUGINS}/toy_import/enable"),
        await api.post(f"{PLUGINS}/hello/reload"),
    ]
    assert [(one.status, one.code) for one in cases] == [
        (404, "plugin_unknown"),
        (400, "plugin_config_invalid"),
        (409, "plugin_refused"),
        (409, "conflict"),
    ]
    listed = {one["name"]: one for one in (await api.get(PLUGINS)).json["data"]}
    assert (listed["toy_import"]["state"], listed["hello"]["state"]) == ("broken", "found")
    assert "libtoy.so.3" in listed["toy_import"]["error"]


async def test_a_plugin_cannot_stand_before_the_core(api: Stage, install: Install) -> None:
    install("toy_routes")
    await api.put(f"{PLUGINS}/toy_routes/config", {"path": PLUGINS})
    refused = await api.post(f"{PLUGINS}/toy_routes/enable")
    assert (refused.status, refused.code) == (409, "plugin_refused")
    assert "Ops-Center's own" in refused.message


async def test_a_handler_that_fails_is_a_503_without_the_plugins_words(
    api: Stage, install: Install
) -> None:
    install("toy_faulty")
    await api.put(f"{PLUGINS}/toy_faulty/config", {"hook": "handler"})
    await api.post(f"{PLUGINS}/toy_faulty/enable")
    answer = await api.get("/api/v1/faulty")
    assert (answer.status, answer.code) == (503, "plugin_unavailable")
    assert "no route to host" not in answer.message
