"""What nobody asks for any more is forgotten: counts in the ledger and in Redis; the rest is not,
and the proof holds before and after.
"""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from control.books.forget import forget_gone
from control.books.verify import verify
from control.tidy import tidy_once
from proxy.redis.scripts import SHARD_KEYS
from tests.door_stage import HELLO, DoorStage, door

RULE = """
INSERT INTO limit_rule (organisation, level, subject, unit, window_kind, seconds, zone, amount)
VALUES ($1, $2, '', $3, $4, $5, $6, 1000000) RETURNING id
"""
KIND = re.compile("k|o|w:.")
DAY, NONE, MINUTE = ("day", None, "UTC"), ("none", None, None), ("rolling", 60, None)
LONG_AGO = "UPDATE meter_use SET used_on = used_on - 101"
JOB = {"x-job-id": "run-1", "x-job-max-cost": "100"}


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    async with door(home, redis_url, database_url) as stage:
        yield stage


async def rule(stage: DoorStage, level: str, unit: str, window: tuple[Any, ...]) -> int:
    made = await stage.pool.fetchval(RULE, await stage.organisation(), level, unit, *window)
    await stage.drain.pusher.push_once()
    return int(made)


async def ask(stage: DoorStage, **headers: str) -> None:
    answer = await stage.chat({**HELLO, "user": "ann"}, **headers)
    assert answer.status_code == 200, answer.text
    await stage.quiesce()


async def owners(stage: DoorStage) -> set[str]:
    """The kinds of owner that have a count, and which."""
    rows = await stage.pool.fetch("SELECT owner, window_start FROM meter_use")
    names = [row["owner"] for row in rows]
    return {f"{KIND.match(name)[0]} {name.rpartition(':')[2]}" for name in names}  # type: ignore[index]


async def test_counts_that_are_over_are_forgotten_and_begin_anew(
    stage: DoorStage, database_url: str
) -> None:
    daily = await rule(stage, "organisation", "calls", DAY)
    ever = await rule(stage, "organisation", "calls", NONE)
    gone = await rule(stage, "organisation", "tokens", NONE)
    each = await rule(stage, "end_user", "calls", NONE)
    await ask(stage, **JOB)
    found = {f"o l{daily}", f"o l{ever}", f"o l{gone}", f"w:e l{each}", "w:j bud"}
    assert await owners(stage) == found
    await tidy_once(stage.pool)
    assert await owners(stage) == found
    await stage.pool.execute("DELETE FROM limit_rule WHERE id = $1", gone)
    await stage.drain.pusher.push_once()
    await stage.pool.execute(LONG_AGO)
    await _age_usage(database_url)
    await tidy_once(stage.pool)
    assert await owners(stage) == {f"o l{ever}", "w:j bud"}  # the job is known yet
    await stage.pool.execute("UPDATE job SET used_on = used_on - 9")
    await tidy_once(stage.pool)
    assert await owners(stage) == {f"o l{ever}"}
    assert (await verify(stage.pool, stage.redis)).ok
    await ask(stage, **JOB)
    assert await owners(stage) == found - {f"o l{gone}"}
    used = "SELECT used FROM meter_use WHERE owner LIKE '%:l' || $1"
    assert await stage.pool.fetchval(used, str(each)) == 1
    assert await stage.pool.fetchval(used, str(ever)) == 2
    report = await verify(stage.pool, stage.redis)
    assert [check.name for check in report.checks if not check.ok] in ([], ["V3"])


async def test_a_count_that_is_lost_too_early_is_found(stage: DoorStage) -> None:
    await rule(stage, "organisation", "calls", NONE)
    await ask(stage)
    await stage.pool.execute("DELETE FROM meter_use")
    [usage] = [c for c in (await verify(stage.pool, stage.redis)).checks if c.name == "V2"]
    assert not usage.ok


