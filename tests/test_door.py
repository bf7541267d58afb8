"""What the door does around the flow: health, routes, the end of a worker amid a stream."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from bench.upstream import FakeUpstream
from tests.door_stage import HELLO, DoorStage, door, until


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    async with door(home, redis_url, database_url, OPSCENTER_DRAIN_MS="100") as stage:
        yield stage


def error(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_health_tells_that_it_lives_and_nothing_else(stage: DoorStage) -> None:
    for path in ("/healthz", "/readyz"):
        answer = await stage.http.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert (await stage.http.head("/healthz")).content == b""


async def test_routes_are_found_by_path_and_method(stage: DoorStage) -> None:
    assert error(await stage.http.get("/")) == (404, "route_not_found")
    assert error(await stage.http.post("/nothing", content=b"x" * 10)) == (404, "route_not_found")
    assert error(await stage.http.delete("/v1/models")) == (405, "method_not_allowed")
    assert error(await stage.http.request("TRACE", "/healthz")) == (405, "method_not_allowed")
    assert error(await stage.http.post("/v1/models", content=b"{}")) == (405, "method_not_allowed")
    assert error(await stage.http.get("/v1//models")) == (404, "route_not_found")


async def test_a_stream_that_the_drain_cuts_says_so_and_is_charged_so_far(
    stage: DoorStage, tmp_path: Path
) -> None:
    """The client has not left: he is told to try again, in the stream itself."""
    async with FakeUpstream(ledger=tmp_path / "bills") as fake:
        await stage.add_provider(fake.url + "/v1")
        model = await stage.add_model("mock/long", "mock/hang@3")
        asking = asyncio.create_task(stage.chat({**HELLO, "model": model, "stream": True}))
        await until(lambda: bool(fake.requests))
        await until(lambda: bool(stage.worker.flow.settler.running))
        stage.worker.stop()
        answer = await asking
        assert '"code":"stopping"' in answer.text
        await until(lambda: not stage.worker.flow.settler.running)
        await until(lambda: not fake.connections)  # it has written its bill
    await stage.quiesce()
    [row] = await stage.usage()
    assert row["reason"] == "stopping"
