"""P34: a ceiling per job, which requests of one job never pass, however many run at one time."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from tests.fleet_stage import CENT, TEN, Fleet, fleet, told

AGENTS = 20
AFFORDED = 45  # requests of TEN; the ceiling has half a request more
JOB = {"x-job-id": "run-1", "x-job-max-cost": str((AFFORDED * TEN + TEN // 2) / 1_000_000)}
TEN_TOKENS: dict[str, Any] = {"max_tokens": 10}


async def test_p34_job_ceiling(home: Path, redis_url: str, database_url: str) -> None:
    """20 agents side by side in one job, on four workers of two machines, by plain calls and by
    streams: what its ceiling carries is admitted and nothing more; nothing costs more than was
    held for it."""
    async with fleet(home, redis_url, database_url, (2, 2)) as here:
        ended = asyncio.Event()
        watching = asyncio.create_task(watch(here, ended))
        agents = [agent(here, stream=bool(nth % 2)) for nth in range(AGENTS)]
        told = sum(await asyncio.gather(*agents), Counter[str]())
        ended.set()
        await watching
        assert told == {"200": AFFORDED, "402 job_ceiling_reached": AGENTS}
        await first_ceiling_stands(here)
        await here.verified()
        rows = [row for row in await here.usage() if row["job"] == "run-1"]
        assert sum(row["cost"] for row in rows) == AFFORDED * TEN
        assert all(row["cost"] <= row["hold"] for row in rows)


async def agent(here: Fleet, stream: bool) -> "Counter[str]":
    """Asks until the job has nothing left."""
    answers = Counter[str]()
    while not any(code.startswith("402") for code in answers):
        answer = await here.chat(CENT, headers=JOB, stream=stream, **TEN_TOKENS)
        if answer.status_code != 503:  # a machine that is busy admits nothing for a moment
            answers[told(answer)] += 1
    return answers


async def watch(here: Fleet, ended: asyncio.Event) -> None:
    """While they run: what the job has used and holds is within its ceiling."""
    headers = {**JOB, "authorization": f"Bearer {here.key}"}
    while not ended.is_set():
        answer = await here.http.get(here.nodes[0].door + "/v1/me/limits", headers=headers)
        rows = answer.json().get("data", []) if answer.status_code == 200 else []
        for row in rows:
            if row["of"] == "job":
                assert ucr(row["used"]) + ucr(row["held"]) <= ucr(row["limit"])
                assert ucr(row["left"]) == ucr(row["limit"]) - ucr(row["used"]) - ucr(row["held"])
        await asyncio.sleep(0.01)


def ucr(credits: str) -> int:
    return int(credits.replace(".", ""))


async def first_ceiling_stands(here: Fleet) -> None:
    """Another value is an error, on every worker, and naming none is no way around it; another job
    and no job are not concerned."""
    more = {**JOB, "x-job-max-cost": "100000"}
    answers = await here.many(8, CENT, headers=more, **TEN_TOKENS)
    assert answers == {"409 job_ceiling_differs": 8}
    answers = await here.many(8, CENT, headers={"x-job-id": "run-1"}, **TEN_TOKENS)
    assert answers == {"402 job_ceiling_reached": 8}
    for headers in ({**more, "x-job-id": "run-2"}, {"x-job-id": "run-3"}, {}):
        assert await here.many(2, CENT, headers=headers, **TEN_TOKENS) == {"200": 2}
