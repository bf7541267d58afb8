"""Cohere's dialect: what is said to it, what its answers mean, what they used."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings

from proxy.dialects.conversation import (
    Conversation,
    Media,
    Message,
    Reasoning,
    Sampling,
    Shape,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from proxy.dialects.events import Failed
from proxy.errors import NotCarried, UpstreamKeyRefused
from proxy.providers.cohere import Cohere
from proxy.providers.cohere_answer import read_usage
from proxy.providers.cohere_speech import CohereSpeech
from tests.speech_stage import (
    SECRET,
    asked,
    call,
    events,
    place,
    rubbish,
    streamed,
    told,
    written,
)

SPEECH = CohereSpeech()
ADAPTER = Cohere()
PLACE = place("https://api.cohere.com", "command-a")
LOOKUP = Tool("lookup", "Finds the weather", {"type": "object"}, strict=True)
NOW = Tool("now", "", {})
USER = Message("user", (Text("hi"),))


def said(conversation: Conversation, **how: Any) -> dict[str, Any]:
    return written(SPEECH, conversation, **{"model": "command-a", **how})


def messages(*messages: Message) -> Any:
    return said(asked(messages=messages))["messages"]


# What is said ----------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["https://h", "https://h/", "https://h/v2"])
def test_where_and_with_which_key(base: str) -> None:
    assert ADAPTER.url(place(base), call()) == "https://h/v2/chat"
    assert dict(ADAPTER.headers(PLACE, call()))[b"authorization"] == b"Bearer " + SECRET.encode()


#: What Cohere's Python package (cohere 7.3) sends for the same call.
SDK_BODY: dict[str, Any] = {
    "model": "command-a",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Weather?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
            ],
        },
        {
            "role": "assistant",
            "tool_plan": "I look.",
            "tool_calls": [
                {
                    "id": "a",
                    "type": "function",
                    "function": {"name": "lookup", "arguments": '{"city":"Oslo"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "rain"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "lookup",
                "description": "Finds the weather",
                "parameters": {"type": "object"},
            },
        }
    ],
    "strict_tools": True,
    "response_format": {"type": "json_object", "json_schema": {"type": "object"}},
    "max_tokens": 99,
    "stop_sequences": ["END"],
    "temperature": 0.5,
    "seed": 7,
    "frequency_penalty": 0.25,
    "presence_penalty": 0.5,
    "k": 7,
    "p": 0.5,
    "tool_choice": "REQUIRED",
    "thinking": {"type": "enabled", "token_budget": 100},
    "stream": False,
}


def test_what_is_sent_is_what_its_own_sdk_sends() -> None:
    body = said(
        asked(
            system=(Text("Be brief."),),
            messages=(
                Message("user", (Text("Weather?"), Media("image", "image/png", "aGk="))),
                Message("assistant", (Text("I look."), ToolCall("a", "lookup", '{"city":"Oslo"}'))),
                Message("user", (ToolResult("a", "lookup", (Text("rain"),)),)),
            ),
            tools=(LOOKUP,),
            tool_choice=ToolChoice("any"),
            output_max=99,
            stop=("END",),
            sampling=Sampling(0.5, 0.5, 7, 7, 0.5, 0.25),
            shape=Shape({"type": "object"}),
            reasoning=Reasoning(tokens=100),
        )
    )
    assert body == SDK_BODY


def test_results_stand_before_what_is_said_with_them() -> None:
    calls = (ToolCall("a", "now", ""), ToolCall("b", "now", "{}"))
    results = (
        Text("And?"),
        ToolResult("a", "now", (Text("1"), Text("2"))),
        ToolResult("b", "now", (Text("no"),), is_error=True),
    )
    [_, model, *rest] = messages(USER, Message("assistant", calls), Message("user", results))
    assert [one["function"]["arguments"] for one in model["tool_calls"]] == ["{}", "{}"]
    assert "content" not in model
    assert rest == [
        {"role": "tool", "tool_call_id": "a", "content": "1\n2"},
        {"role": "tool", "tool_call_id": "b", "content": '{"error":"no"}'},
        {"role": "user", "content": "And?"},
    ]


def test_thoughts_and_later_system_messages_go_back() -> None:
    turns = (USER, Message("assistant", (Thinking("hm"), Text("four"))), Message("system", ()))
    assert messages(*turns)[1]["content"] == [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "four"},
    ]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        (ToolChoice("auto", parallel=True), None),
        (ToolChoice("none"), "NONE"),
        (ToolChoice("any"), "REQUIRED"),
        (ToolChoice("tool", "now"), "REQUIRED"),
    ],
)
def test_which_tool_it_may_call(choice: ToolChoice | None, expected: str | None) -> None:
    body = said(asked(tools=(NOW,), tool_choice=choice))
    assert body.get("tool_choice") == expected
    assert "strict_tools" not in body


@pytest.mark.parametrize(
    ("reasoning", "expected"),
    [
        (Reasoning("none"), {"type": "disabled"}),
        (Reasoning(off=True), {"type": "disabled"}),
        (Reasoning("high"), {"type": "enabled"}),
        (Reasoning(), None),
    ],
)
def test_whether_it_thinks(reasoning: Reasoning, expected: dict[str, Any] | None) -> None:
    assert said(asked(reasoning=reasoning)).get("thinking") == expected


def turn(*parts: Any, role: Any = "user") -> Conversation:
    return asked(messages=(Message(role, parts),))


REFUSED: dict[str, Conversation] = {
    "`n`": asked(choices=2),
    "`documents`": asked(others={"documents": ["a"]}),
    "`logit_bias`": asked(others={"logit_bias": {"1": 2}}),
    "More than 5 stop sequences": asked(stop=tuple("abcdef")),
    "One tool call at a time": asked(tools=(NOW,), tool_choice=ToolChoice(parallel=False)),
    "The choice of one tool among several": asked(
        tools=(NOW, LOOKUP), tool_choice=ToolChoice("tool", "now")
    ),
    "The name of a message's author": asked(messages=(Message("user", (Text("a"),), "Ann"),)),
    "Sound": turn(Media("audio", "audio/wav", "aGk=")),
    "A file": turn(Media("file", "application/pdf", "aGk=")),
    "An image by its id": turn(Media("image", file_id="f")),
    "Data without its media type": turn(Media("image", data="a")),
    "An image or a file as a tool's result": turn(
        ToolResult("a", "b", (Media("image", "image/png", "aGk="),))
    ),
    "A thought that nobody may read": turn(Thinking("", redacted="x"), role="assistant"),
    "An effort of `low`": asked(reasoning=Reasoning("low")),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_it_has_no_place_for_is_refused_by_name(what: str) -> None:
    with pytest.raises(NotCarried) as refused:
        said(REFUSED[what])
    assert str(refused.value).startswith(what)


def test_what_is_no_conversation_goes_to_paths_of_its_own() -> None:
    for base in ("https://h", "https://h/v2/"):
        assert ADAPTER.url(place(base), call("rerank")) == "https://h/v2/rerank"
        embedding = ADAPTER.url(place(base), call("embeddings"))
        assert embedding == "https://h/compatibility/v1/embeddings"
    assert orjson.loads(ADAPTER.body(PLACE, call("rerank", query="a")))["model"] == "command-a"
    used = ADAPTER.usage(b'{"results": [], "meta": {"billed_units": {"search_units": 1}}}')
    assert used is not None
    assert used.tokens == {"searches": 1}


# What it answers -------------------------------------------------------------------------


def content(nth: int, **said: str) -> dict[str, Any]:
    return {"type": "content-delta", "index": nth, "delta": {"message": {"content": said}}}


def started(nth: int, **said: str) -> dict[str, Any]:
    return {**content(nth, **said), "type": "content-start"}


def called(kind: str, **call: Any) -> dict[str, Any]:
    return {"type": f"tool-call-{kind}", "index": 0, "delta": {"message": {"tool_calls": call}}}


def argument(piece: str) -> dict[str, Any]:
    return called("delta", function={"arguments": piece})


USED = {
    "tokens": {"input_tokens": 500.0, "output_tokens": 40.0},
    "billed_units": {"input_tokens": 10.0, "output_tokens": 30.0},
    "cached_tokens": 4.0,
}
CALLS = [
    {
        "id": "a",
        "type": "function",
        "function": {"name": "lookup", "arguments": '{"a": 1}'},
    },
    {"id": "b", "type": "function", "function": {"name": "now", "arguments": ""}},
]
STREAM = events(
    {"type": "message-start", "id": "m1", "delta": {"message": {"role": "assistant"}}},
    started(0, type="thinking", thinking="h"),
    content(0, thinking="m"),
    {"type": "content-end", "index": 0},
    started(1, type="text", text=""),
    content(1, text="Zürich, "),
    content(1, text="\u2028wait"),
    {"type": "citation-start", "index": 0, "delta": {"message": {"citations": {"start": 0}}}},
    {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": " I look."}}},
    called("start", id="a", type="function", function={"name": "lookup", "arguments": ""}),
    argument('{"a"'),
    argument(": 1}"),
    {"type": "tool-call-end", "index": 0},
    called("start", id="b", type="function", function={"name": "now", "arguments": ""}),
    {"type": "tool-call-end", "index": 1},
    {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL", "usage": USED}},
)
MESSAGE = {
    "id": "m1",
    "finish_reason": "TOOL_CALL",
    "message": {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": "Zürich, \u2028wait"},
        ],
        "tool_plan": " I look.",
        "tool_calls": CALLS,
    },
    "usage": USED,
}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1 << 20])
def test_a_stream_is_read_however_it_is_cut(size: int) -> None:
    """The plan for its calls is something that it says."""
    answer = told(streamed(SPEECH, STREAM, size))
    assert (answer.id, answer.text) == ("m1", "Zürich, \u2028wait I look.")
    assert answer.thoughts == [("hm", "")]
    assert answer.calls == [["a", "lookup", '{"a": 1}', ""], ["b", "now", "{}", ""]]
    assert (answer.reason, answer.native) == ("tool_calls", "TOOL_CALL")
    assert answer.usage == {"input": 6, "cache_read": 4, "output": 30}


def test_a_whole_answer_says_the_same() -> None:
    assert told(SPEECH.whole(orjson.dumps(MESSAGE))) == told(streamed(SPEECH, STREAM))


def test_a_stream_that_breaks_off_has_neither_reason_nor_count() -> None:
    answer = told(streamed(SPEECH, STREAM[: STREAM.index(b"event: message-end")]))
    assert (answer.reason, answer.usage) == ("", None)


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        ("COMPLETE", "stop"),
        ("STOP_SEQUENCE", "stop"),
        ("MAX_TOKENS", "length"),
        ("TOOL_CALL", "tool_calls"),
        ("UNHEARD_OF", "stop"),
    ],
)
def test_why_it_stopped(native: str, reason: str) -> None:
    answer = told(SPEECH.whole(orjson.dumps({**MESSAGE, "finish_reason": native})))
    assert (answer.reason, answer.native) == (reason, native)


@pytest.mark.parametrize("native", ["ERROR", "TIMEOUT"])
def test_where_the_model_failed_nothing_has_ended_well(native: str) -> None:
    """What it used until then is told all the same."""
    ended = {"type": "message-end", "delta": {"finish_reason": native, "usage": USED}}
    answer = told(streamed(SPEECH, events(ended)))
    assert answer.failed == Failed(native, f"The model ended with {native}.")
    assert answer.usage is not None


def test_an_error_inside_of_a_success() -> None:
    said = {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "why"}}
    assert told(streamed(SPEECH, events(said))).failed == Failed("ERROR", "why")
    assert told(streamed(SPEECH, b'data: {"message": "why"}\n\n')).failed == Failed("error", "why")
    assert SPEECH.whole(b'{"message": "why"}') == (Failed("error", "why"),)


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b"7", b"{}"])
def test_what_is_no_answer_failed(answer: bytes) -> None:
    [failed] = SPEECH.whole(answer)
    assert isinstance(failed, Failed)


FRAMES = rubbish(
    *("message-start", "content-start", "content-delta", "tool-plan-delta", "tool-call-start"),
    *("tool-call-delta", "tool-call-end", "message-end"),
    names=("delta", "message", "content", "tool_calls", "function", "usage", "finish_reason"),
)


@given(FRAMES)
@settings(max_examples=60)
def test_rubbish_hurts_nobody(frames: list[dict[str, Any]]) -> None:
    reader = SPEECH.reader()
    for one in frames:
        list(reader.feed(orjson.dumps(one)))
        list(reader.feed(orjson.dumps({"type": one["type"], "delta": {"message": one}})))
        SPEECH.whole(orjson.dumps({**MESSAGE, **one}))


# What it used ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "tokens", "doubt"),
    [
        (USED, {"input": 6, "cache_read": 4, "output": 30}, ""),
        ({"tokens": {"input_tokens": 9, "output_tokens": 4.2}}, {"input": 9, "output": 5}, ""),
        ({"billed_units": {"input_tokens": 0.0}, "tokens": {"input_tokens": 9}}, {}, ""),
        ({"billed_units": {"search_units": 2.0}}, {"searches": 2}, ""),
        (
            {"billed_units": {"input_tokens": 9, "output_tokens": -1}},
            {"input": 9},
            "count_absurd",
        ),
    ],
)
def test_usage_is_what_is_billed(usage: dict[str, Any], tokens: dict[str, int], doubt: str) -> None:
    found = read_usage(usage)
    assert found is not None
    assert (found.tokens, found.doubt) == (tokens, doubt)
    assert ADAPTER.usage(orjson.dumps({"usage": usage})) == found
    assert ADAPTER.usage(orjson.dumps({"delta": {"usage": usage}})) == found


@pytest.mark.parametrize("usage", [{}, {"tokens": {}}, {"tokens": {"input_tokens": "9"}}])
def test_what_counts_nothing_is_no_usage(usage: dict[str, Any]) -> None:
    assert read_usage(usage) is None


# What an error means ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "passed"), [(400, 400), (404, 404), (422, 422), (429, 429), (499, 503), (501, 502)]
)
def test_a_refusal_keeps_its_words_and_what_a_caller_can_mend(status: int, passed: int) -> None:
    problem = ADAPTER.error(PLACE, status, b'{"id":"1","message":"why %s"}' % SECRET.encode())
    assert problem.status == passed
    assert problem.sentence.endswith(f"status {status}: why ***")


@pytest.mark.parametrize("status", [401, 403, 498])
def test_a_refused_key_is_not_the_callers(status: int) -> None:
    problem = ADAPTER.error(PLACE, status, b'{"message":"invalid api token"}')
    assert isinstance(problem, UpstreamKeyRefused)
