"""P03, P05, P08: what a request costs however it ends, by the table in docs/money.md; sums without
drift; one charge whatever was tried.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest

from bench.upstream import FakeUpstream
from control.books.verify import verify
from tests.door_stage import HELLO, DoorStage, door, until
from tests.house import ROOT

RATES = {"input": 1_000_000_000, "output": 10_000_000_000}  # 1,000 and 10,000 ucr for a token
PIECES = "in=7&out=8&chunks=8&bytes=160"  # a piece has 20 bytes: 5 tokens of an estimate
MODEL = "mock/model"
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 50}
GRANT = 10_000_000_000


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    patient = {"OPSCENTER_REDIS_TIMEOUT_MS": "5000"}  # a busy machine is no part of these stories
    async with door(home, redis_url, database_url, **patient) as stage:
        yield stage


@pytest.fixture
async def fake(stage: DoorStage, tmp_path: Path) -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream(ledger=tmp_path / "bills") as upstream:
        await stage.add_provider(upstream.url + "/v1")
        yield upstream


# P03: the matrix ----------------------------------------------------------------------------


class Client:
    """One way to leave, or to stay."""

    def __init__(self, stage: DoorStage, fake: FakeUpstream) -> None:
        self.stage = stage
        self.fake = fake

    @contextlib.asynccontextmanager
    async def stream(self) -> AsyncIterator[Any]:
        headers = {"authorization": f"Bearer {self.stage.key}"}
        body = orjson.dumps({**BODY, "stream": True})
        async with self.stage.http.stream(
            "POST", "/v1/chat/completions", content=body, headers=headers
        ) as answer:
            yield answer

    async def leaves_a_call(self) -> None:
        await self._left(self.stage.chat(BODY))

    async def leaves_before_the_first_byte(self) -> None:
        await self._left(self.stage.chat({**BODY, "stream": True}))

    async def _left(self, asking: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(asking)
        await until(lambda: bool(self.fake.requests))
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def leaves_in_the_middle(self) -> None:
        """After the third piece."""
        async with self.stream() as answer:
            text = ""
            async for piece in answer.aiter_text():
                text += piece
                if text.count("data: ") >= 3 + text.count('"role"'):
                    break

    async def presses_stop(self) -> None:
        """As OpenAI's client does it."""
        async with openai.AsyncOpenAI(
            base_url=self.stage.url + "/v1", api_key=self.stage.key
        ) as client:
            messages: Any = BODY["messages"]
            stream = await client.chat.completions.create(
                model=MODEL, messages=messages, max_tokens=50, stream=True
            )
            seen = 0
            async for chunk in stream:
                seen += bool(chunk.choices and chunk.choices[0].delta.content)
                if seen == 3:
                    break
            await stream.close()

    async def leaves_after_the_usage(self) -> None:
        """It came with the first event; the pieces are still to come."""
        async with self.stream() as answer:
            async for piece in answer.aiter_text():
                if "data: " in piece:
                    break

    async def reads_slowly(self) -> None:
        async with self.stream() as answer:
            async for _ in answer.aiter_raw(64):
                await asyncio.sleep(0.001)

    async def stays(self) -> None:
        async with self.stream() as answer:
            await answer.aread()

    async def stays_for_a_call(self) -> None:
        await self.stage.chat(BODY)


def table() -> list[list[str]]:
    """The rows below the heading of the page: client, provider, row, reason, counted by, cost."""
    page = (ROOT / "docs" / "money.md").read_text()
    lines = (
        page.partition("## The bill, however it ends")[2].partition("<!-- other")[0].splitlines()
    )
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in rows if len(row) == 6 and row[1].startswith("mock/")]


@pytest.mark.parametrize("row", table(), ids=lambda row: f"{row[0]}, {row[1]}")
async def test_p03_disconnect_matrix(stage: DoorStage, fake: FakeUpstream, row: list[str]) -> None:
    """Each row of the table is what happens, to the ucr, and the books agree."""
    client, provider, kind, reason, source, cost = row
    upstream = provider + ("&" if "?" in provider else "?") + PIECES
    await stage.add_model(MODEL, upstream, rates=RATES)
    act: Callable[[], Coroutine[Any, Any, None]]
    act = getattr(Client(stage, fake), client.replace(" ", "_"))
    await act()
    await until(lambda: not stage.worker.flow.settler.running)
    await until(lambda: not fake.connections or reason != "client_gone")
    await stage.quiesce()
    [booked] = await stage.usage()
    assert (booked["kind"], booked["reason"], booked["usage_source"]) == (kind, reason, source)
    assert booked["cost"] == int(cost.replace(",", ""))
    assert await stage.pool_in_redis() == {"b": GRANT - booked["cost"], "h": 0}
    report = await verify(stage.pool, stage.redis)
    assert report.ok, report