async def test_use_of_revoked_keys_is_forgotten(stage: DoorStage, database_url: str) -> None:
    key = await stage.new_key(budget_ucr=10**9)
    answer = await stage.chat(key=key)
    assert answer.status_code == 200
    await ask(stage)
    uses = "SELECT kid FROM key_use ORDER BY kid"
    assert len(await stage.pool.fetch(uses)) == 2
    await stage.pool.execute("UPDATE key_use SET used_at = now() - interval '101 days'")
    await stage.pool.execute(LONG_AGO)
    await _age_usage(database_url)
    await tidy_once(stage.pool)
    assert (len(await stage.pool.fetch(uses)), await owners(stage)) == (2, {"k bud"})
    await stage.pool.execute("UPDATE api_key SET status = 'revoked' WHERE kid = $1", key[9:19])
    await tidy_once(stage.pool)
    assert (len(await stage.pool.fetch(uses)), await owners(stage)) == (1, set())


async def test_fields_of_limits_that_are_gone_leave_redis(stage: DoorStage) -> None:
    """A day later, and not the others'; a Redis that is filled anew has none of them either."""
    kept, gone = [await rule(stage, "organisation", "calls", NONE) for _ in range(2)]
    rolling = await rule(stage, "organisation", "tokens", MINUTE)
    await ask(stage)
    await stage.pool.execute("DELETE FROM limit_rule WHERE id = ANY($1)", [gone, rolling])
    await stage.drain.pusher.push_once()
    assert await forget_gone(stage.pool, stage.redis) == 0
    before = await _fields(stage)
    assert {f"l{gone}.u", f"l{rolling}.u"} <= before
    await stage.pool.execute("UPDATE limit_gone SET at = at - interval '2 days'")
    assert await forget_gone(stage.pool, stage.redis) == 2
    after = await _fields(stage)
    assert before - after == {f for f in before if f.startswith((f"l{gone}.", f"l{rolling}."))}
    assert f"l{kept}.u" in after
    assert await stage.pool.fetch("SELECT * FROM limit_gone") == []
    assert (await verify(stage.pool, stage.redis)).ok
    await stage.redis.command("FLUSHDB")
    await stage.drain.prepare()
    assert not {f for f in await _fields(stage) if f.startswith(f"l{gone}.")}
    assert (await verify(stage.pool, stage.redis)).ok


async def test_limits_of_each_level_are_noted_when_they_go(stage: DoorStage) -> None:
    organisation = await stage.organisation()
    person = await stage.pool.fetchval("SELECT id FROM person")
    await stage.pool.execute("INSERT INTO plan (name) VALUES ('p')")
    await stage.pool.execute("UPDATE organisation SET plan = 'p'")
    rows = [("key", stage.key[9:19]), ("person", str(person)), ("plan", "p"), ("end_user", "")]
    for level, subject in rows:
        await stage.pool.execute(
            "INSERT INTO limit_rule (organisation, level, subject, unit, window_kind, amount)"
            " VALUES ($1, $2, $3, 'calls', 'none', 1)",
            *(None if level == "plan" else organisation, level, subject),
        )
    await stage.pool.execute("DELETE FROM limit_rule")
    noted = await stage.pool.fetch("SELECT owner FROM limit_gone ORDER BY rule")
    assert [row["owner"] for row in noted] == [
        f"k:{stage.key[9:19]}",
        f"w:m:{organisation}:{person}",
        f"o:{organisation}",
    ]


async def _age_usage(database_url: str) -> None:
    """As if all until now had been booked long ago. The processes themselves may not do that."""
    conn = await asyncpg.connect(database_url)
    try:
        await conn.execute("ALTER TABLE usage_event DISABLE TRIGGER usage_event_append_only")
        await conn.execute("UPDATE usage_event SET at = at - interval '101 days'")
        await conn.execute("ALTER TABLE usage_event ENABLE TRIGGER usage_event_append_only")
        await conn.execute("UPDATE meter_use SET begun_at = begun_at - interval '102 days'")
    finally:
        await conn.close()


async def _fields(stage: DoorStage) -> set[str]:
    id = await stage.organisation()
    shard = await stage.pool.fetchval("SELECT shard FROM organisation WHERE id = $1", id)
    found = await stage.redis.command("HKEYS", SHARD_KEYS[shard].organisation(str(id)))
    return {name.decode() for name in found}
