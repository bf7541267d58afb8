"""Routes of plugins that may not be keep their plugin out."""

import pytest

from control.hosting import routes
from control.hosting.living import PluginRefused
from tests.plugin_stage import Host, Install

pytest_plugins = ["tests.plugin_fixtures"]


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"kind": "undeclared"}, "declares neither a role nor that it is public"),
        ({"kind": "both"}, "declared public and needs a role"),
        ({"kind": "yields"}, "yields its answer"),
        ({"kind": "websocket"}, "no plain HTTP route"),
        ({"kind": "nested"}, "no plain HTTP route"),
        ({"kind": "twice"}, "another of its own"),
        ({"path": "/toy"}, "outside /api/v1/"),
        ({"path": "/api/v1/llm/toy"}, "inside /api/v1/llm/"),
        ({"path": "/api/v1/core"}, "shadows /api/v1/core, which is Ops-Center's own"),
        ({"path": "/api/v1/core/"}, "shadows /api/v1/core, which"),
        ({"path": "/api/v1/core/mine"}, "shadows /api/v1/core/{name}"),
        ({"path": "/api/v1/{all:path}"}, "Ops-Center's own"),
    ],
)
async def test_a_route_that_may_not_be_keeps_its_plugin_out(
    host: Host, install: Install, config: dict[str, object], why: str
) -> None:
    install("toy_routes")
    await host.plugins.configure("toy_routes", config)
    with pytest.raises(PluginRefused) as refused:
        await host.plugins.enable("toy_routes")
    assert why in refused.value.sentence
    assert host.state("toy_routes") == "broken"


async def test_two_plugins_cannot_answer_at_one_address(host: Host, install: Install) -> None:
    install("toy_routes", "one")
    await host.plugins.configure("one", {"path": "/api/v1/hello"})
    await host.plugins.enable("hello")
    with pytest.raises(PluginRefused, match="the plugin hello's"):
        await host.plugins.enable("one")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("/a/b", "/a/b", True),
        ("/a/b", "/a/c", False),
        ("/a/{x}", "/a/b", True),
        ("/a/{x}", "/a/b/c", False),
        ("/a/{x:path}", "/a/b/c", True),
        ("/a/{x:path}", "/b/c", False),
        ("/a", "/a/b", False),
    ],
)
def test_templates_overlap(one: str, other: str, expected: bool) -> None:
    assert routes.overlap(one, other) is expected
    assert routes.overlap(other, one) is expected
