"""A client of OpenAI's chat completions before each provider's own dialect: the answers it gets,
and that what the provider bills is what is charged.
"""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import orjson
import pytest

from bench.ask import ARGUMENTS, REFUSAL, THOUGHT
from bench.bills import Bill
from bench.upstream import FakeUpstream
from proxy.stream import sse
from tests.door_stage import HELLO, DoorStage, door, until

PROVIDERS = ("anthropic", "gemini", "cohere", "ollama")
SECRET = "sk-upstream-0123456789"
RATES = {
    "input": 3_000_000_000,
    "output": 15_000_000_000,
    "cache_read": 300_000_000,
    "cache_write": 4_000_000_000,
    "cache_write_1h": 6_000_000_000,
    "reasoning": 20_000_000_000,
}
USED = "in=20&out=34&cached=5&cache_write=6&cache_hour=4&reasoning=7&bytes=300&chunks=5"
TOOLS = [{"type": "function", "function": {"name": "lookup", "parameters": {"type": "object"}}}]


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    async with door(home, redis_url, database_url) as stage:
        yield stage


@pytest.fixture
async def fake(stage: DoorStage, tmp_path: Path) -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream(ledger=tmp_path / "bills") as upstream:
        for name in PROVIDERS:
            await stage.add_provider(upstream.url, SECRET, name, name)
        yield upstream


async def model(stage: DoorStage, name: str, upstream_model: str, **how: Any) -> str:
    id = f"{name}/{upstream_model.partition('?')[0].removeprefix('mock/')}"
    return await stage.add_model(id, upstream_model, provider=name, rates=RATES, **how)


def chunks(answer: httpx2.Response) -> list[dict[str, Any]]:
    found = [data for event in sse.events(answer.content) if (data := sse.data(event))]
    assert found[-1] == b"[DONE]" or b'"error"' in found[-1]
    return [orjson.loads(data) for data in found if data != b"[DONE]"]


def message(answer: httpx2.Response) -> tuple[dict[str, Any], str]:
    """Plain or put together from its deltas; and why it ended."""
    if "event-stream" not in answer.headers["content-type"]:
        choice = answer.json()["choices"][0]
        return choice["message"], choice["finish_reason"]
    whole: dict[str, Any] = {"content": "", "tool_calls": []}
    reason = ""
    for chunk in chunks(answer):
        for choice in chunk.get("choices", ()):
            reason = choice["finish_reason"] or reason
            _add(whole, choice["delta"])
    return whole, reason


def _add(whole: dict[str, Any], delta: Mapping[str, Any]) -> None:
    for name in ("content", "refusal", "reasoning_content", "reasoning"):
        if delta.get(name):
            whole[name] = (whole.get(name) or "") + delta[name]
    for piece in delta.get("tool_calls") or ():
        if piece["index"] == len(whole["tool_calls"]):
            whole["tool_calls"].append({"id": piece["id"], "function": {"arguments": ""}})
        function = whole["tool_calls"][piece["index"]]["function"]
        function["name"] = piece["function"].get("name") or function.get("name")
        function["arguments"] += piece["function"].get("arguments") or ""


async def ended(stage: DoorStage, fake: FakeUpstream) -> tuple[asyncpg.Record, Bill | None]:
    """The newest usage row, and its bill."""
    await until(lambda: not fake.connections or not stage.worker.flow.settler.running)
    await stage.quiesce()
    row = (await stage.usage())[-1]
    bills = [bill for bill in fake.billed() if bill.request_id == str(row["rid"])]
    return row, bills[0] if bills else None


