"""Plugins of others: found by entry point, enabled by name, given what they declare."""

import pytest

from control.database import Pool
from control.hosting.living import PluginRefused, PluginUnknown
from plugins import registry
from tests.plugin_stage import Host, Install, configured, running

pytest_plugins = ["tests.plugin_fixtures"]


async def test_a_third_party_plugin_is_found_by_its_entry_point(
    host: Host, install: Install
) -> None:
    install("toy_counter", "counter", permissions=("routes", "database"))
    await configured(host, "counter", {"first": 7})

    state = host.plugins.state("counter")
    assert (state.version, state.permissions) == ("1.2.3", ("database", "routes"))
    assert (await host.get("/api/v1/counter", "developer")).json == {"count": 7}
    assert (await host.get("/api/v1/counter", "viewer")).status == 403
    assert (await host.get("/api/v1/counter/plain", "")).json == "counter"
    assert (await host.get("/api/v1/counter/organisations")).json == {"number": 0}
    assert host.plugins.state("counter").seconds > 0


async def test_a_third_party_plugin_runs_on_a_thread_of_its_own(
    host: Host, install: Install
) -> None:
    import threading

    install("toy_counter")
    await host.plugins.enable("toy_counter")
    assert "plugin-toy_counter" in {one.name for one in threading.enumerate()}


async def test_what_a_plugin_did_not_declare_it_is_not_given(host: Host, install: Install) -> None:
    install("toy_counter")  # without `database`
    await host.plugins.enable("toy_counter")
    answer = await host.get("/api/v1/counter/organisations")
    assert (answer.status, answer.json["code"]) == (503, "plugin_unavailable")
    assert "permission 'database'" in host.error("toy_counter")


async def test_routes_need_the_permission_for_routes(host: Host, install: Install) -> None:
    install("toy_counter", permissions=())
    with pytest.raises(PluginRefused, match="without the permission 'routes'"):
        await host.plugins.enable("toy_counter")


async def test_setting_plugins_to_off_leaves_the_built_ins(pool: Pool, install: Install) -> None:
    install("toy_counter")
    async with running(pool, third_party=False) as host:
        assert [one.name for one in host.plugins.list()] == ["hello"]
        with pytest.raises(PluginUnknown):
            await host.plugins.enable("toy_counter")


@pytest.mark.parametrize(("setting", "allowed"), [("", True), ("on", True), ("OFF", False)])
def test_the_setting_for_plugins_is_on_or_off(setting: str, allowed: bool) -> None:
    assert registry.allows_third_party(setting) is allowed


def test_another_setting_for_plugins_is_refused() -> None:
    with pytest.raises(registry.PluginInvalid, match="set it to on or off"):
        registry.allows_third_party("some")


async def test_two_plugins_of_one_name_are_both_refused(host: Host, install: Install) -> None:
    install("toy_counter", "twin", distribution="dist-one")
    install("toy_routes", "twin", distribution="dist-two")
    with pytest.raises(PluginRefused, match="dist-one and dist-two"):
        await host.plugins.enable("twin")
    assert host.state("twin") == "broken"


async def test_nobody_takes_the_name_of_a_built_in(host: Host, install: Install) -> None:
    install("toy_counter", "hello")
    await host.plugins.refresh()
    await host.plugins.enable("hello")
    assert (await host.get("/api/v1/hello")).status == 200
    assert "built-in" in host.error("hello@dist-toy-counter")


@pytest.mark.parametrize(
    ("name", "permissions", "why"),
    [("Bad Name", ("routes",), "no name for a plugin"), ("fine", ("root",), "does not know: root")],
)
async def test_what_a_distribution_declares_wrongly_is_told(
    host: Host, install: Install, name: str, permissions: tuple[str, ...], why: str
) -> None:
    install("toy_counter", name, permissions=permissions)
    with pytest.raises(PluginRefused, match=why):
        await host.plugins.enable(name)
