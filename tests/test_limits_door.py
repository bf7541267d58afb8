"""Rules of limits at the door: rates, quotas and budgets with windows, at every level, through the
whole way from a row to a refusal, and across the loss of Redis.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from bench.upstream import FakeUpstream
from control.books.verify import verify
from tests.door_stage import HELLO, DoorStage, door

MODEL, OTHER = "mock/cent", "mock/other"
MINUTE, DAY = {"window_kind": "rolling", "seconds": 60}, {"window_kind": "day", "zone": "UTC"}
NONE = {"window_kind": "none"}


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    async with door(home, redis_url, database_url) as stage, FakeUpstream() as fake:
        await stage.add_provider(fake.url + "/v1")
        for model in (MODEL, OTHER):
            await stage.add_model(model, "mock/ok?in=20&out=10&bytes=40")
        yield stage


async def rule(stage: DoorStage, level: str, amount: int, unit: str, **more: Any) -> int:
    """As the API makes one, published."""
    row = {"level": level, "amount": amount, "unit": unit, **more}
    if level != "plan":
        row["organisation"] = await stage.organisation()
    names, values = list(row), list(row.values())
    marks = ", ".join(f"${nth}" for nth in range(1, len(row) + 1))
    made = f"INSERT INTO limit_rule ({', '.join(names)}) VALUES ({marks}) RETURNING id"
    id = await stage.pool.fetchval(made, *values)
    await stage.drain.pusher.push_once()
    return int(id)


async def kid_of(key: str) -> str:
    return key[9:19]


async def ask(stage: DoorStage, key: str | None = None, **fields: Any) -> httpx2.Response:
    return await stage.chat({**HELLO, "model": MODEL, **fields}, key)


async def statuses(stage: DoorStage, count: int, **fields: Any) -> list[int]:
    return [(await ask(stage, **fields)).status_code for _ in range(count)]


async def test_a_rate_of_requests_refuses_the_next_and_tells_when(stage: DoorStage) -> None:
    key = await stage.new_key()
    await rule(stage, "key", 3, "calls", subject=await kid_of(key), **MINUTE)
    assert await statuses(stage, 3, key=key) == [200] * 3
    refused = await ask(stage, key)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (429, "rate_limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 61
    told = error["limit"]
    assert (told["name"], told["of"], told["limit"], told["left"]) == ("requests", "key", 3, 0)
    assert told["window"] == "60s"
    assert datetime.fromisoformat(told["resets_at"]) > datetime.now(UTC)
    # another key is not concerned
    assert await statuses(stage, 1) == [200]
    await agreed(stage)


async def test_many_at_once_get_exactly_the_limit(stage: DoorStage) -> None:
    key = await stage.new_key()
    await rule(stage, "organisation", 10, "calls", **MINUTE)
    await rule(stage, "key", 25, "calls", subject=await kid_of(key), **DAY)
    answers = await asyncio.gather(*(ask(stage, key) for _ in range(40)))
    assert sorted(answer.status_code for answer in answers) == [200] * 10 + [429] * 30
    # what one limit refused has cost the other nothing
    await stage.quiesce()
    assert await used(stage) == {"calls": 10}
    await agreed(stage)


async def test_tokens_are_set_aside_before_and_corrected_after(stage: DoorStage) -> None:
    key = await stage.new_key()
    await rule(stage, "key", 600, "tokens", subject=await kid_of(key), **MINUTE)
    assert (await ask(stage, key, max_tokens=560)).status_code == 200  # 30 in all
    await stage.quiesce()
    assert (await ask(stage, key, max_tokens=530)).status_code == 200
    await stage.quiesce()
    refused = await ask(stage, key, max_tokens=600)
    assert refused.json()["error"]["limit"]["used"] == 60
    assert refused.headers["x-should-retry"] == "false"  # it never fits


async def test_without_a_maximum_of_its_own_no_request_asks_for_more_than_there_is(
    stage: DoorStage,
) -> None:
    key = await stage.new_key()
    await rule(stage, "key", 100, "tokens", subject=await kid_of(key), **MINUTE)
    assert (await ask(stage, key)).status_code == 200
    await stage.quiesce()
    assert (await ask(stage, key)).status_code == 429  # 30 are used


async def test_what_comes_in_is_never_more_than_there_is(stage: DoorStage) -> None:
    """Whoever leaves open how long the answer may be, asks for what he sends all the same."""
    key = await stage.new_key()
    id = await rule(stage, "key", 100, "tokens", subject=await kid_of(key), **MINUTE)
    long = [{"role": "user", "content": "a" * 1000}]
    refused = await ask(stage, key, messages=long)
    assert (refused.status_code, refused.headers["x-should-retry"]) == (429, "false")
    await stage.pool.execute("UPDATE limit_rule SET amount = 0 WHERE id = $1", id)
    await stage.drain.pusher.push_once()
    assert (await ask(stage, key)).status_code == 429


async def test_a_quota_of_a_day_outlives_redis(stage: DoorStage) -> None:
    key = await stage.new_key()
    await rule(stage, "key", 3, "calls", subject=await kid_of(key), **DAY)
    await rule(stage, "key", 10, "calls", subject=await kid_of(key), **MINUTE)
    assert await statuses(stage, 2, key=key) == [200] * 2
    await stage.quiesce()
    await stage.redis.command("FLUSHALL")
    await stage.drain.prepare()
    assert await statuses(stage, 2, key=key) == [200, 429]
    refused = (await ask(stage, key)).json()["error"]
    assert (refused["code"], refused["limit"]["used"] + refused["limit"]["held"]) == (
        "quota_reached",
        3,
    )
    await agreed(stage)


async def test_a_call_that_we_or_the_provider_failed_is_given_back(stage: DoorStage) -> None:
    key, subject = await stage.new_key(), None
    subject = await kid_of(key)
    await stage.add_model("mock/broken", "mock/500")
    await rule(stage, "key", 2, "calls", subject=subject, **DAY)
    await rule(stage, "key", 2, "calls", subject=subject, **MINUTE)
    assert (await ask(stage, key, model="mock/broken")).status_code >= 500
    await stage.quiesce()
    assert await statuses(stage, 3, key=key) == [200, 200, 429]
    await agreed(stage)


async def test_each_end_user_has_a_limit_of_his_own(stage: DoorStage) -> None:
    await rule(stage, "end_user", 2, "calls", **MINUTE)
    assert await statuses(stage, 3, user="ann") == [200, 200, 429]
    assert await statuses(stage, 1, user="bob") == [200]
    assert await statuses(stage, 3) == [200] * 3  # nobody is named
    refused = (await ask(stage, user="ann")).json()["error"]["limit"]
    assert refused["of"] == "end_user"
    for user, left in (("ann", 0), ("bob", 1), ("eve", 2)):
        [row] = [one for one in await shown(stage, user) if one["of"] == "end_user"]
        assert (row["limit"], row["left"]) == (2, left)
    assert "end_user" not in {one["of"] for one in await shown(stage)}


async def shown(stage: DoorStage, user: str = "") -> list[dict[str, Any]]:
    headers = {"authorization": f"Bearer {stage.key}"} | ({"x-end-user": user} if user else {})
    answer = await stage.http.get("/v1/me/limits", headers=headers)
    return list(answer.json()["data"])


async def test_a_limit_for_one_model_counts_its_requests_alone(stage: DoorStage) -> None:
    await rule(stage, "organisation", 1, "calls", model=MODEL, **MINUTE)
    assert await statuses(stage, 2) == [200, 429]
    assert await statuses(stage, 2, model=OTHER) == [200] * 2


async def test_plans_teams_and_people_count_all_keys(stage: DoorStage) -> None:
    organisation = await stage.organisation()
    person = await stage.pool.fetchval("SELECT person FROM membership LIMIT 1")
    await stage.pool.execute("INSERT INTO plan (name) VALUES ('small')")
    await stage.pool.execute("UPDATE organisation SET plan = 'small' WHERE id = $1", organisation)
    team = await stage.pool.fetchval(
        "INSERT INTO team VALUES (gen_random_uuid(), $1, 'a') RETURNING id",
        organisation,
    )
    await stage.pool.execute("UPDATE membership SET team = $1", team)
    keys = [await stage.new_key() for _ in range(3)]
    await rule(stage, "person", 4, "calls", subject=str(person), **MINUTE)
    await rule(stage, "team", 3, "calls", subject=str(team), **NONE)
    await rule(stage, "plan", 2, "calls", subject="small", **DAY)
    seen: list[str] = []
    for limit in (2, 3, 4):
        await stage.pool.execute("UPDATE limit_rule SET amount = $1 WHERE level = 'plan'", 9)
        if limit == 2:
            await stage.pool.execute("UPDATE limit_rule SET amount = 2 WHERE level = 'plan'")
        if limit == 4:
            await stage.pool.execute("UPDATE limit_rule SET amount = 9 WHERE level = 'team'")
        await stage.drain.pusher.push_once()
        while (answer := await ask(stage, keys[len(seen) % 3])).status_code == 200:
            pass
        seen.append(answer.json()["error"]["limit"]["of"])
        assert answer.json()["error"]["limit"]["limit"] == limit
    assert seen == ["plan", "team", "person"]
    await agreed(stage)


async def test_a_budget_of_a_day_counts_credits_in_its_window(stage: DoorStage) -> None:
    await rule(stage, "organisation", 50_000_000, "credits", **DAY)
    answers = [await ask(stage, max_tokens=20) for _ in range(3)]
    cost = int(answers[0].headers["x-ops-cost"].replace(".", ""))
    await stage.quiesce()
    assert await used(stage) == {"credits": 3 * cost}
    listed = await stage.http.get("/v1/me/limits", headers={"authorization": f"Bearer {stage.key}"})
    [row] = [one for one in listed.json()["data"] if one["window"] == "day"]
    assert (row["name"], row["limit"]) == ("budget", "50.000000")
    assert row["resets_at"].endswith("T00:00:00+00:00")
    await agreed(stage)


async def test_the_least_of_many_budgets_says_how_long_an_answer_may_be(stage: DoorStage) -> None:
    for millions in (8, 7, 6, 5, 4, 3, 2):
        await rule(stage, "organisation", millions * 1_000_000, "credits", **NONE)
    answer = await ask(stage)
    assert answer.status_code == 200, answer.text
    assert 1 <= int(answer.headers["x-ops-max-tokens"]) < 200


async def test_a_changed_amount_is_in_force_at_once_and_keeps_what_was_used(
    stage: DoorStage,
) -> None:
    id = await rule(stage, "organisation", 2, "calls", **DAY)
    assert await statuses(stage, 3) == [200, 200, 429]
    await stage.pool.execute("UPDATE limit_rule SET amount = 3 WHERE id = $1", id)
    await stage.drain.pusher.push_once()
    assert await statuses(stage, 2) == [200, 429]
    await stage.pool.execute("DELETE FROM limit_rule WHERE id = $1", id)
    await stage.drain.pusher.push_once()
    assert await statuses(stage, 1) == [200]


async def test_a_worker_whose_clock_is_wrong_asks_again_by_the_servers(
    stage: DoorStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rule(stage, "organisation", 9, "calls", **DAY)
    admission = stage.worker.flow.admission
    monkeypatch.setattr(admission, "_behind_ms", 3 * 86_400_000)
    assert await statuses(stage, 1) == [200]
    assert abs(admission._behind_ms) < 60_000


@pytest.mark.parametrize("behind_ms", [-30_000, 30_000])
async def test_how_long_to_wait_goes_by_the_servers_clock(
    stage: DoorStage, monkeypatch: pytest.MonkeyPatch, behind_ms: int
) -> None:
    await rule(stage, "organisation", 1, "calls", window_kind="rolling", seconds=3600)
    assert await statuses(stage, 1) == [200]
    monkeypatch.setattr(stage.worker.flow.admission, "_behind_ms", behind_ms)
    refused = await ask(stage)
    resets_at = datetime.fromisoformat(refused.json()["error"]["limit"]["resets_at"])
    wait_s = (resets_at - datetime.now(UTC)).total_seconds()
    assert abs(int(refused.headers["retry-after"]) - wait_s) < 15


async def used(stage: DoorStage) -> dict[str, int]:
    rows = await stage.pool.fetch(
        "SELECT l.unit, m.used FROM meter_use m JOIN limit_rule l ON m.owner LIKE '%:l' || l.id"
    )
    return {row["unit"]: row["used"] for row in rows}


async def agreed(stage: DoorStage) -> None:
    """The books say what Redis says, windows too."""
    await stage.quiesce()
    report = await verify(stage.pool, stage.redis)
    assert report.ok, [check.differences for check in report.checks if not check.ok]
