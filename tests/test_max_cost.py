"""X-Max-Cost: what one request may cost at most is what is held of it at most."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.upstream import FakeUpstream
from proxy.costs.hold import allowed, input_max, output_max
from proxy.costs.pricing import worst_ucr
from proxy.errors import MaxCostExceeded
from proxy.types import Call, Model, Price
from tests.door_stage import HELLO, DoorStage, door

RATES = {"input": 0, "output": 1_000_000_000}  # 1,000 ucr for each token out
LONG = "mock/ok?in=10&out=400&chunks=40&bytes=400"
CEILING = {"x-max-cost": "0.123456"}


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    async with door(home, redis_url, database_url, OPSCENTER_SLICE_TOKENS="100") as stage:
        yield stage


@pytest.fixture
async def fake(stage: DoorStage, tmp_path: Path) -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream(ledger=tmp_path / "bills") as upstream:
        await stage.add_provider(upstream.url + "/v1")
        await stage.add_model("mock/long", LONG, rates=RATES)
        yield upstream


LONG_CALL: dict[str, Any] = {**HELLO, "model": "mock/long"}


def refused(answer: httpx2.Response) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (402, "max_cost_exceeded")
    assert answer.headers["x-should-retry"] == "false"
    return error


async def booked(stage: DoorStage) -> Any:
    await stage.quiesce()
    assert (await stage.pool_in_redis())["h"] == 0
    [row] = await stage.usage()
    return row


async def test_who_names_no_maximum_gets_what_his_ceiling_carries(
    stage: DoorStage, fake: FakeUpstream
) -> None:
    """The provider is told the lower maximum, and so is the client."""
    answer = await stage.chat(LONG_CALL, **CEILING)
    assert answer.status_code == 200
    assert answer.headers["x-ops-max-tokens"] == "123"
    assert orjson.loads(fake.requests[-1].body)["max_tokens"] == 123
    row = await booked(stage)
    assert (row["cost"], row["hold"]) == (123_000, 123_000)


async def test_who_names_a_maximum_that_may_cost_more_is_refused(
    stage: DoorStage, fake: FakeUpstream
) -> None:
    """Before anything is held, with the row of the limit."""
    error = refused(await stage.chat({**LONG_CALL, "max_tokens": 124}, **CEILING))
    assert "may cost up to 0.124000 credits" in error["message"]
    assert error["limit"].items() >= {
        "name": "max_cost", "of": "request", "unit": "credits", "limit": "0.123456",
        "left": "0.123456",
    }.items()  # fmt: skip
    assert (await stage.chat({**LONG_CALL, "max_tokens": 123}, **CEILING)).status_code == 200
    refused(await stage.chat({**LONG_CALL, "n": 124}, **CEILING))
    assert len(fake.requests) == 1


@pytest.mark.parametrize("named", [{}, {"max_tokens": 300}, {"max_completion_tokens": 300}])
async def test_a_stream_ends_at_its_ceiling(
    stage: DoorStage, fake: FakeUpstream, named: dict[str, int]
) -> None:
    """However many slices it is held in, they are never more than the ceiling together."""
    answer = await stage.chat({**LONG_CALL, **named, "stream": True}, **CEILING)
    assert answer.status_code == 200
    lowered = int(answer.headers["x-ops-max-tokens"])
    assert 118 <= lowered <= 123
    sent = orjson.loads(fake.requests[-1].body)
    assert {sent.get(name) for name in (named or {"max_tokens": 0})} == {lowered}
    assert '"finish_reason":"length"' in answer.text.replace(" ", "")
    assert "data: [DONE]" in answer.text
    row = await booked(stage)
    assert row["cost"] == lowered * 1000 <= row["hold"] <= 123_456


async def test_what_the_credits_carry_may_be_less_than_the_ceiling(
    stage: DoorStage, fake: FakeUpstream
) -> None:
    key = await stage.new_key(budget_ucr=50_000)
    answer = await stage.chat(LONG_CALL, key=key, **CEILING)
    assert answer.headers["x-ops-max-tokens"] == "50"
    assert (await booked(stage))["cost"] == 50_000


@pytest.mark.parametrize(
    ("header", "field", "maximum"),
    [
        (None, 0.05, 50),
        (None, "0.05", 50),
        ("1", 0.05, 50),
        ("0.05", 1, 50),
        ("0.05", None, 50),
        ("9", 9, None),
    ],
)
async def test_the_field_says_the_same_and_no_provider_sees_it(
    stage: DoorStage, fake: FakeUpstream, header: str | None, field: Any, maximum: int | None
) -> None:
    """Of both the lower counts."""
    headers = {} if header is None else {"x-max-cost": header}
    answer = await stage.chat({**LONG_CALL, "max_cost": field}, **headers)
    assert answer.status_code == 200
    sent = orjson.loads(fake.requests[-1].body)
    assert "max_cost" not in sent
    assert sent.get("max_tokens") == maximum


@pytest.mark.parametrize("wrong", ["", "-1", "1e3", "0.1234567", "1,5", "nan", "9999999999"])
async def test_what_is_no_amount_is_an_error(stage: DoorStage, wrong: str) -> None:
    answer = await stage.chat(**{"x-max-cost": wrong})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "header_invalid")
    answer = await stage.chat({**HELLO, "max_cost": wrong})
    assert answer.json()["error"]["param"] == "max_cost"


async def test_it_is_no_amount_if_it_is_no_number(stage: DoorStage) -> None:
    mistakes: list[Any] = [True, [], {}, -1, 1e-9, 1e12]
    for wrong in mistakes:
        answer = await stage.chat({**HELLO, "max_cost": wrong})
        assert answer.json()["error"]["param"] == "max_cost"


async def test_nothing_may_cost_nothing(stage: DoorStage, fake: FakeUpstream) -> None:
    """A ceiling of 0 lets free models through and no other."""
    await stage.add_model("mock/free", LONG, rates={"input": 0, "output": 0})
    nothing = {"x-max-cost": "0"}
    for stream in (False, True):
        answer = await stage.chat({**LONG_CALL, "model": "mock/free", "stream": stream}, **nothing)
        assert answer.status_code == 200
        refused(await stage.chat({**LONG_CALL, "stream": stream}, **nothing))


async def test_requests_side_by_side_each_have_their_own(
    stage: DoorStage, fake: FakeUpstream
) -> None:
    calls = [stage.chat(LONG_CALL, **{"x-max-cost": f"0.0{n}"}) for n in range(1, 9)]
    answers = await asyncio.gather(*calls)
    assert [int(a.headers["x-ops-max-tokens"]) for a in answers] == [10 * n for n in range(1, 9)]


rates = st.integers(0, 10**13)


@settings(deadline=None, derandomize=True, database=None, max_examples=500)
@given(
    rates, rates, st.integers(0, 10**7), st.integers(0, 10**12), st.booleans(), st.integers(1, 4)
)
def test_a_call_within_its_ceiling_is_the_largest_that_is(
    dear_in: int, dear_out: int, factor: int, ceiling: int, stream: bool, choices: int
) -> None:
    price = Price(1, {"input": dear_in, "output": dear_out}, factor)
    model = Model("m", 100_000, 5_000, 0, (), price)
    fields = {"messages": [{"role": "user", "content": "x"}], "n": choices}
    call = Call("r", "/", b"x" * 200, fields, "m", stream, False, None, None)
    slices = -(-5_000 * choices // 100) if stream else 0

    def worst(one: Call) -> int:
        return worst_ucr(input_max(one, model), output_max(one, model), price)

    try:
        made = allowed(replace(call, max_cost_ucr=ceiling), model, price, 100)
    except MaxCostExceeded:
        assert worst_ucr(200, choices, price) + slices > ceiling
        return
    assert worst(made) <= ceiling
    if made.lowered_to is not None:
        more = replace(made, output_max=(made.lowered_to + 1) * choices)
        assert worst(more) + slices > ceiling
