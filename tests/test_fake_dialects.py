"""The fake provider in the dialects of Anthropic, Gemini, Cohere and Ollama: what our adapters ask
it for over real sockets, and how they read its answers.
"""

from functools import cache
from typing import Any

import anthropic.types
import openai.types.responses
import orjson
import pydantic
import pytest

from bench.ask import ARGUMENTS, REFUSAL, SIGNATURE, TEXT, THOUGHT
from bench.cohere_wire import PLAN
from bench.raw import Reply, ask, connected, eventually
from bench.upstream import FakeUpstream
from proxy.dialects.conversation import (
    Conversation,
    Message,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from proxy.providers.catalog import ADAPTERS
from tests.speech_stage import Told, asked, call, place, streamed, told

NAMES = ("anthropic", "gemini", "cohere", "ollama")
WAYS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
PROVIDERS = pytest.mark.parametrize("name", NAMES)
TOOL = Tool("weather", "", {})


@cache
def adapter_of(union: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(union)


def request(name: str, model: str, conversation: Conversation, *, stream: bool) -> bytes:
    """As the adapter asks: its address, its headers, its body."""
    adapter, deployment = ADAPTERS[name], place("", model)
    assert adapter.speech is not None
    told = adapter.speech.write(conversation, model=model, output_max=4096, stream=stream)
    body, asking = orjson.dumps(told), call(stream=stream)
    head = f"POST {adapter.url(deployment, asking)} HTTP/1.1\r\nhost: mock\r\n".encode()
    rows = (*adapter.headers(deployment, asking), (b"content-length", b"%d" % len(body)))
    return head + b"".join(b"%b: %b\r\n" % row for row in rows) + b"\r\n" + body


def heard(name: str, reply: Reply) -> Told:
    speech = ADAPTERS[name].speech
    assert speech is not None
    if "json" in reply.headers["content-type"] and "ndjson" not in reply.headers["content-type"]:
        return told(speech.whole(reply.body))
    return told(streamed(speech, reply.body))


async def had(name: str, model: str, *, stream: bool, **fields: Any) -> tuple[Told, Any]:
    async with FakeUpstream() as upstream:
        reply = await ask(upstream, request(name, model, asked("hi", **fields), stream=stream))
        assert reply.status == 200, reply.body
        [bill] = upstream.billed()
        return heard(name, reply), bill


def text(size: int) -> str:
    return (TEXT * (size // len(TEXT) + 1))[:size]


@PROVIDERS
@WAYS
async def test_a_good_answer_is_heard_and_billed(name: str, stream: bool) -> None:
    model = "mock/ok?in=12&out=34&cached=5&reasoning=7&bytes=300&chunks=5"
    answer, bill = await had(name, model, stream=stream)
    assert (answer.text, answer.reason) == (text(300), "stop")
    assert (bill.request_id, bill.prompt_tokens, bill.completion_tokens) == ("rid", 12, 34)
    assert (bill.cached_tokens, bill.stream, bill.end) == (5, stream, "finished")
    assert answer.usage is not None
    tells_cached, tells_thoughts = name != "ollama", name in ("anthropic", "gemini")
    assert answer.usage.get("cache_read", 0) == (5 if tells_cached else 0)
    assert answer.usage.get("reasoning", 0) == (7 if tells_thoughts else 0)
    assert sum(answer.usage.values()) == 12 + 34


@WAYS
async def test_what_is_written_to_a_cache_is_told_by_how_long_it_lasts(stream: bool) -> None:
    model = "mock/ok?in=20&out=3&cached=5&cache_write=9&cache_hour=4"
    answer, bill = await had("anthropic", model, stream=stream)
    parts = {"cache_read": 5, "cache_write": 5, "cache_write_1h": 4}
    assert answer.usage == {"input": 6, "output": 3, **parts}
    assert bill.cache_write_tokens == 9


@PROVIDERS
@WAYS
async def test_the_first_tool_is_called_twice(name: str, stream: bool) -> None:
    answer, _ = await had(name, "mock/tools", stream=stream, tools=(TOOL,))
    assert [orjson.loads(one[2]) for one in answer.calls] == [*map(orjson.loads, ARGUMENTS)]
    assert {one[1] for one in answer.calls} == {"weather"}
    assert len({one[0] for one in answer.calls}) == 2
    assert answer.reason == "tool_calls"
    assert answer.text == (PLAN if name == "cohere" else "")
    assert answer.calls[0][3] == (SIGNATURE if name == "gemini" else "")


@PROVIDERS
async def test_results_go_back_as_they_are_wanted_there(name: str) -> None:
    """What was heard is said again with its results, ids and signatures: it is not refused."""
    first, _ = await had(name, "mock/tools", stream=False, tools=(TOOL,))
    calls = tuple(ToolCall(one[0], one[1], one[2], one[3]) for one in first.calls)
    results = tuple(ToolResult(one.id, "", (Text("rain"),)) for one in calls)
    turns = (
        Message("user", (Text("hi"),)),
        Message("assistant", calls),
        Message("user", (Text("And?"), results[0])),
        Message("user", results[1:]),
    )
    answer, _ = await had(name, "mock/ok", stream=True, tools=(TOOL,), messages=turns)
    assert answer.text == text(160)


@PROVIDERS
@WAYS
async def test_a_thought_comes_with_what_proves_it(name: str, stream: bool) -> None:
    answer, _ = await had(name, "mock/thinking", stream=stream)
    signature = {"anthropic": SIGNATURE, "gemini": SIGNATURE}.get(name, "")
    assert answer.thoughts == [(THOUGHT, signature)]
    assert answer.text == text(160)
    thought = () if name == "gemini" else (Thinking(THOUGHT, signature),)
    turns = (
        Message("user", (Text("hi"),)),
        Message("assistant", (*thought, Text(answer.text))),
        Message("user", (Text("And?"),)),
    )
    again, _ = await had(name, "mock/ok", stream=stream, messages=turns)
    assert again.text == answer.text


@PROVIDERS
@WAYS
async def test_a_refusal_is_no_good_end(name: str, stream: bool) -> None:
    """Where a dialect has a word for it. Cohere's is an error; Ollama has none."""
    answer, _ = await had(name, "mock/refusal", stream=stream)
    if name == "cohere":
        assert answer.failed is not None
    elif name == "ollama":
        assert (answer.text, answer.reason) == (REFUSAL, "stop")
    else:
        said = REFUSAL if name == "anthropic" else ""
        assert (answer.refusal, answer.reason) == (said, "content_filter")


@PROVIDERS
@WAYS
async def test_a_maximum_ends_an_answer(name: str, stream: bool) -> None:
    answer, bill = await had(name, "mock/ok?out=34", stream=stream, output_max=9)
    assert (answer.reason, bill.completion_tokens) == ("length", 9)
    assert answer.usage == {"input": 12, "output": 9}


@PROVIDERS
@WAYS
async def test_usage_can_be_zero_or_missing(name: str, stream: bool) -> None:
    zero, bill = await had(name, "mock/usage-zero", stream=stream)
    assert (zero.usage, bill.completion_tokens) == ({}, 0)
    missing, bill = await had(name, "mock/nousage", stream=stream)
    assert (missing.usage, bill.completion_tokens) == (None, 34)


@PROVIDERS
async def test_an_error_in_the_middle(name: str) -> None:
    answer, bill = await had(name, "mock/error-in-stream@3?out=80", stream=True)
    assert answer.failed is not None
    assert answer.failed.message.startswith("The server had an error")
    assert (answer.reason, answer.text) == ("", text(60))
    assert (bill.end, bill.completion_tokens) == ("cut", 30)


@PROVIDERS
async def test_a_stream_that_is_cut_has_no_end(name: str) -> None:
    async with FakeUpstream() as upstream:
        reply = await ask(upstream, request(name, "mock/truncate@3", asked(), stream=True))
        answer = heard(name, reply)
        assert not reply.whole
        assert (answer.reason, answer.text) == ("", text(60))
        [bill] = upstream.billed()
        assert (bill.end, bill.completion_tokens) == ("cut", 34 * 3 // 8)


@PROVIDERS
async def test_a_client_that_leaves_is_billed_for_what_was_made(name: str) -> None:
    async with FakeUpstream() as upstream:
        async with connected(upstream) as client:
            data = request(name, "mock/hang@3", asked(), stream=True)
            await client.ask(data, until=lambda reply: len(heard_text(name, reply)) == 60)
        await eventually(upstream.billed)
        [bill] = upstream.billed()
        assert (bill.end, bill.completion_tokens) == ("aborted", 34 * 3 // 8)


def heard_text(name: str, reply: Reply) -> str:
    return heard(name, reply).text if reply.body else ""


@PROVIDERS
@pytest.mark.parametrize("status", [400, 404, 429, 500, 503, 529])
async def test_a_refusal_is_read_with_its_words(name: str, status: int) -> None:
    async with FakeUpstream() as upstream:
        reply = await ask(upstream, request(name, f"mock/{status}", asked(), stream=True))
        problem = ADAPTERS[name].error(place(""), reply.status, reply.body)
        said = problem.sentence.rpartition(f"status {status}: ")[2]
        assert said.startswith(
            ("Invalid value", "The model", "Rate limit", "The server", "The eng")
        )
        if status == 429:
            assert reply.headers["retry-after"] == "1"
            assert (("retry-after", "1") in problem.fields()) == (name == "gemini")


@PROVIDERS
async def test_a_refused_key_and_a_spent_quota(name: str) -> None:
    async with FakeUpstream() as upstream:
        refused = await ask(upstream, request(name, "mock/401", asked(), stream=False))
        assert ADAPTERS[name].error(place(""), 401, refused.body).code == "upstream_key_refused"
        spent = await ask(upstream, request(name, "mock/quota", asked(), stream=False))
        problem = ADAPTERS[name].error(place(""), 429, spent.body)
        assert problem.retry is (False if name == "gemini" else None)


@pytest.mark.parametrize("behaviour", ["ok", "tools", "thinking", "refusal"])
@WAYS
async def test_anthropics_own_types_read_it(behaviour: str, stream: bool) -> None:
    """All that it answers is what Anthropic's Python package expects."""
    async with FakeUpstream() as upstream:
        data = request("anthropic", f"mock/{behaviour}", asked(), stream=stream)
        reply = await ask(upstream, data)
    if not stream:
        anthropic.types.Message.model_validate(reply.json, strict=True)
        return
    kinds = adapter_of(anthropic.types.RawMessageStreamEvent)
    for event in reply.events:
        data = event[event.index(b"data: ") + 6 :]
        if b'"type":"ping"' not in data:
            kinds.validate_json(data)


# OpenAI's own, beside chat completions ------------------------------------------------------


def posted(path: str, **fields: Any) -> bytes:
    body = orjson.dumps({"model": "mock/ok?in=12&out=34&bytes=300&chunks=5", **fields})
    head = f"POST {path} HTTP/1.1\r\nhost: mock\r\nx-request-id: rid\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize("behaviour", ["ok?out=34", "tools", "thinking", "refusal"])
@WAYS
async def test_responses_are_what_openais_own_types_read(behaviour: str, stream: bool) -> None:
    async with FakeUpstream() as upstream:
        fields = {"model": f"mock/{behaviour}", "input": "hi", "stream": stream}
        reply = await ask(upstream, posted("/v1/responses", **fields))
        [bill] = upstream.billed()
    assert (reply.status, bill.prompt_tokens, bill.completion_tokens) == (200, 12, 34)
    if not stream:
        openai.types.responses.Response.model_validate(reply.json, strict=True)
        return
    kinds = adapter_of(openai.types.responses.ResponseStreamEvent)
    frames = [event[event.index(b"data: ") + 6 :] for event in reply.events]
    numbers = [orjson.loads(frame)["sequence_number"] for frame in frames]
    assert numbers == sorted(set(numbers))
    for frame in frames:
        kinds.validate_json(frame)
    assert orjson.loads(frames[-1])["response"]["usage"]["total_tokens"] == 46


async def test_a_maximum_leaves_a_response_incomplete() -> None:
    async with FakeUpstream() as upstream:
        fields = {"input": "hi", "max_output_tokens": 9}
        reply = await ask(upstream, posted("/v1/responses", **fields))
        assert reply.json["incomplete_details"] == {"reason": "max_output_tokens"}
        assert upstream.billed()[0].completion_tokens == 9


@pytest.mark.parametrize("form", ["float", "base64"])
async def test_embeddings_come_as_they_are_wanted(form: str) -> None:
    async with FakeUpstream() as upstream:
        fields = {"input": ["a", "b"], "encoding_format": form}
        reply = await ask(upstream, posted("/v1/embeddings", **fields))
        [bill] = upstream.billed()
    assert (bill.prompt_tokens, bill.completion_tokens) == (12, 0)
    assert reply.json["usage"] == {"prompt_tokens": 12, "total_tokens": 12}
    assert [isinstance(row["embedding"], str) for row in reply.json["data"]] == [
        form == "base64"
    ] * 2
    assert [row["index"] for row in reply.json["data"]] == [0, 1]


@pytest.mark.parametrize(
    ("path", "fields", "rows"),
    [
        ("/v1/moderations", {"input": "a"}, "results"),
        ("/v1/rerank", {"query": "a", "documents": ["a", "b"]}, "results"),
        ("/v2/rerank", {"query": "a", "documents": ["a", "b"], "top_n": 1}, "results"),
        ("/v1/images/generations", {"prompt": "a", "n": 2}, "data"),
    ],
)
async def test_what_is_no_conversation_is_answered_and_billed(
    path: str, fields: dict[str, Any], rows: str
) -> None:
    async with FakeUpstream() as upstream:
        reply = await ask(upstream, posted(path, **fields))
        [bill] = upstream.billed()
        assert (reply.status, bill.prompt_tokens) == (200, 12)
        wanted = fields.get("n") or fields.get("top_n") or len(fields.get("documents", "a"))
        assert len(reply.json[rows]) == wanted
        empty = await ask(upstream, posted(path))
        assert empty.status == 400
        broken = await ask(upstream, posted(path, **fields, model="mock/503"))
        assert (broken.status, len(upstream.billed())) == (503, 1)
