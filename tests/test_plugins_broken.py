"""Broken plugins: shown as such, with the reason, while the core goes on."""

import logging
import sys
from typing import Any

import pytest

from control.database import Pool
from control.hosting import fence, living
from control.hosting.living import PluginRefused
from tests.plugin_stage import Host, Install, becomes, configured, running

pytest_plugins = ["tests.plugin_fixtures"]


# Broken plugins ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "why"),
    [
        ("toy_import", "libtoy.so.3 is missing"),
        ("toy_exit", "raised SystemExit"),
        ("toy_hooks", "unknown hook 'teleport'"),
    ],
)
async def test_a_plugin_that_cannot_be_imported_is_shown_with_its_error(
    host: Host, install: Install, module: str, why: str
) -> None:
    install(module)
    with pytest.raises(PluginRefused, match=why):
        await host.plugins.enable(module)

    state = host.plugins.state(module)
    assert (state.state, state.enabled) == ("broken", False)
    assert why in state.error
    assert (await host.get("/api/v1/core")).status == 200


@pytest.mark.parametrize("fault", ["raises", "exits", "blocks", "sleeps"])
@pytest.mark.parametrize("hook", ["start", "routes"])
async def test_a_plugin_that_does_not_start_is_not_swapped_in(
    host: Host, install: Install, hasty: None, hook: str, fault: str
) -> None:
    """Its first life runs on with the configuration that it had, and the new one is stopped."""
    install("toy_faulty")
    await host.plugins.enable("toy_faulty")

    with pytest.raises(PluginRefused, match=hook):
        await host.plugins.configure(
            "toy_faulty", {"hook": hook, "fault": fault, "token": "s3cr3t-token"}
        )
    state = host.plugins.state("toy_faulty")
    assert (state.state, state.enabled) == ("running", True)
    assert hook in state.error
    assert "s3cr3t-token" not in state.error
    assert (await host.get("/api/v1/faulty")).json == "well"
    assert sys.modules["toy_faulty"].stopped == ["toy_faulty"]


