"""Plugins come, change and go while the process runs, whole or not at all."""

import asyncio
import sys

import pytest

from control.database import Pool
from control.errors import Conflict
from control.hosting.living import ConfigInvalid, PluginRefused, PluginUnknown
from control.secrets import Secrets
from plugins.testing import ROLE_HEADER, request
from tests.plugin_stage import Host, Install, becomes, configured, running

pytest_plugins = ["tests.plugin_fixtures"]


# A plugin comes and goes -----------------------------------------------------------


async def test_nothing_is_enabled_that_nobody_enabled_by_name(host: Host, install: Install) -> None:
    """Installing a plugin changes nothing; not even its module is imported."""
    install("toy_exit")
    await host.plugins.refresh()

    assert [(one.name, one.state, one.enabled) for one in host.plugins.list()] == [
        ("hello", "found", False),
        ("toy_exit", "found", False),
    ]
    assert host.plugins.routers() == []
    assert "toy_exit" not in sys.modules


async def test_a_plugin_is_enabled_and_disabled_while_the_process_runs(host: Host) -> None:
    assert (await host.get("/api/v1/hello")).status == 404

    state = await host.plugins.enable("hello")
    assert (state.state, state.enabled, state.permissions) == ("running", True, ("routes",))
    answer = await host.get("/api/v1/hello", "viewer")
    assert (answer.status, answer.json) == (200, {"greeting": "Hello.", "said": 1})
    assert "/api/v1/hello" in host.app.openapi()["paths"]
    assert (await host.get("/api/v1/hello", "")).status == 401

    state = await host.plugins.disable("hello")
    assert (state.state, state.enabled) == ("found", False)
    assert (await host.get("/api/v1/hello")).status == 404
    assert "/api/v1/hello" not in host.app.openapi()["paths"]


async def test_to_enable_twice_changes_nothing_the_second_time(host: Host) -> None:
    await host.plugins.enable("hello")
    swaps = host.swaps
    await host.get("/api/v1/hello")

    await host.plugins.enable("hello")
    assert host.swaps == swaps
    assert (await host.get("/api/v1/hello")).json["said"] == 2


async def test_a_reload_begins_a_new_life(host: Host) -> None:
    await host.plugins.enable("hello")
    await host.get("/api/v1/hello")

    await host.plugins.reload("hello")
    assert (await host.get("/api/v1/hello")).json["said"] == 1

    await host.plugins.disable("hello")
    with pytest.raises(Conflict, match="not enabled"):
        await host.plugins.reload("hello")
    assert host.state("hello") == "found"


async def test_what_is_enabled_is_started_with_the_process(pool: Pool) -> None:
    async with running(pool) as first:
        await first.plugins.enable("hello")
    async with running(pool) as second:
        assert second.state("hello") == "running"
        assert (await second.get("/api/v1/hello")).status == 200


async def test_an_unknown_plugin_is_refused(host: Host) -> None:
    with pytest.raises(PluginUnknown, match="no plugin nobody"):
        await host.plugins.enable("nobody")


async def test_a_plugin_that_is_no_longer_installed_is_shown_and_can_be_disabled(
    pool: Pool, install: Install
) -> None:
    install("toy_counter")
    async with running(pool) as first:
        await first.plugins.enable("toy_counter")
    async with running(pool, third_party=False) as second:
        assert second.state("toy_counter") == "missing"
        with pytest.raises(PluginRefused, match="not installed"):
            await second.plugins.configure("toy_counter", {"first": 2})
        await second.plugins.disable("toy_counter")
        assert "toy_counter" not in [one.name for one in second.plugins.list()]


# Configuration ---------------------------------------------------------------------


async def test_a_new_configuration_is_in_force_at_once(host: Host) -> None:
    await host.plugins.enable("hello")
    await host.plugins.configure("hello", {"greeting": "Salut."})
    assert (await host.get("/api/v1/hello")).json["greeting"] == "Salut."


async def test_a_disabled_plugin_can_be_configured_first(host: Host) -> None:
    state = await host.plugins.configure("hello", {"greeting": "Salut."})
    assert (state.state, state.enabled) == ("found", False)
    await host.plugins.enable("hello")
    assert (await host.get("/api/v1/hello")).json["greeting"] == "Salut."


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize(
    "config", [{"greeting": 7}, {"greeting": ""}, {"greeting": "x" * 201}, {"greting": "typo"}]
)
async def test_a_configuration_that_does_not_fit_changes_nothing(
    host: Host, config: dict[str, object], enabled: bool
) -> None:
    if enabled:
        await host.plugins.enable("hello")
    before = host.plugins.state("hello")

    with pytest.raises(ConfigInvalid) as refused:
        await host.plugins.configure("hello", config)
    assert next(iter(config)) in refused.value.sentence

    after = host.plugins.state("hello")
    assert (after.state, after.enabled, after.error) == (before.state, before.enabled, "")
    await host.plugins.enable("hello")
    assert (await host.get("/api/v1/hello")).json["greeting"] == "Hello."


