"""P01, P36: what a budget carries is admitted and nothing more, however many ask at one time on
however many workers. Real processes, real servers.
"""

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.fleet_stage import CENT, TEN, Fleet, fleet, told, until

DOLLAR = 100 * TEN
JOB = {"x-job-id": "run-1", "x-job-max-cost": "1000"}  # credits: one dollar
TEN_TOKENS: dict[str, Any] = {"max_tokens": 10}


async def hard_budgets(here: Fleet) -> str:
    """One dollar for the organisation, the person, the key and the job; the key is returned."""
    await here.pool.execute("UPDATE organisation SET budget_ucr = $1", DOLLAR)
    await here.pool.execute("UPDATE membership SET budget_ucr = $1", DOLLAR)
    key = await here.new_key(budget_ucr=DOLLAR)
    assert await here.api.state.publisher.organisation(str(await here.organisation()))
    return key


@pytest.mark.parametrize("story", ["calm", "a worker is killed", "streams"])
async def test_p01_hard_budget(home: Path, redis_url: str, database_url: str, story: str) -> None:
    """2,000 requests of $0.01 at once, on three machines, have $1.00 at four levels: 100 pass."""
    async with fleet(home, redis_url, database_url, (2, 2, 2)) as here:
        key = await hard_budgets(here)
        given: dict[str, Any] = {"stream": True} if story == "streams" else {}
        asked = asyncio.create_task(here.many(2_000, key=key, headers=JOB, **TEN_TOKENS, **given))
        if story == "a worker is killed":
            await until(lambda: _some(here, 20))
            here.nodes[0].kill_a_worker()
        answers = await asked
        await here.verified()
        spent = sum(row["cost"] for row in await here.usage())
        if story == "a worker is killed":
            assert answers["200"] * TEN <= spent <= DOLLAR
            # what its death gave back may be spent, and nothing more
            answers += await here.many(200, key=key, headers=JOB, **TEN_TOKENS)
            await here.verified()
            assert sum(row["cost"] for row in await here.usage()) == DOLLAR
        else:
            assert answers == {"200": 100, "429 budget_reached": 1_900}
            assert spent == DOLLAR
        assert len(here.fake.billed()) * TEN >= DOLLAR


async def _done(tasks: "list[asyncio.Task[httpx2.Response]]", count: int) -> bool:
    return sum(task.done() for task in tasks) >= count


async def _some(here: Fleet, count: int) -> bool:
    return len(here.fake.requests) >= count


@pytest.mark.parametrize("workers", [(1,), (2,), (8,), (1, 1, 1), (2, 2, 2)], ids=str)
async def test_p36_workers(
    home: Path, redis_url: str, database_url: str, workers: tuple[int, ...]
) -> None:
    """The same limits admit the same number, on however many workers of however many machines."""
    async with fleet(home, redis_url, database_url, workers) as here:
        await here.model("mock/wait", "mock/hang")
        slots = await here.new_key(parallel_max=5)
        waiting = [asyncio.create_task(here.chat("mock/wait", slots)) for _ in range(40)]
        await until(lambda: _done(waiting, 35))
        assert [told(one.result()) for one in waiting if one.done()] == ["429 parallel_limit"] * 35
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        key = await here.new_key(budget_ucr=17 * TEN)
        answers = await here.many(200, CENT, key=key, **TEN_TOKENS)
        assert answers == {"200": 17, "429 budget_reached": 183}
        await here.verified()
