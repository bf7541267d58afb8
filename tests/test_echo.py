"""The built-in provider: an answer like a provider's, from whatever it is told."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.providers.echo import PIECES_MAX, EchoAnswer, token_count
from proxy.providers.openai_usage import read_usage
from proxy.stream import sse

calm = settings(deadline=None, derandomize=True, database=None)
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"enum": ["C", "F"]},
                "days": {"type": "integer"},
                "at": {"type": "object", "properties": {"lat": {"type": "number"}}},
                "list": {"type": "array"},
                "sure": {"type": "boolean"},
            },
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}


def request(text: Any = "hello", **fields: Any) -> bytes:
    return orjson.dumps(
        {"model": "ops/echo", "messages": [{"role": "user", "content": text}], **fields}
    )


async def read(body: bytes) -> bytes:
    answer, pieces = EchoAnswer(body, "rid", 0), []
    while (piece := await answer.read()) is not None:
        pieces.append(piece)
    assert await answer.read() is None
    answer.close()
    return b"".join(pieces)


async def plain(body: bytes) -> dict[str, Any]:
    found = orjson.loads(await read(body))
    assert isinstance(found, dict)
    return found


async def choice(body: bytes) -> dict[str, Any]:
    found = (await plain(body))["choices"]
    assert len(found) == 1
    return dict(found[0])


async def text_of(body: bytes) -> str:
    return str((await choice(body))["message"]["content"])


async def streamed(body: bytes) -> tuple[list[dict[str, Any]], bool]:
    """The chunks of a stream, and whether its end mark came last."""
    data = [sse.data(event) for event in sse.events(await read(body))]
    return [orjson.loads(each) for each in data if each != b"[DONE]"], data[-1] == b"[DONE]"


async def test_it_says_what_the_last_message_said() -> None:
    found = await plain(request("hello, world"))
    assert found["object"] == "chat.completion"
    assert found["id"] == "chatcmpl-rid"
    assert found["model"] == "ops/echo"
    assert found["choices"][0]["message"]["content"] == "hello, world"
    assert found["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        (" ", 1),
        ("a", 1),
        ("hello world", 2),
        ("hello, world!", 4),
        ("incomprehensibly", 2),
        ("  a", 1),
        ("a  ", 2),
        ("äöü", 1),
        ("你好", 1),
        ("👩‍👩‍👧", 5),
        ("\n\n\n", 1),
    ],
)
def test_tokens_are_pieces_of_words(text: str, count: int) -> None:
    assert token_count(text) == count


@calm
@given(st.text(max_size=200))
def test_a_token_is_at_least_one_byte(text: str) -> None:
    """So the hold for a body's bytes covers what the echo counts."""
    assert token_count(text) <= len(text.encode())


async def test_usage_counts_all_messages_and_the_answer() -> None:
    body = request("one two three")
    found = orjson.loads(body)
    found["messages"].insert(0, {"role": "system", "content": "be kind"})
    usage = (await plain(orjson.dumps(found)))["usage"]
    assert usage == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    assert read_usage(usage) is not None


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize(
    ("limit", "text", "finish"),
    [
        (1, "one", "length"),
        (2, "one two", "length"),
        (3, "one two three", "stop"),
        (9, "one two three", "stop"),
    ],
)
async def test_it_stops_at_the_tokens_asked_for(
    name: str, limit: int, text: str, finish: str
) -> None:
    found = await choice(request("one two three", **{name: limit}))
    assert (found["message"]["content"], found["finish_reason"]) == (text, finish)


async def test_it_never_says_more_than_its_model_is_sold_with() -> None:
    """The hold covers the model's maximum, however long the prompt was."""
    found = await plain(request("a " * (PIECES_MAX + 50)))
    assert found["usage"]["completion_tokens"] == PIECES_MAX
    assert found["choices"][0]["finish_reason"] == "length"
    asked = await plain(request("a " * (PIECES_MAX + 50), max_tokens=10_000_000))
    assert asked["usage"]["completion_tokens"] == PIECES_MAX


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        ([{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "b"}], "b"),
        ([], "…"),
        ("", "…"),
        (None, "…"),
        ("\u2028\x00é👩‍👧", "\u2028\x00é👩‍👧"),
    ],
)
async def test_content_is_a_text_or_parts_of_which_the_texts_count(content: Any, text: str) -> None:
    assert await text_of(request(content)) == text


@pytest.mark.parametrize(
    ("prompt", "tool_choice", "called"),
    [
        ("hi", "auto", None),
        ("hi", None, None),
        ("the weather?", "auto", "weather"),
        ("what does the clock say", "auto", "clock"),
        ("the weather?", "none", None),
        ("hi", "required", "weather"),
        ("clock", "required", "clock"),
        ("hi", {"type": "function", "function": {"name": "clock"}}, "clock"),
        ("weather", {"type": "function", "function": {"name": "nothing"}}, None),
    ],
)
async def test_a_tool_is_called_when_it_must_be_or_when_it_is_named(
    prompt: str, tool_choice: Any, called: str | None
) -> None:
    fields = {"tools": [WEATHER, CLOCK]}
    if tool_choice is not None:
        fields["tool_choice"] = tool_choice
    found = await choice(request(prompt, **fields))
    calls = found["message"].get("tool_calls")
    assert (calls[0]["function"]["name"] if calls else None) == called
    assert found["finish_reason"] == ("tool_calls" if called else "stop")