async def test_a_configuration_must_be_storable(host: Host) -> None:
    with pytest.raises(ConfigInvalid, match="cannot be stored"):
        await host.plugins.configure("hello", {"greeting": 2**70})


async def test_a_configuration_is_bounded(host: Host) -> None:
    with pytest.raises(ConfigInvalid, match="larger than"):
        await host.plugins.configure("hello", {"greeting": "x" * 100_000})


async def test_a_configuration_lies_sealed_in_the_database(host: Host, pool: Pool) -> None:
    await host.plugins.configure("hello", {"greeting": "open sesame"})
    stored = await pool.fetchval("SELECT config::text FROM plugin WHERE name = 'hello'")
    assert "sesame" not in stored


async def test_a_configuration_sealed_under_another_root_key_is_told(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(pool) as first:
        await configured(first, "hello", {"greeting": "Salut."})
    other = Secrets(b"another root key that is only for tests, of 48")
    monkeypatch.setattr("tests.plugin_stage.SECRETS", other)
    async with running(pool) as second:
        assert second.state("hello") == "broken"
        assert "root key" in second.error("hello")
        await second.plugins.configure("hello", {"greeting": "Again."})
        assert (await second.get("/api/v1/hello")).json["greeting"] == "Again."


# Whole or not at all ---------------------------------------------------------------------


async def test_an_application_that_cannot_be_made_changes_nothing(host: Host, pool: Pool) -> None:
    host.refuse = True
    with pytest.raises(RuntimeError, match="cannot be made"):
        await host.plugins.enable("hello")
    assert host.state("hello") == "found"
    assert await pool.fetchval("SELECT count(*) FROM plugin") == 0


async def test_a_running_request_ends_in_the_life_that_it_began_in(
    host: Host, install: Install
) -> None:
    """The swap is one assignment: what is under way keeps the application that it came by."""
    await host.plugins.enable("hello")
    before = host.app
    await host.plugins.disable("hello")
    assert (
        await request(before, "GET", "/api/v1/hello", headers={ROLE_HEADER: "viewer"})
    ).status == 200


async def test_a_life_is_stopped_when_its_running_handlers_have_ended(
    host: Host, install: Install
) -> None:
    install("toy_faulty")
    await configured(host, "toy_faulty", {"hook": "handler", "fault": "waits"})
    toy = sys.modules["toy_faulty"]
    answer = asyncio.create_task(host.get("/api/v1/faulty"))
    await becomes(lambda: toy.waiting == ["handler"])

    disabling = asyncio.create_task(host.plugins.disable("toy_faulty"))
    await becomes(lambda: not host.plugins.routers())
    assert toy.stopped == []
    assert not answer.done()

    toy.released.set()
    assert (await answer).status == 200
    await disabling
    assert toy.stopped == ["toy_faulty"]


async def test_a_change_can_be_part_of_a_transaction(host: Host, pool: Pool) -> None:
    async with pool.acquire() as conn, conn.transaction():
        await host.plugins.enable("hello", conn)
        assert host.state("hello") == "running"
    assert await pool.fetchval("SELECT enabled FROM plugin WHERE name = 'hello'") is True


async def test_a_change_whose_transaction_is_taken_back_is_taken_back(
    pool: Pool, watchful: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control.lifecycle.AHEAD_S", 0.1)
    async with running(pool) as host:
        async with pool.acquire() as conn:
            transaction = conn.transaction()
            await transaction.start()
            await host.plugins.enable("hello", conn)
            await transaction.rollback()
        await becomes(lambda: host.state("hello") == "found")


# Several processes ------------------------------------------------------------------------


async def test_every_process_follows_within_two_seconds(pool: Pool) -> None:
    async with running(pool) as one, running(pool) as other:
        begun = asyncio.get_running_loop().time()
        await one.plugins.enable("hello")
        await becomes(lambda: other.state("hello") == "running")
        assert asyncio.get_running_loop().time() - begun < 2

        await other.plugins.configure("hello", {"greeting": "Salut."})
        await becomes(lambda: one.plugins._records["hello"].row.version == 2)
        assert (await one.get("/api/v1/hello")).json["greeting"] == "Salut."

        await one.plugins.disable("hello")
        await becomes(lambda: other.state("hello") == "found")


async def test_a_plugin_that_fails_here_is_tried_again(
    pool: Pool, install: Install, watchful: None
) -> None:
    """Enabled by another process, it fails here until what it lacked is there."""
    install("toy_counter")
    async with running(pool) as one, running(pool) as other:
        other.refuse = True
        await one.plugins.enable("toy_counter")
        await becomes(lambda: other.state("toy_counter") == "broken")
        other.refuse = False
        await becomes(lambda: other.state("toy_counter") == "running")
