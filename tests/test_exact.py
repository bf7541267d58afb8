"""Credits stay exact: budgets, slices of streams, jobs, and what a worker's death leaves."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from bench.upstream import FakeUpstream
from control.books.verify import verify
from proxy.errors import NotReady
from proxy.redis.scripts import SHARD_KEYS
from tests.door_stage import HELLO, DoorStage, door, until

RATES = {"input": 0, "output": 1_000_000_000}  # 1,000 ucr for each token out
LONG = "mock/ok?in=10&out=400&chunks=40&bytes=400"


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    async with door(home, redis_url, database_url, OPSCENTER_SLICE_TOKENS="100") as stage:
        yield stage


@pytest.fixture
async def fake(stage: DoorStage, tmp_path: Path) -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream(ledger=tmp_path / "bills") as upstream:
        await stage.add_provider(upstream.url + "/v1")
        yield upstream


async def set_pool(stage: DoorStage, balance: int) -> None:
    """Both sides agree on this balance."""
    organisation = await stage.organisation()
    shard = await stage.pool.fetchval("SELECT shard FROM organisation WHERE platform")
    owner = f"o:{organisation}:pool"
    statement = "UPDATE account SET credits = debits + $1 WHERE owner = $2"
    await stage.pool.execute(statement, balance, owner)
    at = SHARD_KEYS[int(shard)]
    await stage.redis.command("HSET", at.organisation(str(organisation)), "pool.b", balance)


def error(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


# Slices ---------------------------------------------------------------------------------


async def test_a_stream_holds_slice_by_slice(stage: DoorStage, fake: FakeUpstream) -> None:
    """The first hold is one slice, not the model's maximum; the rest is held as it comes."""
    model = await stage.add_model("mock/long", LONG, rates=RATES)
    await set_pool(stage, 1_000_000)
    answer = await stage.chat({**HELLO, "model": model, "stream": True})
    assert answer.headers["x-ops-held"] == "0.100000"
    assert "[DONE]" in answer.text
    await stage.quiesce()
    [row] = await stage.usage()
    assert (row["cost"], row["tokens"]["output"]) == (400_000, 400)
    assert row["hold"] >= 400_000
    assert await stage.pool_in_redis() == {"b": 600_000, "h": 0}


async def test_a_stream_whose_credits_end_is_cut_cleanly(
    stage: DoorStage, fake: FakeUpstream
) -> None:
    """A last frame with `length`, then the error; what came is charged, never more than held."""
    model = await stage.add_model("mock/long", LONG + "&chunk_ms=1", rates=RATES)
    await set_pool(stage, 150_000)
    answer = await stage.chat({**HELLO, "model": model, "stream": True})
    events = [line for line in answer.text.split("\n\n") if line.startswith("data: ")]
    last, problem = (orjson.loads(event[6:]) for event in events[-2:])
    assert last["choices"][0]["finish_reason"] == "length"
    assert last["object"] == "chat.completion.chunk"
    assert problem["error"]["code"] == "insufficient_credits"
    await until(lambda: not fake.connections)
    await stage.quiesce()
    [row] = await stage.usage()
    assert (row["kind"], row["reason"]) == ("settled", "insufficient_credits")
    assert 0 < row["cost"] <= row["hold"] <= 150_000
    assert (await stage.pool_in_redis())["h"] == 0


@pytest.mark.parametrize(
    ("of", "code"), [("job", "job_ceiling_reached"), ("key", "budget_reached")]
)
async def test_a_stream_that_another_limit_ends_says_which(
    stage: DoorStage, fake: FakeUpstream, of: str, code: str
) -> None:
    """With the row of that limit, as a refusal before the first byte has it."""
    model = await stage.add_model("mock/long", LONG + "&chunk_ms=1", rates=RATES)
    job = {"x-job-id": "run-1", "x-job-max-cost": "0.15"} if of == "job" else {}
    key = await stage.new_key(budget_ucr=150_000 if of == "key" else 10**9)
    answer = await stage.chat({**HELLO, "model": model, "stream": True}, key, **job)
    error = orjson.loads(answer.text.split("data: ")[-1])["error"]
    assert (error["code"], error["docs"]) == (code, f"/errors/{code}")
    limit = error["limit"]
    assert (limit["of"], limit["limit"], limit["held"]) == (of, "0.150000", "0.100000")
    await stage.quiesce()
    [row] = await stage.usage()
    assert row["reason"] == code


