"""Limits of requests and of tokens in OpenAI's headers: the numbers of the list of limits."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from bench.upstream import FakeUpstream
from proxy.bounds.rates import duration
from tests.door_stage import DoorStage, door
from tests.test_limits_door import DAY, MODEL, NONE, ask, rule

BEGIN = "x-ratelimit-"
HOUR = {"window_kind": "rolling", "seconds": 3_600}  # longer than any test


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    async with door(home, redis_url, database_url) as stage, FakeUpstream() as fake:
        await stage.add_provider(fake.url + "/v1")
        await stage.add_model(MODEL, "mock/ok?in=20&out=10&bytes=40")
        yield stage


def told(headers: Mapping[str, str]) -> dict[str, str]:
    return {n.removeprefix(BEGIN): v for n, v in headers.items() if n.startswith(BEGIN)}


async def left(stage: DoorStage, key: str) -> dict[str, int]:
    await stage.quiesce()
    sent = {"authorization": f"Bearer {key}"}
    rows = (await stage.http.get("/v1/me/limits", headers=sent)).json()["data"]
    return {row["name"]: row["left"] for row in rows if row["name"] in ("requests", "tokens")}


async def limited(stage: DoorStage, calls: int, tokens: int) -> str:
    key = await stage.new_key()
    await rule(stage, "key", calls, "calls", subject=key[9:19], **HOUR)
    await rule(stage, "key", tokens, "tokens", subject=key[9:19], **HOUR)
    return key


async def test_a_call_that_costs_nothing_is_a_request_all_the_same(stage: DoorStage) -> None:
    key = await limited(stage, 3, 5_000)
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
    sent = {"authorization": f"Bearer {key}"}
    answer = await stage.http.post("/v1/messages/count_tokens", json=asked, headers=sent)
    assert answer.status_code == 200
    assert await left(stage, key) == {"requests": 2, "tokens": 5_000}


async def test_p35_limits_mirror_in_headers(stage: DoorStage) -> None:
    """Of a plain answer as its usage left them, of a stream before it; until when all is as at
    first."""
    key = await limited(stage, 3, 5_000)
    answer = await ask(stage, key)
    assert told(answer.headers) == {
        "limit-requests": "3",
        "remaining-requests": "2",
        "reset-requests": "1h1m0s",
        "limit-tokens": "5000",
        "remaining-tokens": "4970",
        "reset-tokens": "1h1m0s",
    }
    assert await left(stage, key) == {"requests": 2, "tokens": 4970}
    streamed = await ask(stage, key, stream=True, max_tokens=100)
    headers = told(streamed.headers)
    assert headers["remaining-requests"] == "1"
    assert 4_970 - 200 < int(headers["remaining-tokens"]) <= 4_970 - 100
    assert await left(stage, key) == {"requests": 1, "tokens": 4940}


async def test_p35_limits_mirror_in_headers_of_refusals(stage: DoorStage) -> None:
    """Of the limit that refused, with the moment at which it has room again."""
    key = await limited(stage, 1, 5_000)
    await ask(stage, key)
    refused = await ask(stage, key)
    assert refused.json()["error"]["code"] == "rate_limited"
    wait = refused.headers["retry-after"]
    assert 0 < int(wait) <= 3_660
    assert told(refused.headers) == {
        "limit-requests": "1",
        "remaining-requests": "0",
        "reset-requests": duration(int(wait)),
    }
    key = await limited(stage, 9, 50)
    refused = await ask(stage, key, max_tokens=100)
    assert refused.headers["x-should-retry"] == "false"
    assert told(refused.headers) == {"limit-tokens": "50", "remaining-tokens": "50"}


async def test_of_several_limits_the_one_with_least_left_is_told(stage: DoorStage) -> None:
    key = await stage.new_key()
    assert told((await ask(stage, key)).headers) == {}
    await rule(stage, "organisation", 500, "calls", **DAY)
    headers = told((await ask(stage, key)).headers)
    assert (headers["limit-requests"], headers["remaining-requests"]) == ("500", "499")
    assert "limit-tokens" not in headers
    await rule(stage, "key", 700, "calls", subject=key[9:19], **NONE)
    assert told((await ask(stage, key)).headers)["limit-requests"] == "500"
    await rule(stage, "key", 70, "calls", subject=key[9:19], **NONE)
    # what has no window never begins anew
    assert told((await ask(stage, key)).headers) == {
        "limit-requests": "70",
        "remaining-requests": "69",
    }


async def test_a_ceiling_of_cost_does_not_ask_for_more_tokens_than_there_are(
    stage: DoorStage,
) -> None:
    """A maximum that the client has not named is not his wish."""
    key = await limited(stage, 9, 200)
    answer = await stage.chat(
        {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}, key, **{"x-max-cost": "9"}
    )
    assert answer.status_code == 200, answer.text
    assert int(answer.headers["x-ops-max-tokens"]) > 200


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59, "59s"), (60, "1m0s"), (3_600, "1h0m0s"), (90_061, "25h1m1s")],
)
def test_a_span_is_written_as_openai_writes_it(seconds: int, text: str) -> None:
    assert duration(seconds) == text
