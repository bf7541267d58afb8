"""Every hook, told by the plugin that comes with it; none is without a test and a page."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import APIRouter
from pydantic import BaseModel, ValidationError

from plugins import hello, hookimpl, registry
from plugins.access import AccessError, needs, public
from plugins.registry import Hooks, PluginInvalid
from plugins.testing import context_for, rehearse
from tests import plugin_pages

EXAMPLE = re.compile(r"```python\n# (opscenter_quote\.py|test_opscenter_quote\.py)\n(.*?)```", re.S)


async def test_hook_configuration() -> None:
    """The returned model is what a configuration must fit, and what the context then holds."""
    async with rehearse(hello, {"greeting": "Salut."}) as stage:
        assert stage.context.config == hello.Hello(greeting="Salut.")
    with pytest.raises(ValidationError):
        async with rehearse(hello, {"greeting": ""}):
            pytest.fail("it has started")


async def test_hook_routes() -> None:
    """The router is served; each route asks for the role that it declares."""
    async with rehearse(hello) as stage:
        answer = await stage.request("GET", "/api/v1/hello", role="viewer")
        assert (answer.status, answer.json) == (200, {"greeting": "Hello.", "said": 1})
        assert (await stage.request("GET", "/api/v1/hello")).status == 401


async def test_hook_start() -> None:
    """Runs once per life, before the first request, and fills `context.state`."""
    async with rehearse(hello) as stage:
        assert stage.context.state.said == 0


async def test_hook_health() -> None:
    """An empty text when all is well, else a sentence."""
    async with rehearse(hello) as stage:
        assert await stage.health() == ""
    assert "never started" in hello.health(context_for(hello.Hello()))


async def test_hook_stop(caplog: pytest.LogCaptureFixture) -> None:
    """Runs at the end, also after a start that failed, when `context.state` is not filled."""
    caplog.set_level("INFO", "opscenter.plugins")
    async with rehearse(hello) as stage:
        await stage.request("GET", "/api/v1/hello", role="viewer")
        assert "said hello" not in caplog.text
    assert "said hello 1 times" in caplog.text

    hello.stop(context_for(hello.Hello()))
    assert "said hello 0 times" in caplog.text


# Of hooks as such ---------------------------------------------------------------------


@pytest.mark.parametrize("hook", plugin_pages.hooks())
def test_every_hook_has_a_test_a_page_and_a_plugin_that_uses_it(hook: str) -> None:
    assert f"test_hook_{hook}" in globals()
    assert f"### {hook}\n" in plugin_pages.PAGE.read_text("utf-8")
    assert any(one.load().has(hook) for one in registry.find(third_party=False).values())


def test_the_list_of_hooks_is_current() -> None:
    page = plugin_pages.PAGE.read_text("utf-8")
    assert page == plugin_pages.current(page), "run `python -m tests.plugin_pages`"


def test_a_plugin_without_hooks_is_none() -> None:
    with pytest.raises(PluginInvalid, match="has no hooks"):
        Hooks("empty", SimpleNamespace())


def test_a_hook_that_asks_for_what_it_is_not_given_is_refused() -> None:
    class Greedy:
        @hookimpl
        def health(self, context: object, ledger: object) -> str:
            return ""

    with pytest.raises(PluginInvalid, match="ledger"):
        Hooks("greedy", Greedy())


async def test_a_plugin_may_be_a_class_that_takes_only_what_it_needs() -> None:
    class Quiet:
        @hookimpl
        async def start(self) -> None:
            self.started = True

    plugin = Quiet()
    async with rehearse(plugin) as stage:
        assert plugin.started
        assert await stage.health() == ""


async def test_on_the_stage_too_a_route_must_say_who_may_call_it() -> None:
    class Open:
        @hookimpl
        def routes(self) -> APIRouter:
            router = APIRouter()
            router.add_api_route("/api/v1/open", lambda: None)
            return router

    with pytest.raises(AccessError, match="neither a role nor that it is public"):
        async with rehearse(Open()):
            pytest.fail("it has started")


def test_only_roles_that_there_are_can_be_asked_for() -> None:
    with pytest.raises(AccessError, match="no role 'king'"):
        needs("king")
    assert public().dependency.role == ""


# The page -------------------------------------------------------------------------------


async def test_the_example_on_the_page_works() -> None:
    """What the page tells authors to write is run as it stands there."""
    sources = dict(EXAMPLE.findall(plugin_pages.PAGE.read_text("utf-8")))
    names: dict[str, Any] = {"__name__": "opscenter_quote"}
    exec(compile(sources["opscenter_quote.py"], "opscenter_quote.py", "exec"), names)
    plugin = SimpleNamespace(**names)
    assert issubclass(plugin.configuration(), BaseModel)
    async with rehearse(plugin, {"quotes": ["Less is more."]}) as stage:
        assert await stage.health() == ""
        answer = await stage.request("GET", "/api/v1/quote", role="viewer")
        assert (answer.status, answer.json) == (200, {"quote": "Less is more."})


def test_the_page_names_every_permission_and_state() -> None:
    from plugins.context import PERMISSIONS

    page = Path(plugin_pages.PAGE).read_text("utf-8")
    states = ("found", "running", "unwell", "failing", "broken", "missing")
    for word in [*PERMISSIONS, *states]:
        assert f"`{word}`" in page
