"""P02, P15: what a request reserves is given back, whatever becomes of it: credits and slots, after
a failure anywhere, and after the death of the worker that held them.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from bench.upstream import FakeUpstream
from control.books.verify import verify
from proxy.redis.pipe import RedisDown
from proxy.redis.scripts import SHARD_KEYS
from tests.door_stage import HELLO, DoorStage, door
from tests.fleet_stage import CENT, Fleet, fleet, told, until

RATES = {"input": 0, "output": 1_000_000_000}
FREED_WITHIN_S = 15.0  # as promised, on a busy machine too
SLOTS = 3
ROUNDS = 400


class Fault(Exception):
    """Something of ours fails where nobody expects it."""


class Faults:
    """Wraps what a request awaits: each call may go on, fail before or after, or be cancelled."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.on = False
        self.seen = 0

    def at(self, call: Callable[..., Awaitable[Any]], *failures: type[Exception]) -> Any:
        async def perhaps(*given: Any, **named: Any) -> Any:
            chance = self.dice.random()
            if not self.on or chance > 0.2:
                return await call(*given, **named)
            self.seen += 1
            if chance < 0.05:
                raise self.dice.choice(failures)("before")
            if chance < 0.1:
                task = asyncio.current_task()
                assert task is not None
                asyncio.get_running_loop().call_later(0.001 * self.dice.random(), task.cancel)
                return await call(*given, **named)
            done = await call(*given, **named)
            if chance < 0.15:
                raise self.dice.choice(failures)("after")
            await asyncio.sleep(0)
            return done

        return perhaps


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    settings = {"OPSCENTER_LEASE_MS": "2000", "OPSCENTER_RENEW_MS": "500"}
    async with door(home, redis_url, database_url, **settings) as stage:
        yield stage


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_p02_no_phantom(stage: DoorStage, tmp_path: Path, seed: int) -> None:
    """Every await of a request fails now and then, before or after it was done, or the client
    leaves there: at rest nothing is held, and every count equals the ledger."""
    async with FakeUpstream(ledger=tmp_path / "bills") as fake:
        await stage.add_provider(fake.url + "/v1")
        models = [
            await stage.add_model(f"mock/m{nth}", upstream, rates=RATES)
            for nth, upstream in enumerate(("mock/ok?out=5", "mock/500?out=5", "mock/truncate@2"))
        ]
        key = await stage.new_key(budget_ucr=10**12, parallel_max=1_000)
        faults = spoil(stage, seed)

        async def one(nth: int) -> None:
            body = {**HELLO, "model": models[nth % 3], "stream": nth % 2 == 0, "max_tokens": 20}
            asking = asyncio.create_task(stage.chat(body, key))
            if nth % 5 == 0:
                asyncio.get_running_loop().call_later(faults.dice.random() / 100, asking.cancel)
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await asking

        faults.on = True
        for start in range(0, ROUNDS, 40):
            await asyncio.gather(*(one(nth) for nth in range(start, start + 40)))
        faults.on = False
        assert faults.seen > ROUNDS // 4
        await at_rest(stage)


def spoil(stage: DoorStage, seed: int) -> Faults:
    """Between all that the worker awaits."""
    faults, flow = Faults(seed), stage.worker.flow
    admission, shards = flow.admission, flow.settler._shards
    shards.admit = faults.at(shards.admit, RedisDown, Fault)  # type: ignore[method-assign]
    shards.renew = faults.at(shards.renew, RedisDown)  # type: ignore[method-assign]
    shards.key = faults.at(shards.key, RedisDown, Fault)  # type: ignore[method-assign]
    upstream, identify = flow.upstream, admission.identify
    upstream.first = faults.at(upstream.first, Fault)  # type: ignore[method-assign]
    admission.identify = faults.at(identify, Fault)
    return faults


async def at_rest(stage: DoorStage) -> None:
    """Within the lease: the reaper has what nobody gave back."""

    async def resting() -> bool:
        await stage.quiesce()
        await stage.drain.reaper.reap_once()
        return not any([await stage.redis.command("HLEN", at.hold) for at in SHARD_KEYS])

    await until(resting)
    await stage.quiesce()
    assert (await stage.pool_in_redis())["h"] == 0
    report = await verify(stage.pool, stage.redis)
    assert report.ok, report


# A worker dies ------------------------------------------------------------------------------


@pytest.fixture
async def here(home: Path, redis_url: str, database_url: str) -> AsyncIterator[Fleet]:
    async with fleet(home, redis_url, database_url, (1, 1)) as here:
        yield here


@pytest.mark.parametrize("journal", ["taken over", "lost with its machine"])
async def test_p15_slots(here: Fleet, journal: str) -> None:
    """kill -9 of the worker that holds all slots: another machine has them within the lease."""
    await here.model("mock/wait", "mock/hang")
    key = await here.new_key(parallel_max=SLOTS)
    waiting = [asyncio.create_task(here.chat("mock/wait", key, 0)) for _ in range(SLOTS)]
    await until(lambda: _asked(here, SLOTS))
    assert told(await here.chat(CENT, key, 1)) == "429 parallel_limit"
    before = await here.counts()
    assert before["h"] > 0
    begun = time.monotonic()
    if journal == "lost with its machine":
        here.nodes[0].kill_whole()
    else:
        here.nodes[0].kill_a_worker()
    await asyncio.gather(*waiting, return_exceptions=True)
    await until(lambda: _admitted(here, key))
    assert time.monotonic() - begun < FREED_WITHIN_S
    await here.verified()
    assert (await here.counts())["h"] == 0
    kinds = [row["kind"] for row in await here.usage() if row["model"] == "mock/wait"]
    assert kinds == ["orphan"] * SLOTS
    # all of them, and no more than there are
    again = [asyncio.create_task(here.chat("mock/wait", key, 1)) for _ in range(SLOTS + 2)]
    await until(lambda: _done(again, 2))
    assert [told(one.result()) for one in again if one.done()] == ["429 parallel_limit"] * 2
    for one in again:
        one.cancel()
    await asyncio.gather(*again, return_exceptions=True)


async def test_p02_no_phantom_after_a_death_in_a_stream(here: Fleet) -> None:
    """The hold ends within the lease; what had come is charged up to the last renewal."""
    model = await here.model("mock/endless", "mock/bomb?chunk_ms=20", dollars="1")
    begun = 0.0
    with contextlib.suppress(Exception):
        async with here.stream(model) as answer:
            async for _ in answer.aiter_bytes():
                if not begun and (await here.counts())["h"]:
                    begun = time.monotonic()
                if begun and time.monotonic() - begun > 1.5:
                    here.nodes[0].kill_a_worker()
    died = time.monotonic()
    await here.rest()
    assert time.monotonic() - died < FREED_WITHIN_S
    await here.verified()
    [row] = [row for row in await here.usage() if row["model"] == model]
    assert row["kind"] == "orphan"
    assert 0 < row["cost"] <= row["hold"]


async def _asked(here: Fleet, count: int) -> bool:
    return len(here.fake.requests) >= count


async def _done(tasks: "list[asyncio.Task[httpx2.Response]]", count: int) -> bool:
    return sum(task.done() for task in tasks) >= count


async def _admitted(here: Fleet, key: str) -> bool:
    return told(await here.chat(CENT, key, 1, max_tokens=10)) == "200"
