"""Plugins come, change, fail and go while the process runs, and the core goes on.

Third-party plugins are real distributions: a module and a dist-info folder on sys.path.
"""

import asyncio
import importlib
import logging
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse

from control import database, settings
from control.database import Pool
from control.hosting import fence, living, routes, standing
from control.hosting.living import ConfigInvalid, PluginRefused, PluginUnknown
from control.lifecycle import Lifecycle
from control.secrets import Secrets
from plugins import registry
from plugins.access import public
from plugins.testing import ROLE_HEADER, Answer, request, stage_gate
from proxy.errors import OpsError

FIXTURES = Path(__file__).parent / "fixtures" / "plugins"
SECRETS = Secrets(b"a root key that is only for tests, 48 characters")
WAIT_S = 10.0  # for what happens by itself; far more than it takes

Install = Callable[..., None]


# The stage ----------------------------------------------------------------------


class Host:
    """What control/app.py is to the lifecycle: an application that is made anew and swapped."""

    def __init__(self, pool: Pool, *, third_party: bool = True) -> None:
        self.swaps = 0
        self.refuse = False  # the application cannot be made
        self.core = APIRouter()
        self.core.add_api_route("/api/v1/core", lambda: "core", dependencies=[public()])
        self.core.add_api_route("/api/v1/core/{name}", lambda name: name, dependencies=[public()])
        self.plugins = Lifecycle(
            pool, SECRETS, core=[self.core], on_change=self.swap, third_party=third_party
        )
        self.swap([])

    def swap(self, routers: Sequence[APIRouter]) -> None:
        if self.refuse:
            raise RuntimeError("the application cannot be made")
        app = FastAPI()
        app.state.gate = stage_gate
        app.add_exception_handler(OpsError, _told)
        for router in [self.core, *routers]:
            app.include_router(router)
        self.app = app
        self.swaps += 1

    async def get(self, path: str, role: str = "admin") -> Answer:
        return await request(self.app, "GET", path, headers={ROLE_HEADER: role} if role else {})

    def state(self, name: str) -> str:
        return self.plugins.state(name).state

    def error(self, name: str) -> str:
        return self.plugins.state(name).error


async def _told(_: Request, problem: Exception) -> JSONResponse:
    assert isinstance(problem, OpsError)
    return JSONResponse({"code": problem.code, "message": problem.sentence}, problem.status)


@pytest.fixture
async def pool(database_url: str, tmp_path: Path) -> AsyncIterator[Pool]:
    environ = {"OPSCENTER_DATABASE_URL": database_url, "OPSCENTER_HOME": str(tmp_path)}
    made = await database.connect(settings.load(environ))
    yield made
    await made.close()


@pytest.fixture
async def host(pool: Pool) -> AsyncIterator[Host]:
    async with running(pool) as made:
        yield made


@asynccontextmanager
async def running(pool: Pool, **given: Any) -> AsyncIterator[Host]:
    made = Host(pool, **given)
    await made.plugins.start()
    try:
        yield made
    finally:
        await made.plugins.stop()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a toy on sys.path as pip would: its module, and a dist-info that names its entry point."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    modules: list[str] = []

    def put(
        module: str,
        name: str = "",
        *,
        permissions: Sequence[str] = ("routes",),
        distribution: str = "",
    ) -> None:
        name, distribution = name or module, distribution or f"dist-{module.replace('_', '-')}"
        monkeypatch.delitem(sys.modules, module, raising=False)
        modules.append(module)
        shutil.copy(FIXTURES / f"{module}.py", site)
        info = site / f"{distribution.replace('-', '_')}-1.2.3.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2.3\n"
        )
        groups = ["opscenter.plugins", *(f"opscenter.permissions.{one}" for one in permissions)]
        (info / "entry_points.txt").write_text(
            "".join(f"[{group}]\n{name} = {module}\n\n" for group in groups)
        )
        importlib.invalidate_caches()

    yield put
    for module in modules:
        loaded = sys.modules.pop(module, None)
        if hasattr(loaded, "released"):
            loaded.released.set()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines short enough to be waited for."""
    for module, name in ((living, "START_S"), (living, "ASK_S"), (living, "STOP_S")):
        monkeypatch.setattr(module, name, 0.3)
    monkeypatch.setattr(routes, "HANDLER_S", 0.3)
    monkeypatch.setattr(fence, "PING_S", 0.2)


@pytest.fixture
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at the database and at health without a pause worth speaking of."""
    monkeypatch.setattr("control.lifecycle.POLL_S", 0.02)
    monkeypatch.setattr("control.lifecycle.HEALTH_EVERY_S", 0.02)
    monkeypatch.setattr(standing, "RETRY_FIRST_S", 0.02)


async def becomes(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.01)


async def configured(host: Host, name: str, config: Mapping[str, object]) -> None:
    await host.plugins.configure(name, config)
    await host.plugins.enable(name)


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
    with pytest.raises(PluginRefused, match="not enabled"):
        await host.plugins.reload("hello")


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
    monkeypatch.setattr(sys.modules[__name__], "SECRETS", other)
    async with running(pool) as second:
        assert second.state("hello") == "broken"
        assert "root key" in second.error("hello")
        await second.plugins.configure("hello", {"greeting": "Again."})
        assert (await second.get("/api/v1/hello")).json["greeting"] == "Again."


# Plugins of others -------------------------------------------------------------------


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


# Routes that may not be ------------------------------------------------------------------


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
        with pytest.raises(LookupError):
            async with pool.acquire() as conn, conn.transaction():
                await host.plugins.enable("hello", conn)
                raise LookupError
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
