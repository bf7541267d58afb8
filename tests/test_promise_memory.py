"""P14: memory is flat, in short; the long way is `python -m bench.soak`."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from bench.soak import Sample, Soak, judge
from bench.upstream import FakeUpstream
from tests.door_stage import HELLO, DoorStage, door, until

BIG = {"messages": [{"role": "user", "content": "x" * 10_000_000}]}
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