async def test_the_arguments_of_a_call_fit_its_schema() -> None:
    found = await choice(request("x", tools=[WEATHER], tool_choice="required"))
    arguments = orjson.loads(found["message"]["tool_calls"][0]["function"]["arguments"])
    assert arguments == {
        "city": "echo",
        "unit": "C",
        "days": 1,
        "at": {"lat": 1.5},
        "list": [],
        "sure": True,
    }


async def test_after_a_tools_result_it_answers_in_words() -> None:
    """Else an agent would loop for ever."""
    body = orjson.loads(request("weather", tools=[WEATHER], tool_choice="required"))
    body["messages"].append({"role": "tool", "tool_call_id": "call_echo", "content": "sunny"})
    found = await choice(orjson.dumps(body))
    assert (found["message"]["content"], found["finish_reason"]) == ("sunny", "stop")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"max_tokens": 2},
        {"tools": [WEATHER], "tool_choice": "required"},
        {"stream_options": {"include_usage": True}},
    ],
)
@pytest.mark.parametrize("text", ["hello, wörld", "", " a  b\n", "👩‍👧 x"])
async def test_a_stream_says_what_a_plain_answer_says(fields: dict[str, Any], text: str) -> None:
    """Chunk by chunk the same words, the same call, the same usage."""
    body = request(text, **fields)
    whole = await plain(body)
    chunks, done = await streamed(orjson.dumps({**orjson.loads(body), "stream": True}))
    wants_usage = "stream_options" in fields
    usage = chunks.pop() if wants_usage else None
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    message = whole["choices"][0]["message"]
    assert done
    assert "".join(d.get("content") or "" for d in deltas) == (message["content"] or "")
    arguments = [c["function"]["arguments"] for d in deltas for c in d.get("tool_calls", ())]
    calls = message.get("tool_calls", [{"function": {"arguments": ""}}])
    assert "".join(arguments) == calls[0]["function"]["arguments"]
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    if usage is not None:
        assert usage["choices"] == []
        assert usage["usage"] == whole["usage"]
        assert all(chunk["usage"] is None for chunk in chunks)


@pytest.mark.parametrize(
    ("stream", "kind"), [(False, b"application/json"), (True, b"text/event-stream; charset=utf-8")]
)
async def test_the_head_is_that_of_a_provider(stream: bool, kind: bytes) -> None:
    answer = EchoAnswer(request(stream=stream), "rid", 0)
    assert answer.status == 200
    assert dict(answer.headers)[b"content-type"] == kind
    assert await answer.read()


RUBBISH: tuple[Any, ...] = (None, True, 7, 1.5, "text", [], [None], [[]], {}, {"a": 1})
SCHEMAS: tuple[Any, ...] = (
    *RUBBISH,
    {"enum": []},
    {"enum": {}},
    {"enum": [{"a": 1}]},
    {"type": ["string", "null"]},
    {"type": "object", "properties": [1]},
    {"properties": {"x": True, "y": {"properties": 7}}},
)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fields",
    [
        *({"tools": junk} for junk in RUBBISH),
        *({"tools": [{"function": junk}]} for junk in RUBBISH),
        *({"tools": [{"function": {"name": junk}}]} for junk in RUBBISH),
        *({"tools": [WEATHER], "tool_choice": junk} for junk in RUBBISH),
        *({"tools": [WEATHER], "tool_choice": {"function": junk}} for junk in RUBBISH),
        *(
            {
                "tools": [{"function": {"name": "f", "parameters": schema}}],
                "tool_choice": "required",
            }
            for schema in SCHEMAS
        ),
        *({"messages": [junk]} for junk in RUBBISH),
        *({"messages": [{"role": junk, "content": junk}]} for junk in RUBBISH),
        *({"messages": [{"content": [{"text": junk}]}]} for junk in RUBBISH),
        {"stop": 7, "n": 3, "response_format": [], "seed": "x"},
    ],
    ids=lambda fields: orjson.dumps(fields).decode()[:60],
)
async def test_rubbish_that_the_door_lets_pass_is_answered_all_the_same(
    fields: dict[str, Any], stream: bool
) -> None:
    """A provider may refuse it; this one has nothing to refuse."""
    body = orjson.dumps({**orjson.loads(request()), **fields, "stream": stream})
    assert await read(body)


async def test_a_long_text_of_spaces_is_counted_at_once() -> None:
    """The pattern does not run back and forth over what does not fit."""
    assert token_count(" " * 200_000 + "x" + " " * 200_000) == 2