def cost(tokens: Mapping[str, int]) -> int:
    """In ucr, without the product's own arithmetic."""
    return -(-sum(RATES[name] * count for name, count in tokens.items()) // 1_000_000)


# Good answers -------------------------------------------------------------------------------

#: What each tells apart of `USED`; all of them add up to the same.
CLASSES: dict[str, dict[str, int]] = {
    "anthropic": {
        **{"input": 9, "cache_read": 5, "cache_write": 2, "cache_write_1h": 4},
        **{"output": 27, "reasoning": 7},
    },
    "gemini": {"input": 15, "cache_read": 5, "output": 27, "reasoning": 7},
    "cohere": {"input": 15, "cache_read": 5, "output": 34},
    "ollama": {"input": 20, "output": 34},
}


async def test_an_answer_is_openais_and_is_charged_as_billed(
    stage: DoorStage, fake: FakeUpstream
) -> None:
    """Plain and streamed: the same text, the same usage, the same charge, to the last ucr."""
    for name in PROVIDERS:
        id = await model(stage, name, f"mock/ok?{USED}")
        for stream in (False, True):
            options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
            answer = await stage.chat({**HELLO, "model": id, **options})
            assert answer.status_code == 200, answer.text
            said, reason = message(answer)
            assert (len(said["content"]), reason) == (300, "stop")
            told = chunks(answer)[-1]["usage"] if stream else answer.json()["usage"]
            assert (told["prompt_tokens"], told["completion_tokens"]) == (20, 34)
            assert told["total_tokens"] == 54
            row, bill = await ended(stage, fake)
            assert bill is not None
            assert (bill.prompt_tokens, bill.completion_tokens, bill.end) == (20, 34, "finished")
            assert (row["tokens"], row["usage_source"]) == (CLASSES[name], "provider")
            assert (row["cost"], row["reason"]) == (cost(CLASSES[name]), "usage_frame")
        assert (await stage.pool_in_redis())["h"] == 0


async def test_its_own_clients_pay_the_same(stage: DoorStage, fake: FakeUpstream) -> None:
    """Bytes of Anthropic's clients pass untouched. Its stream tells at the beginning alone which
    writes to a cache last for an hour, and at the end again how many there were."""
    id = await model(stage, "anthropic", f"mock/ok?{USED}")
    ask = {"model": id, "max_tokens": 99, "messages": HELLO["messages"]}
    for stream in (False, True):
        headers = {"x-api-key": stage.key, "anthropic-version": "2023-06-01"}
        body = orjson.dumps({**ask, "stream": stream})
        answer = await stage.http.post("/v1/messages", content=body, headers=headers)
        assert answer.status_code == 200, answer.text
        row, _ = await ended(stage, fake)
        assert (row["tokens"], row["reason"]) == (CLASSES["anthropic"], "usage_frame")
        assert row["cost"] == cost(CLASSES["anthropic"])


async def test_tools_are_called_and_their_results_go_back(
    stage: DoorStage, fake: FakeUpstream
) -> None:
    """Ids and signatures survive the client: the fake refuses a call without its result, and a
    signature that is not its own."""
    for name in PROVIDERS:
        id = await model(stage, name, "mock/tools")
        ask = {**HELLO, "model": id, "tools": TOOLS}
        for stream in (False, True):
            said, reason = message(await stage.chat({**ask, "stream": stream}))
            assert reason == "tool_calls"
            calls = [
                {"id": one["id"], "type": "function", "function": one["function"]}
                for one in said["tool_calls"]
            ]
            given = [orjson.loads(one["function"]["arguments"]) for one in calls]
            assert given == [orjson.loads(one) for one in ARGUMENTS]
            results = [
                {"role": "tool", "tool_call_id": one["id"], "content": "ok"} for one in calls
            ]
            turn = {"role": "assistant", "content": said["content"] or None, "tool_calls": calls}
            messages = [*HELLO["messages"], turn, *results]
            again = await stage.chat({**ask, "messages": messages, "stream": stream})
            assert again.status_code == 200, again.text
        row, bill = await ended(stage, fake)
        assert bill is not None
        assert row["cost"] == cost({"input": 12, "output": 34})


async def test_thoughts_are_shown_and_refusals_are_no_stop(
    stage: DoorStage, fake: FakeUpstream
) -> None:
    for name in PROVIDERS:
        thinking = await model(stage, name, "mock/thinking")
        refusing = await model(stage, name, "mock/refusal")
        for stream in (False, True):
            said, _ = message(await stage.chat({**HELLO, "model": thinking, "stream": stream}))
            assert THOUGHT in (said.get("reasoning_content"), said.get("reasoning"))
            assert len(said["content"]) == 160
            answer = await stage.chat({**HELLO, "model": refusing, "stream": stream})
            if name == "cohere":
                assert "error" in answer.text
                continue
            said, reason = message(answer)
            if name == "ollama":
                assert (said["content"], reason) == (REFUSAL, "stop")
            else:
                assert reason == "content_filter"


# What goes wrong ------------------------------------------------------------------------------


async def test_an_error_keeps_its_words_and_costs_nothing(
    stage: DoorStage, fake: FakeUpstream
) -> None:
    for name in PROVIDERS:
        passed = {400: 400, 401: 502, 404: 404, 429: 429, 500: 503, 529: 503}
        for status, expected in passed.items():
            id = await model(stage, name, f"mock/{status}")
            answer = await stage.chat({**HELLO, "model": id})
            assert answer.status_code == expected
            assert SECRET not in answer.text
            assert answer.json()["error"]["code"].startswith("upstream_")
            if status == 429:
                assert answer.headers["retry-after"] == "1"
        row, bill = await ended(stage, fake)
        assert bill is None
        assert row["cost"] == 0


async def test_a_stream_that_breaks_off_says_so(stage: DoorStage, fake: FakeUpstream) -> None:
    """No stop that is none: the client gets an error; it pays for what it got."""
    for name in PROVIDERS:
        for behaviour in ("error-in-stream@3?out=80", "truncate@3?out=80"):
            id = await model(stage, name, f"mock/{behaviour}")
            answer = await stage.chat({**HELLO, "model": id, "stream": True})
            assert answer.status_code == 200
            *_, last = chunks(answer)
            assert last["error"]["code"] in ("error_in_stream", "upstream_broken")
            said, reason = message(answer)
            assert (len(said["content"]), reason) == (60, "")
            row, bill = await ended(stage, fake)
            assert bill is not None
            assert bill.end == "cut"
            assert 0 < row["cost"] <= cost({"input": 300, "output": 80})


async def test_a_client_that_leaves_stops_its_provider(
    stage: DoorStage, fake: FakeUpstream
) -> None:
    for name in PROVIDERS:
        id = await model(stage, name, "mock/hang@3?out=80")
        ask = orjson.dumps({**HELLO, "model": id, "stream": True})
        headers = {"authorization": f"Bearer {stage.key}"}
        path = "/v1/chat/completions"
        async with stage.http.stream("POST", path, content=ask, headers=headers) as answer:
            async for line in answer.aiter_lines():
                if "content" in line:
                    break
        await until(lambda: not fake.connections)
        row, bill = await ended(stage, fake)
        assert bill is not None
        assert (bill.end, row["reason"]) == ("aborted", "client_gone")
        assert row["cost"] > 0
        assert (await stage.pool_in_redis())["h"] == 0


async def test_what_cannot_be_carried_is_refused_before_anything_is_held(
    stage: DoorStage, fake: FakeUpstream
) -> None:
    for name in PROVIDERS:
        id = await model(stage, name, "mock/ok")
        answer = await stage.chat({**HELLO, "model": id, "logit_bias": {"50256": -100}})
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert (error["code"], error["param"]) == ("not_carried", "logit_bias")
    assert not fake.requests