async def test_a_stream_uses_up_what_it_holds_before_it_is_refused_more(
    stage: DoorStage, fake: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked early and told no, or nothing, it goes on to the end of its slice and asks again."""
    model = await stage.add_model("mock/long", LONG + "&chunk_ms=1", rates=RATES)
    settler, asked = stage.worker.flow.settler, list[int]()
    extend, refusals = settler.extend, list[bool | NotReady]([NotReady(), False])

    async def refusing(*words: Any) -> bool:
        asked.append(words[2].delivered.content_bytes)
        if not refusals:
            return await extend(*words)
        refusal = refusals.pop()
        if isinstance(refusal, NotReady):
            raise refusal
        return refusal

    monkeypatch.setattr(type(settler), "extend", lambda _, *words: refusing(*words))
    answer = await stage.chat({**HELLO, "model": model, "stream": True})
    last = orjson.loads(answer.text.split("data: ")[-1])
    assert last["error"]["code"] == "not_ready"  # at the end of its slice
    slice_tokens = stage.worker.settings.slice_tokens
    assert slice_tokens // 2 < asked[0] <= slice_tokens < asked[1]
    await stage.quiesce()
    assert (await stage.pool_in_redis())["h"] == 0


async def test_a_model_that_thinks_unseen_is_held_whole(
    stage: DoorStage, fake: FakeUpstream
) -> None:
    model = await stage.add_model("mock/long", LONG, rates=RATES, output_max=900)
    await stage.pool.execute("UPDATE model SET thinks = true WHERE id = $1", model)
    assert await stage.drain.publisher.snapshot()
    await stage.worker.flow.current.refresh()
    answer = await stage.chat({**HELLO, "model": model, "stream": True})
    assert answer.headers["x-ops-held"] == "0.900000"


# Maxima that the credits lower -------------------------------------------------------------


async def test_who_names_no_maximum_gets_what_his_credits_carry(
    stage: DoorStage, fake: FakeUpstream
) -> None:
    """The provider is told the lower maximum, and so is the client."""
    model = await stage.add_model("mock/long", "mock/ok?out=400", rates=RATES)
    await set_pool(stage, 123_456)
    answer = await stage.chat({**HELLO, "model": model})
    assert answer.status_code == 200
    assert answer.headers["x-ops-max-tokens"] == "123"
    assert orjson.loads(fake.requests[-1].body)["max_tokens"] == 123
    await stage.quiesce()
    assert (await stage.pool_in_redis())["b"] == 456


async def test_who_names_a_maximum_is_refused_when_it_is_not_carried(
    stage: DoorStage, fake: FakeUpstream
) -> None:
    model = await stage.add_model("mock/long", "mock/ok?out=400", rates=RATES)
    await set_pool(stage, 123_456)
    answer = await stage.chat({**HELLO, "model": model, "max_tokens": 200})
    assert error(answer) == (402, "insufficient_credits")
    assert not fake.requests


# Budgets and jobs -----------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["key", "person", "organisation"])
async def test_a_budget_is_hard_at_every_level(
    stage: DoorStage, fake: FakeUpstream, level: str
) -> None:
    """Exactly as many concurrent requests pass as the budget carries, at every level."""
    model = await stage.add_model("mock/ten", "mock/ok?in=0&out=10&latency_ms=5", rates=RATES)
    limits: dict[str, Any] = {"budget_ucr": 100_000} if level == "key" else {}
    key = await stage.new_key(**limits)
    if level == "person":
        await stage.pool.execute("UPDATE membership SET budget_ucr = 100000")
    if level == "organisation":
        await stage.pool.execute("UPDATE organisation SET budget_ucr = 100000")
    await stage.drain.pusher.push_once()
    body = {**HELLO, "model": model, "max_tokens": 10}
    answers = await asyncio.gather(*(stage.chat(body, key) for _ in range(60)))
    passed = [answer for answer in answers if answer.status_code == 200]
    assert len(passed) == 10
    refused = next(answer for answer in answers if answer.status_code != 200)
    assert error(refused) == (429, "budget_reached")
    await stage.quiesce()
    assert sum(row["cost"] for row in await stage.usage()) == 100_000
    report = await verify(stage.pool, stage.redis)
    assert report.ok, report


async def test_a_budget_survives_the_loss_of_redis(stage: DoorStage, fake: FakeUpstream) -> None:
    model = await stage.add_model("mock/ten", "mock/ok?in=0&out=10", rates=RATES)
    key = await stage.new_key(budget_ucr=25_000)
    body = {**HELLO, "model": model, "max_tokens": 10}
    assert [(await stage.chat(body, key)).status_code for _ in range(2)] == [200, 200]
    await stage.quiesce()
    await stage.redis.command("FLUSHDB")
    await stage.drain.prepare()
    assert await stage.drain.publisher.snapshot()
    assert error(await stage.chat(body, key)) == (429, "budget_reached")
    report = await verify(stage.pool, stage.redis)
    assert report.ok, report


async def test_requests_of_a_job_share_its_ceiling(stage: DoorStage, fake: FakeUpstream) -> None:
    model = await stage.add_model("mock/ten", "mock/ok?in=0&out=10&latency_ms=5", rates=RATES)
    body = {**HELLO, "model": model, "max_tokens": 10}
    job = {"x-job-id": "run-1", "x-job-max-cost": "0.05"}
    answers = await asyncio.gather(*(stage.chat(body, **job) for _ in range(30)))
    assert [answer.status_code for answer in answers].count(200) == 5
    assert error(await stage.chat(body, **job)) == (402, "job_ceiling_reached")
    other = {**job, "x-job-max-cost": "9"}
    assert error(await stage.chat(body, **other)) == (409, "job_ceiling_differs")
    assert error(await stage.chat(body, **{"x-job-id": "a b"})) == (400, "header_invalid")
    assert error(await stage.chat(body, **{**job, "x-job-max-cost": "-1"}))[0] == 400
    await stage.quiesce()
    assert {row["job"] for row in await stage.usage()} == {"run-1"}


# Death ----------------------------------------------------------------------------------------


async def test_what_redis_did_not_hear_is_settled_when_it_is_back(
    stage: DoorStage, fake: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client never waits for it, and the charge is exact."""
    from proxy import settle
    from proxy.redis.pipe import RedisDown
    from proxy.redis.shards import SettleCall

    monkeypatch.setattr(settle, "REDRIVE_AFTER_S", 0.05)
    begin, failing = SettleCall.begin, [True]

    def away(call: SettleCall) -> asyncio.Future[Any]:
        if failing[0]:
            raise RedisDown("cut")
        return begin(call)

    monkeypatch.setattr(SettleCall, "begin", away)
    answer = await stage.chat()
    assert answer.status_code == 200
    assert (await stage.pool_in_redis())["h"] > 0
    failing[0] = False
    metrics = stage.worker.metrics
    await until(lambda: metrics.cells[metrics.settled] == 1)
    await stage.quiesce()
    assert [row["cost"] for row in await stage.usage()] == [9000]
    assert await stage.pool_in_redis() == {"b": 9_999_991_000, "h": 0}


async def test_the_journal_forgets_what_the_ledger_has(stage: DoorStage) -> None:
    await stage.chat()
    assert len(stage.worker.journal.entries) == 1
    await stage.quiesce()
    await until(lambda: not stage.worker.journal.entries)


async def test_a_journal_that_cannot_be_written_admits_nothing(
    stage: DoorStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F36: readiness falls, the hold is given back, and it recovers without a restart."""
    import os

    write = os.write

    def full(fd: int, data: bytes) -> int:
        if fd == stage.worker.journal._fd:
            raise OSError(28, "No space left on device")
        return write(fd, data)

    monkeypatch.setattr(os, "write", full)
    assert error(await stage.chat()) == (503, "not_ready")
    assert (await stage.http.get("/readyz")).status_code == 503
    monkeypatch.setattr(os, "write", write)
    await until(lambda: stage.worker.ready)
    assert (await stage.chat()).status_code == 200
    await stage.quiesce()
    assert (await stage.pool_in_redis())["h"] == 0
