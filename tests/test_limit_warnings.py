"""Soft limits: an event when use crosses a threshold, once in each window, listed by the API."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from control import sql
from control.api.limit_shapes import event, listed
from tests.door_stage import HELLO, DoorStage, door

COST = 9_000  # of one hello to ops/echo
RULE = """
INSERT INTO limit_rule (organisation, level, subject, unit, window_kind, zone, amount, soft)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id
"""
DAY, NONE = ("day", "UTC"), ("none", None)
HOUR_MS = 3_600_000


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    async with door(home, redis_url, database_url) as stage:
        yield stage


async def rule(
    stage: DoorStage,
    level: str,
    unit: str,
    amount: int,
    soft: list[int],
    window: tuple[str, str | None] = NONE,
    subject: str = "",
) -> int:
    where = None if level == "plan" else await stage.organisation()
    terms = (where, level, subject, unit, *window, amount, soft)
    made = await stage.pool.fetchval(RULE, *terms)
    await stage.drain.pusher.push_once()
    return int(made)


async def asked(stage: DoorStage, count: int, **fields: Any) -> None:
    for _ in range(count):
        answer = await stage.chat({**HELLO, **fields})
        assert answer.status_code == 200, answer.text
    await stage.quiesce()


async def events(stage: DoorStage, organisation: UUID | None = None) -> list[tuple[int, int]]:
    """Rule and percent, oldest first."""
    of = organisation or await stage.organisation()
    rows = await stage.pool.fetch(sql.load()["limit_event_list"], of, None, 100)
    found = [event(row) for row in rows]
    return [(one.limit, one.percent) for one in reversed(found)]


async def test_each_threshold_is_told_once(stage: DoorStage) -> None:
    calls = await rule(stage, "organisation", "calls", 10, [50, 80], DAY)
    await asked(stage, 4)
    assert await events(stage) == []
    await asked(stage, 1)
    assert await events(stage) == [(calls, 50)]
    await asked(stage, 3)
    assert await events(stage) == [(calls, 50), (calls, 80)]
    await asked(stage, 2)
    assert await events(stage) == [(calls, 50), (calls, 80)]
    assert (await stage.chat()).status_code == 429


async def test_credits_are_watched_at_every_level(stage: DoorStage) -> None:
    person = await stage.pool.fetchval("SELECT person FROM membership LIMIT 1")
    where = await stage.organisation()
    await stage.pool.execute("INSERT INTO plan VALUES ('starter')")
    await stage.pool.execute("UPDATE organisation SET plan = 'starter' WHERE id = $1", where)
    subjects = {"key": stage.key[9:19], "person": str(person), "plan": "starter"}
    subjects |= {"organisation": "", "end_user": ""}
    rules = [
        await rule(stage, level, "credits", 10**9, [1], subject=subject)
        for level, subject in subjects.items()
    ]
    await stage.pool.execute("UPDATE limit_rule SET amount = $1", 100 * COST)
    await stage.drain.pusher.push_once()
    await asked(stage, 1, user="ann")
    assert sorted(await events(stage)) == [(one, 1) for one in rules]
    named = "SELECT end_user FROM limit_event WHERE end_user IS NOT NULL"
    assert await stage.pool.fetchval(named) == "ann"


async def test_a_limit_that_was_raised_may_be_near_once_more(stage: DoorStage) -> None:
    calls = await rule(stage, "organisation", "calls", 2, [100])
    await asked(stage, 2)
    await stage.pool.execute("UPDATE limit_rule SET amount = 3")
    await stage.drain.pusher.push_once()
    await asked(stage, 1)
    assert await events(stage) == [(calls, 100)] * 2


async def test_a_limit_without_thresholds_tells_nothing(stage: DoorStage) -> None:
    await rule(stage, "organisation", "calls", 1, [], DAY)
    await asked(stage, 1)
    assert await events(stage) == []


async def test_the_listing_tells_what_is_used_in_the_open_window(stage: DoorStage) -> None:
    person = str(await stage.pool.fetchval("SELECT person FROM membership LIMIT 1"))
    await rule(stage, "organisation", "calls", 10, [], DAY)
    await rule(stage, "key", "credits", 10**12, [], subject=stage.key[9:19])
    await rule(stage, "person", "credits", 10**12, [], subject=person)
    await asked(stage, 2)
    where, listing = await stage.organisation(), sql.load()["limit_list"]
    rows = await stage.pool.fetch(listing, where, None, None, None, 0, 10)
    began = rows[0]["window_start"]
    assert began > 0
    cost = "0.018000"
    assert [listed(row, began).used for row in rows] == [2, cost, cost]
    assert [listed(row, began + 48 * HOUR_MS).used for row in rows] == [0, cost, cost]