async def test_a_secret_of_the_configuration_is_in_no_log(
    host: Host, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("toy_faulty")
    with caplog.at_level(logging.DEBUG), pytest.raises(PluginRefused, match=r"token \*\*\*"):
        await configured(host, "toy_faulty", {"hook": "start", "token": "s3cr3t-token"})
    assert "no route to host" in caplog.text
    assert "s3cr3t-token" not in caplog.text


async def test_a_hook_that_returns_something_else_is_refused(host: Host, install: Install) -> None:
    install("toy_faulty")
    with pytest.raises(PluginRefused, match=r"must return a fastapi\.APIRouter"):
        await configured(host, "toy_faulty", {"hook": "routes", "fault": "wrong"})


@pytest.mark.parametrize("fault", ["raises", "blocks", "sleeps"])
async def test_a_plugin_that_does_not_stop_is_gone_all_the_same(
    host: Host, install: Install, hasty: None, fault: str
) -> None:
    install("toy_faulty")
    await configured(host, "toy_faulty", {"hook": "stop", "fault": fault})
    state = await host.plugins.disable("toy_faulty")
    assert (state.state, state.enabled) == ("found", False)
    assert (await host.get("/api/v1/faulty")).status == 404


@pytest.mark.parametrize(
    ("fault", "why"), [("raises", "no route to host"), ("wrong", "must return a text")]
)
async def test_a_plugin_whose_health_fails_is_shown_as_unwell(
    pool: Pool, install: Install, watchful: None, monkeypatch: Any, fault: str, why: str
) -> None:
    monkeypatch.setattr(fence, "FAILURES_MAX", 1_000_000)
    install("toy_faulty")
    async with running(pool) as host:
        await configured(host, "toy_faulty", {"hook": "health", "fault": fault})
        await becomes(lambda: host.state("toy_faulty") == "unwell")
        assert why in host.error("toy_faulty")
        assert (await host.get("/api/v1/faulty")).status == 200


async def test_a_plugin_tells_itself_that_it_is_unwell(
    pool: Pool, install: Install, watchful: None
) -> None:
    install("toy_counter")
    async with running(pool) as host:
        await configured(host, "toy_counter", {"first": 100})
        await becomes(lambda: host.state("toy_counter") == "unwell")
        assert "too far" in host.error("toy_counter")


@pytest.mark.parametrize("fault", ["raises", "sleeps"])
async def test_repeated_failures_open_the_circuit(
    host: Host, install: Install, hasty: None, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """What failed is not called any more; what works goes on; after a while it is tried again."""
    monkeypatch.setattr(fence, "FAILURES_MAX", 2)
    install("toy_faulty")
    await configured(host, "toy_faulty", {"hook": "handler", "fault": fault})
    for _ in range(2):
        answer = await host.get("/api/v1/faulty")
        assert (answer.status, answer.json["code"]) == (503, "plugin_unavailable")
        assert "no route" not in answer.json["message"]
    assert host.state("toy_faulty") == "failing"

    spent = host.plugins.state("toy_faulty").seconds
    assert (await host.get("/api/v1/faulty")).status == 503
    assert host.plugins.state("toy_faulty").seconds == spent
    assert (await host.get("/api/v1/faulty/fine")).status == 200
    assert (await host.get("/api/v1/core")).status == 200

    monkeypatch.setattr(fence, "OPEN_S", 0.0)
    await host.plugins.configure("toy_faulty", {})
    assert (await host.get("/api/v1/faulty")).json == "well"
    assert host.state("toy_faulty") == "running"


async def test_a_handler_that_blocks_is_abandoned_and_the_plugin_begins_anew(
    pool: Pool, install: Install, hasty: None, watchful: None
) -> None:
    install("toy_faulty")
    async with running(pool) as host:
        await configured(host, "toy_faulty", {"hook": "handler", "fault": "blocks"})
        swaps = host.swaps
        assert (await host.get("/api/v1/faulty")).status == 503
        assert (await host.get("/api/v1/core")).status == 200
        await becomes(lambda: host.swaps > swaps)
        assert (await host.get("/api/v1/faulty/fine")).json == "well"


async def test_threads_that_never_come_back_are_bounded(
    host: Host, install: Install, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fence, "THREADS_LEFT_MAX", 2)
    install("toy_faulty")
    await configured(host, "toy_faulty", {"hook": "handler", "fault": "blocks"})
    for _ in range(2):
        assert (await host.get("/api/v1/faulty")).status == 503
    assert host.state("toy_faulty") == "failing"
    assert (await host.get("/api/v1/faulty/fine")).status == 503

    sys.modules["toy_faulty"].released.set()  # they come back after all
    await becomes(lambda: host.state("toy_faulty") != "failing")
    assert (await host.get("/api/v1/faulty/fine")).status == 200


async def test_a_hanging_plugin_does_not_keep_the_core_from_starting(
    pool: Pool, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("toy_faulty")
    async with running(pool) as first:
        await first.plugins.enable("hello")
        await first.plugins.enable("toy_faulty")
    async with pool.acquire() as conn:  # as a release of it that has learnt to hang
        sealed = first.plugins._rows._sealed({"hook": "start", "fault": "blocks"})
        await conn.execute(
            "UPDATE plugin SET config = $1, version = version + 1 WHERE name = 'toy_faulty'", sealed
        )
    monkeypatch.setattr("control.lifecycle.READY_WITHIN_S", 0.3)
    monkeypatch.setattr(living, "START_S", 1.0)
    async with running(pool) as second:
        assert (await second.get("/api/v1/hello")).status == 200
        assert (await second.get("/api/v1/faulty")).status == 404
        await becomes(lambda: second.state("toy_faulty") == "broken")
