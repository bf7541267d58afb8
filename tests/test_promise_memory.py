"""P14: memory is flat, in short; the long way is `python -m bench.soak`."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest

from bench.soak import Sample, Soak, judge
from bench.upstream import FakeUpstream
from tests.door_stage import HELLO, PATIENCE_S, DoorStage, door, until

BIG = {"messages": [{"role": "user", "content": "x" * 10_000_000}]}
ERRS = "mock/error-in-stream@3?chunk_ms=10"
MB = 2**20
POOLED = 4  # connections that pools may open meanwhile, of PostgreSQL's and the client's


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    async with door(home, redis_url, database_url) as stage:
        yield stage


async def test_p14_soak(stage: DoorStage, tmp_path: Path) -> None:
    """Streams, aborts, faults and large bodies leave no object, task, descriptor or hold behind."""
    async with FakeUpstream(ledger=tmp_path / "bills", requests_kept=0) as fake:
        await stage.add_provider(fake.url + "/v1")
        model = await stage.add_model("mock/ok", "mock/ok?latency_ms=2", output_max=100)
        breaks = await stage.add_model("mock/breaks", "mock/truncate@3", output_max=100)
        for _ in range(2):
            await mixed(stage, model, breaks)
        before = await counted(stage)
        for _ in range(4):
            await mixed(stage, model, breaks)
        after = await counted(stage)
    assert after["objects"] <= before["objects"] * 1.01
    assert after["tasks"] == before["tasks"]
    assert after["files"] <= before["files"] + POOLED
    assert (await stage.pool_in_redis())["h"] == 0


async def mixed(stage: DoorStage, model: str, breaks: str) -> None:
    """Of 50 requests 15 are streams, 5 are aborted, 3 meet a fault, one brings 10 MB."""
    for nth in range(50):
        asked = {**HELLO, "model": model, "stream": nth % 10 < 3}
        if nth % 17 == 0:
            asked["model"], asked["stream"] = breaks, True
        if nth == 49:
            asked |= BIG
        task = asyncio.create_task(stage.chat(asked))
        if nth % 10 == 9 and nth != 49:
            await asyncio.sleep(0.001 * (nth // 10))
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError, httpx2.HTTPError):
            await task


async def counted(stage: DoorStage) -> dict[str, int]:
    """What is there once all requests have ended and everything is booked."""
    metrics = stage.worker.metrics
    await until(lambda: not stage.worker.flow.settler.running)
    await until(lambda: not metrics.cells[metrics.upstream_in_use])
    await stage.quiesce()
    gc.collect()
    objects, tasks = len(gc.get_objects()), len(asyncio.all_tasks())
    return {"objects": objects, "tasks": tasks, "files": open_files()}


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def soaked(*gateway: int, idle: int = 50 * MB) -> Soak:
    samples = [Sample(float(nth), {"gateway": size}, 9) for nth, size in enumerate(gateway)]
    return Soak(samples=samples, idle=idle)


def test_a_soak_is_judged_by_the_lowest_of_many_looks() -> None:
    """A large body on its way is no growth; what stays is."""
    calm = [60 * MB, 90 * MB] * 50
    assert judge(soaked(*calm), 1) == []
    assert judge(soaked(*calm[:-12], *[64 * MB] * 12), 1) == ["the workers grew by 6.7%"]
    assert judge(soaked(*calm, idle=101 * MB), 1) == ["an idle worker takes 101 MB"]
    assert judge(soaked(*calm, idle=190 * MB), 2) == []


async def test_p14_no_request_waits_for_the_collector(stage: DoorStage, tmp_path: Path) -> None:
    """However one ends, it is freed then: what only the collector finds, among all that lives,
    costs the others time."""
    async with FakeUpstream(ledger=tmp_path / "bills", requests_kept=0) as fake:
        await stage.add_provider(fake.url + "/v1")
        model = await stage.add_model("mock/ok", "mock/ok?latency_ms=2", output_max=100)
        breaks = await stage.add_model("mock/breaks", "mock/truncate@3", output_max=100)
        fails = await stage.add_model("mock/fails", "mock/status@500", output_max=100)
        await stage.add_provider(fake.url, "sk-other", name="other", adapter="anthropic")
        broken = [
            await stage.add_model("mock/large", "mock/bigline", output_max=100),
            await stage.add_model("other/errs", ERRS, provider="other", output_max=100),
        ]

        async def all_kinds() -> None:
            await mixed(stage, model, breaks)
            for body in (b"{", {**HELLO, "model": "no/such"}, {"model": model}):
                await stage.chat(body)
            await stage.chat({**HELLO, "model": fails})
            for each in broken:  # inside a step that takes a piece in the moment in which it comes
                await stage.chat({**HELLO, "model": each, "stream": True})
            await stage.chat({**HELLO, "model": model}, **{"x-max-cost": "0.000001"})
            await stage.chat(key="sk_ops_nonsense")
            for stream in (False, True):
                await say(stage, "messages", model, stream)
                await say(stage, "responses", model, stream)
            for path in ("models", "me/limits", "files", "files/file-x", "nothing"):
                await stage.http.get(f"/v1/{path}", headers=shown(stage))
            await until(lambda: not stage.worker.flow.settler.running)
            await stage.worker.flow.settler.drain(PATIENCE_S)

        await all_kinds()
        with collected() as garbage:
            await all_kinds()
    assert [one for one in garbage if type(one).__module__.startswith("proxy.")] == []


async def say(stage: DoorStage, dialect: str, model: str, stream: bool) -> None:
    said = {"messages": HELLO["messages"]} if dialect == "messages" else {"input": "hello"}
    most = {"max_tokens": 5} if dialect == "messages" else {}
    asked = {"model": model, "stream": stream, **said, **most}
    answer = await stage.http.post(f"/v1/{dialect}", json=asked, headers=shown(stage))
    assert answer.status_code == 200


def shown(stage: DoorStage) -> dict[str, str]:
    return {"authorization": f"Bearer {stage.key}"}


@contextlib.contextmanager
def collected() -> Iterator[list[object]]:
    """What the collector finds of what the block has left."""
    found: list[object] = []
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        found += gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
