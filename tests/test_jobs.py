"""Jobs with a ceiling: made by the API or by their first request, what of it outlives Redis."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from control import sql
from control.books.verify import verify
from proxy.bounds.meters import Job
from proxy.bounds.standing import job_owner
from tests.control_stage import Stage, stage
from tests.door_stage import HELLO, DoorStage, door

JOBS = "/api/v1/jobs"
CEILING = 200_000  # ucr: of a few requests of the echo
TWO: dict[str, str] = {"x-job-id": "run-1", "x-job-max-cost": "0.2"}
NAMED: dict[str, str] = {"x-job-id": "run-1"}


@pytest.fixture
async def api(home: Path, database_url: str, redis_url: str) -> AsyncIterator[Stage]:
    async with stage(home, database_url, redis_url) as made:
        yield made


@pytest.fixture
async def here(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    async with door(home, redis_url, database_url) as made:
        yield made


# By the API -----------------------------------------------------------------------------


async def test_the_first_ceiling_stands(api: Stage) -> None:
    made = await api.post(JOBS, {"id": "run-1", "max_cost": "250.5"})
    assert (made.status, made.json["max_cost"], made.json["used"]) == (
        201,
        "250.500000",
        "0.000000",
    )
    assert (made.json["status"], made.json["made_by"]) == ("open", "api")
    assert await _in_redis(api, "run-1") == (b"250500000", b"active", -1)
    assert (await api.post(JOBS, {"id": "run-1", "max_cost": "250.5"})).status == 200
    other = await api.post(JOBS, {"id": "run-1", "max_cost": "250"})
    assert (other.status, other.code) == (409, "conflict")
    assert "250.500000 credits already" in other.message
    assert [one["id"] for one in (await api.get(JOBS)).json["data"]] == ["run-1"]


async def test_a_ceiling_that_a_request_has_named_stands_too(api: Stage) -> None:
    """Also before it is booked."""
    owner = await _owner(api, "run-1")
    await api.state.redis.command("HSET", owner, "bud.l", CEILING)
    await api.state.redis.command("PEXPIRE", owner, 60_000)
    assert (await api.post(JOBS, {"id": "run-1", "max_cost": "41"})).status == 409
    assert (await api.post(JOBS, {"id": "run-1", "max_cost": "0.2"})).status == 201
    assert await _in_redis(api, "run-1") == (b"200000", b"active", -1)
    organisation = (await api.get("/api/v1/auth/me")).json["organisation"]
    seen = ([organisation], ["run-2"], [CEILING])
    await api.state.pool.execute(sql.load()["job_seen"], *seen)
    assert (await api.get(f"{JOBS}/run-2")).json["made_by"] == "request"
    assert (await api.post(JOBS, {"id": "run-2", "max_cost": "41"})).status == 409
    kept = await api.post(JOBS, {"id": "run-2", "max_cost": "0.2"})
    assert (kept.status, kept.json["made_by"]) == (200, "api")


async def test_a_job_that_requests_have_made_is_nobodys(api: Stage) -> None:
    """Others run under it: who names its ceiling to the API does not own it, booked or not yet."""
    acme = await api.organisation()
    ann, chief = await api.person("developer", acme), await api.person("moderator", acme)
    await api.state.pool.execute(sql.load()["job_seen"], [acme], ["booked"], [CEILING])
    shard = await api.state.pool.fetchval("SELECT shard FROM organisation WHERE id = $1", acme)
    owner = job_owner(shard, acme, Job("unbooked", None))
    await api.state.redis.command("HSET", owner, "bud.l", CEILING)
    for id in ("booked", "unbooked"):
        kept = await ann.post(JOBS, {"id": id, "max_cost": "0.2"})
        assert (kept.json["made_by"], kept.json["user"]) == ("api", None)
        assert (await ann.post(f"{JOBS}/{id}/close")).code == "role_missing"
        assert (await chief.post(f"{JOBS}/{id}/close")).status == 200


async def test_a_closed_job_stays_closed(api: Stage) -> None:
    await api.post(JOBS, {"id": "run-1", "max_cost": "1"})
    closed = await api.post(f"{JOBS}/run-1/close")
    assert (closed.status, closed.json["status"]) == (200, "closed")
    assert (await api.post(f"{JOBS}/run-1/close")).json["closed_at"] == closed.json["closed_at"]
    ceiling, status, life = await _in_redis(api, "run-1")
    assert (ceiling, status, life > 0) == (b"1000000", b"closed", True)
    again = await api.post(JOBS, {"id": "run-1", "max_cost": "1"})
    assert (again.status, again.code) == (409, "conflict")


async def test_a_job_belongs_to_one_organisation(api: Stage) -> None:
    acme, evil = await api.organisation("Acme"), await api.organisation("Evil")
    mine, theirs = await api.person("developer", acme), await api.person("admin", evil)
    colleague, chief = await api.person("developer", acme), await api.person("moderator", acme)
    assert (await mine.post(JOBS, {"id": "run-1", "max_cost": "1"})).status == 201
    assert (await theirs.get(f"{JOBS}/run-1")).status == 404
    assert (await theirs.get(f"{JOBS}/run-1?organisation={acme}")).status == 404
    assert (
        await theirs.post(JOBS, {"id": "x", "max_cost": "1", "organisation": acme})
    ).status == 404
    assert (await theirs.post(JOBS, {"id": "run-1", "max_cost": "2"})).status == 201
    assert (await api.get(f"{JOBS}/run-1?organisation={acme}")).json["max_cost"] == "1.000000"
    assert (await colleague.post(f"{JOBS}/run-1/close")).code == "role_missing"
    assert (await chief.post(f"{JOBS}/run-1/close")).status == 200


async def test_what_is_no_job_is_refused(api: Stage) -> None:
    wanted: list[dict[str, Any]] = [{"id": id, "max_cost": "1"} for id in ("run 1", "", "a:b")]
    wanted += [{"id": "a" * 129, "max_cost": "1"}, {"id": "a"}]
    wanted += [{"id": "a", "max_cost": cost} for cost in (1, "-1", "0")]
    for one in wanted:
        assert (await api.post(JOBS, one)).status == 422, one


# At the door ------------------------------------------------------------------------------


async def test_a_job_of_the_api_stands_after_all_of_redis_was_lost(here: DoorStage) -> None:
    """Its ceiling, and what was used of it; who names another one is told so."""
    await _make(here)
    assert (await _ask(here, NAMED)).status_code == 200
    await here.quiesce()
    used = await here.pool.fetchval("SELECT used FROM meter_use WHERE owner LIKE 'w:j:%'")
    await here.redis.command("FLUSHDB")
    await here.drain.prepare()
    [row] = await _rows(here, "job")
    assert (row["limit"], row["used"]) == ("0.200000", f"{used / 1_000_000:.6f}")
    other = await _ask(here, {**NAMED, "x-job-max-cost": "41"})
    assert (other.status_code, _code(other)) == (409, "job_ceiling_differs")
    assert await _until_refused(here, NAMED) == "job_ceiling_reached"
    await here.quiesce()
    assert (await verify(here.pool, here.redis)).ok


async def test_a_ceiling_that_a_request_has_named_stands_after_a_loss_too(here: DoorStage) -> None:
    """As soon as its first request is booked. Unused, it is forgotten like before."""
    assert (await _ask(here, TWO)).status_code == 200
    await here.quiesce()
    await here.redis.command("FLUSHDB")
    await here.drain.prepare()
    organisation = await here.organisation()
    owner = job_owner(await _shard(here), str(organisation), Job("run-1", None))
    assert await here.redis.command("HGET", owner, "bud.l") == str(CEILING).encode()
    assert await here.redis.command("PTTL", owner) > 0
    assert _code(await _ask(here, {**TWO, "x-job-max-cost": "41"})) == "job_ceiling_differs"
    assert await _until_refused(here, NAMED) == "job_ceiling_reached"


async def test_a_closed_job_takes_no_further_request(here: DoorStage) -> None:
    await _make(here)
    assert (await _ask(here, NAMED)).status_code == 200
    await here.pool.execute("UPDATE job SET closed_at = now()")
    assert await here.drain.publisher.records("job", [f"{await here.organisation()}:run-1"])
    closed = await _ask(here, NAMED)
    assert (closed.status_code, _code(closed)) == (409, "job_closed")
    assert closed.headers["x-should-retry"] == "false"
    assert (await _ask(here, {"x-job-id": "run-2"})).status_code == 200


async def _make(here: DoorStage) -> None:
    organisation = await here.organisation()
    await here.pool.execute(sql.load()["job_add"], organisation, "run-1", CEILING, None)
    assert await here.drain.publisher.pending(10) > 0


async def _ask(here: DoorStage, headers: dict[str, str]) -> httpx2.Response:
    body = {**HELLO, "max_tokens": 10, "model": "ops/echo"}
    return await here.chat(body, **headers)


async def _until_refused(here: DoorStage, headers: dict[str, str]) -> str:
    for _ in range(20):
        answer = await _ask(here, headers)
        if answer.status_code != 200:
            return _code(answer)
    raise AssertionError("the ceiling refused nothing")


async def _rows(here: DoorStage, of: str) -> list[Any]:
    headers = {**NAMED, "authorization": f"Bearer {here.key}"}
    answer = await here.http.get("/v1/me/limits", headers=headers)
    return [row for row in answer.json()["data"] if row["of"] == of]


async def _shard(here: DoorStage) -> int:
    return int(await here.pool.fetchval("SELECT shard FROM organisation"))


def _code(answer: httpx2.Response) -> str:
    return str(answer.json()["error"]["code"])


async def _owner(api: Stage, job: str) -> bytes:
    row = await api.state.pool.fetchrow("SELECT id, shard FROM organisation")
    assert row is not None
    return job_owner(row["shard"], str(row["id"]), Job(job, None))


async def _in_redis(api: Stage, job: str) -> tuple[bytes, bytes, int]:
    owner = await _owner(api, job)
    ceiling, status = await api.state.redis.command("HMGET", owner, "bud.l", "st")
    return ceiling, status, int(await api.state.redis.command("PTTL", owner))
