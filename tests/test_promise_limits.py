"""P35: a tenant reads its own limits and balance, in the same numbers that refuse it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from bench.upstream import FakeUpstream
from tests.door_stage import HELLO, PATIENCE_S, DoorStage, door, until

Row = dict[str, Any]
CREDIT = 1_000_000  # ucr
JOB = {"x-job-id": "run-1"}


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    async with door(home, redis_url, database_url) as stage:
        yield stage


async def asked(stage: DoorStage, key: str, **headers: str) -> httpx2.Response:
    sent = {"authorization": f"Bearer {key}", **headers}
    return await stage.http.get("/v1/me/limits", headers=sent)


async def limits(stage: DoorStage, key: str, **headers: str) -> dict[tuple[str, str], Row]:
    # a settlement and this question may go by two connections to Redis
    await stage.worker.flow.settler.drain(PATIENCE_S)
    answer = await asked(stage, key, **headers)
    assert answer.status_code == 200, answer.text
    return {(row["name"], row["of"]): row for row in answer.json()["data"]}


async def set_limits(stage: DoorStage, **ucr: int) -> None:
    """On the organisation and on the member."""
    organisation = await stage.organisation()
    await stage.pool.execute("UPDATE organisation SET budget_ucr = $1", ucr["organisation"])
    await stage.pool.execute("UPDATE membership SET budget_ucr = $1", ucr["person"])
    assert await stage.drain.publisher.organisation(str(organisation))


def row(name: str, of: str, unit: str, *counts: Any) -> Row:
    fields = ("limit", "used", "held", "left", "window", "resets_at")
    values = dict(zip(fields, (*counts, None, None), strict=True))
    return {"name": name, "of": of, "unit": unit, **values}


async def test_p35_limits_mirror(stage: DoorStage) -> None:
    """Every limit that applies, with what was used, is held and is left; what headers and errors
    tell are these numbers."""
    await set_limits(stage, organisation=500 * CREDIT, person=400 * CREDIT)
    key = await stage.new_key(budget_ucr=300 * CREDIT, parallel_max=4)
    ceiling = {**JOB, "x-job-max-cost": "200"}
    answer = await stage.chat(key=key, **ceiling)
    assert answer.headers["x-ops-cost"] == "0.009000"
    found = await limits(stage, key, **JOB)
    held = "0.000000"
    assert list(found.values()) == [
        row("credits", "organisation", "credits", None, None, held, "9999.991000"),
        row("budget", "organisation", "credits", "500.000000", "0.009000", held, "499.991000"),
        row("parallel", "key", "requests", 4, 0, 0, 4),
        row("budget", "key", "credits", "300.000000", "0.009000", held, "299.991000"),
        row("allocation", "person", "credits", "400.000000", "0.009000", held, "399.991000"),
        row("budget", "job", "credits", "200.000000", "0.009000", held, "199.991000"),
    ]
    assert found["credits", "organisation"]["left"] == answer.headers["x-ops-credits-left"]
    assert ("budget", "job") not in await limits(stage, key)
    assert ("budget", "job") not in await limits(stage, key, **{"x-job-id": "unheard-of"})


@pytest.mark.parametrize(
    ("small", "of", "code"),
    [
        ("job", "job", "job_ceiling_reached"),
        ("key", "key", "budget_reached"),
        ("person", "person", "budget_reached"),
        ("organisation", "organisation", "budget_reached"),
        ("credits", "organisation", "insufficient_credits"),
    ],
)
async def test_p35_limits_mirror_in_the_error(
    stage: DoorStage, small: str, of: str, code: str
) -> None:
    """The row of the limit that refused is the row of the list; a refusal takes nothing."""
    size = dict.fromkeys(("organisation", "person", "key", "job"), 500 * CREDIT)
    if small in size:
        size[small] = CREDIT // 100
    await set_limits(stage, **size)
    key = await stage.new_key(budget_ucr=size["key"])
    if small == "credits":
        await drained(stage)
    job = {**JOB, "x-job-max-cost": f"{size['job'] / CREDIT:.2f}"}
    answer = await stage.chat({**HELLO, "max_tokens": 100}, key=key, **job)
    error = answer.json()["error"]
    status = 402 if small in ("credits", "job") else 429
    assert (answer.status_code, error["code"]) == (status, code)
    name = {"credits": "credits", "person": "allocation"}.get(small, "budget")
    assert error["limit"]["left"] in error["message"]
    if small == "job":  # the ceiling came with the request that was refused, so it was not set
        assert error["limit"]["limit"] == "0.010000"
        return
    assert error["limit"] == (await limits(stage, key))[name, of]


async def drained(stage: DoorStage) -> None:
    """All credits but one hundredth are taken away in Redis."""
    id = await stage.organisation()
    shard = await stage.pool.fetchval("SELECT shard FROM organisation WHERE id = $1", id)
    owner = f"{{s{shard:02d}}}:o:{id}"
    await stage.redis.command("HSET", owner, "pool.b", CREDIT // 100)


async def test_p35_limits_mirror_what_runs(stage: DoorStage, tmp_path: Path) -> None:
    """What is held is told while it is held, and the slot with it."""
    async with FakeUpstream(ledger=tmp_path / "bills") as fake:
        await stage.add_provider(fake.url + "/v1")
        model = await stage.add_model("mock/hang")
        key = await stage.new_key(parallel_max=1, budget_ucr=500 * CREDIT)
        body = {**HELLO, "model": model, "max_tokens": 10}
        running = asyncio.create_task(stage.chat(body, key=key))
        await until(lambda: len(fake.requests) == 1)
        found = await limits(stage, key)
        assert found["parallel", "key"] == row("parallel", "key", "requests", 1, 0, 1, 0)
        budget, credits = found["budget", "key"], found["credits", "organisation"]
        assert budget["held"] == credits["held"] != "0.000000"
        refused = await stage.chat(body, key=key)
        assert refused.json()["error"]["limit"] == found["parallel", "key"]
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def test_limits_are_told_to_every_valid_key_and_to_no_other(stage: DoorStage) -> None:
    """Also to one that may call little; never to one that is dead or elsewhere."""
    key = await stage.new_key(routes=["/v1/models"], models=["openai/*"])
    assert (await asked(stage, key)).status_code == 200
    assert (await asked(stage, "unused", **{"x-service-key": key})).status_code == 200
    kid = key[9:19]
    for change, code in (
        ("addresses = '{10.0.0.0/8}'", "address_not_allowed"),
        ("addresses = NULL, status = 'blocked'", "key_blocked"),
        ("status = 'active', parallel_max = 7", ""),
        ("status = 'revoked'", "invalid_api_key"),
    ):
        await stage.pool.execute(f"UPDATE api_key SET {change} WHERE kid = $1", kid)
        assert await stage.drain.publisher.key(kid)
        answer = await asked(stage, key)
        assert answer.json().get("error", {}).get("code", "") == code
    posted = await stage.http.post("/v1/me/limits", headers={"authorization": f"Bearer {key}"})
    assert posted.status_code == 405


async def test_a_new_limit_is_told_at_once(stage: DoorStage) -> None:
    """A worker that remembers the key is told the newest by the same trip."""
    key = await stage.new_key(parallel_max=3)
    assert (await limits(stage, key))["parallel", "key"]["limit"] == 3
    await stage.pool.execute("UPDATE api_key SET parallel_max = 9 WHERE kid = $1", key[9:19])
    assert await stage.drain.publisher.key(key[9:19])
    assert (await limits(stage, key))["parallel", "key"]["limit"] == 9
