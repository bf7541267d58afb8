"""P07: every route is metered, there are no side doors."""

import ast
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from bench.upstream import FakeUpstream
from proxy.door import ROUTES, Route
from proxy.served import Served
from tests.door_stage import DoorStage, door
from tests.house import modules, name_of

EVERY = ("input", "output", "images", "seconds", "characters", "searches", "requests")
DEAR = 10**16  # more for one token than the pool has
METERED = {path: route.served for path, route in ROUTES.items() if route.served and not route.kept}
#: What providers keep for nothing: on the same meters, for 0.
KEPT = {path: route.served for path, route in ROUTES.items() if route.served and route.kept}
ALONE = {path for path, route in ROUTES.items() if not route.served}
#: The least that each dialect takes.
LEAST: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": "hello"}]},
    "messages": {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 9},
    "count_tokens": {"messages": [{"role": "user", "content": "hello"}]},
    "responses": {"input": "hello"},
    "completions": {"prompt": "hello"},
    "embeddings": {"input": "hello"},
    "moderations": {"input": "hello"},
    "rerank": {"query": "hello", "documents": ["a", "b"]},
    "images": {"prompt": "a cat"},
    "speech": {"input": "hello", "voice": "alloy"},
}


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    async with door(home, redis_url, database_url) as stage:
        yield stage


async def ask(stage: DoorStage, path: str, served: Served, model: str) -> httpx2.Response:
    headers = {"authorization": f"Bearer {stage.key}"}
    if served.form:
        files = {"file": ("a.wav", b"RIFF" + bytes(99), "audio/wav")}
        return await stage.http.post(path, data={"model": model}, files=files, headers=headers)
    return await stage.http.post(
        path, json={"model": model, **LEAST[served.dialect]}, headers=headers
    )


async def test_p07_no_unmetered_route(stage: DoorStage) -> None:
    """Every route of the live table that reaches a provider refuses a key whose pool is empty, and
    no provider hears of it; those that cost nothing say why."""
    async with FakeUpstream() as fake:
        await stage.add_provider(fake.url + "/v1")
        model = await stage.add_model("mock/ok", rates=dict.fromkeys(EVERY, DEAR))
        statuses = {}
        for path, served in METERED.items():
            answer = await ask(stage, path, served, model)
            statuses[path] = answer.status_code
            if served.free:
                assert answer.json()["input_tokens"] > 0
            else:
                assert "insufficient_credits" in answer.text, answer.text
        free = {path for path, served in METERED.items() if served.free}
        assert {path for path, status in statuses.items() if status == 200} == free
        assert {status for path, status in statuses.items() if path not in free} == {402}
        assert not fake.requests
    assert all(ROUTES[path].free for path in ALONE)
    await stage.quiesce()
    assert (await stage.pool_in_redis())["h"] == 0


async def test_p07_no_unmetered_route_without_a_key(stage: DoorStage) -> None:
    """Admission comes before anything else that a body could ask for."""
    for path, served in METERED.items():
        body = {} if served.form else {"model": "ops/echo", **LEAST[served.dialect]}
        answer = await stage.http.post(path, json=body)
        assert answer.status_code == 401, path
    for path, served in KEPT.items():
        for method in served.methods:
            answer = await stage.http.request(method.decode(), path.replace("s/", "s/x"))
            assert (answer.status_code, bool(served.free)) == (401, True), path


async def test_p07_no_unmetered_route_to_what_providers_keep(stage: DoorStage) -> None:
    """They cost nothing, and yet a limit of requests counts them, before any provider is asked."""
    await stage.pool.execute(
        "INSERT INTO limit_rule (level, organisation, amount, unit, window_kind, seconds)"
        " VALUES ('organisation', $1, 1, 'calls', 'rolling', 3600)",
        await stage.organisation(),
    )
    await stage.drain.pusher.push_once()
    async with FakeUpstream() as fake:
        await stage.add_provider(fake.url + "/v1")
        await stage.add_model("mock/ok")
        headers = {"authorization": f"Bearer {stage.key}"}
        paths = [path for path in KEPT if path.endswith("/files")]
        statuses = [(await stage.http.get(path, headers=headers)).status_code for path in paths * 2]
        assert (statuses, len(fake.requests)) == ([200, 429, 429, 429], 1)


def test_p07_no_unmetered_route_can_be_registered() -> None:
    served, alone = METERED["/v1/messages"], ROUTES["/v1/models"].serve
    for parts in ({}, {"serve": alone}, {"served": served, "serve": alone, "free": "it is"}):
        with pytest.raises(ValueError, match="needs a meter"):
            Route("/v1/raw", (b"POST",), **parts)
    with pytest.raises(ValueError, match="no meter"):
        Served("raw", "nothing", "/raw", served.read)  # type: ignore[arg-type]


def test_p07_no_unmetered_route_to_a_provider_in_the_code() -> None:
    """Only the flow asks for an upstream, behind admission."""
    asking = set()
    for path in modules("proxy"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "upstream":
                asking.add(name_of(path))
    assert asking == {"proxy/flow.py"}