# P05: no drift ------------------------------------------------------------------------------


async def test_p05_exact_sum(stage: DoorStage, fake: FakeUpstream) -> None:
    """The sum of the rows is what the balance went down by, to the ucr; and the known case: five
    calls of 14, 14, 14, 14 and 21 tokens at $0.003 per 1,000 with 25 % are 288,750."""
    known = {"input": 3_000_000_000, "output": 3_000_000_000}
    for tokens in (14, 21):
        name = f"mock/known{tokens}"
        await stage.add_model(name, f"mock/ok?in={tokens - 4}&out=4", rates=known)
    await with_markup(stage)
    for tokens in (14, 14, 14, 14, 21):
        answer = await stage.chat({**HELLO, "model": f"mock/known{tokens}"})
        assert answer.status_code == 200, answer.text
    await stage.quiesce()
    assert [row["cost"] for row in await stage.usage()] == [52_500] * 4 + [78_750]
    assert (await stage.pool_in_redis())["b"] == GRANT - 288_750
    await random_rows(stage)
    rows = await stage.usage()
    spent = sum(row["cost"] for row in rows)
    assert await stage.pool_in_redis() == {"b": GRANT - spent, "h": 0}
    report = await verify(stage.pool, stage.redis)
    assert report.ok, report


async def with_markup(stage: DoorStage) -> None:
    """25 %, as the prices of a model are entered."""
    rows = await stage.pool.fetch("SELECT model, rates FROM price WHERE model LIKE 'mock/known%'")
    for row in rows:
        await stage.pool.execute(
            "INSERT INTO price (model, rates, factor_ppm) VALUES ($1, $2, 1250000)", *row
        )
    assert await stage.drain.publisher.snapshot()
    await stage.worker.flow.current.refresh()


async def random_rows(stage: DoorStage) -> None:
    dice = random.Random(5)
    for nth in range(8):
        rates = {"input": dice.randrange(10**10), "output": dice.randrange(10**11)}
        upstream = f"mock/ok?in={dice.randrange(500)}&out={dice.randrange(1, 99)}"
        await stage.add_model(f"mock/r{nth}", upstream, rates=rates)
    models = [f"mock/r{dice.randrange(8)}" for _ in range(200)]
    answers = []
    for start in range(0, len(models), 20):
        some = models[start : start + 20]
        answers += await asyncio.gather(*(stage.chat({**HELLO, "model": one}) for one in some))
    assert {answer.status_code for answer in answers} == {200}
    await stage.quiesce()
    told = sum(Decimal(answer.headers["x-ops-cost"]) for answer in answers)
    booked = sum(row["cost"] for row in await stage.usage() if row["model"] in models)
    assert told * 1_000_000 == booked


# P08: one charge ----------------------------------------------------------------------------


async def test_p08_attempts(stage: DoorStage, fake: FakeUpstream) -> None:
    """Two deployments fail, the third answers: one row with its three attempts, told to the
    client, and the sum of all rows is the provider's invoice."""
    places = ("mock/503?times=3", "mock/502?times=3", "mock/ok?in=7&out=8")
    for place in places:
        await stage.add_model(MODEL, place, rates=RATES)
    answers = [await stage.chat({**HELLO, "model": MODEL}) for _ in range(5)]
    assert [answer.headers["x-ops-attempts"] for answer in answers] == ["3"] * 3 + ["1"] * 2
    await stage.quiesce()
    rows = await stage.usage()
    assert [row["attempts"] for row in rows] == [3, 3, 3, 1, 1]
    bills = {bill.request_id: bill for bill in fake.billed()}
    assert set(bills) == {str(row["rid"]) for row in rows}
    invoice = sum(1_000 * b.prompt_tokens + 10_000 * b.completion_tokens for b in bills.values())
    assert sum(row["cost"] for row in rows) == invoice


async def test_p08_attempts_that_all_fail_cost_nothing(
    stage: DoorStage, fake: FakeUpstream
) -> None:
    for place in ("mock/503", "mock/close", "mock/500"):
        await stage.add_model(MODEL, place, rates=RATES)
    answer = await stage.chat({**HELLO, "model": MODEL})
    assert answer.status_code == 503
    await stage.quiesce()
    [row] = await stage.usage()
    assert (row["kind"], row["cost"]) == ("released", 0)
    # one more where the second was called on the connection that the first had left
    assert row["attempts"] in (3, 4)
    assert not fake.billed()
    assert await stage.pool_in_redis() == {"b": GRANT, "h": 0}
