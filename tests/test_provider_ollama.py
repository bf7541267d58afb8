"""Ollama's dialect: what is said to it, what its answers mean, what they used."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings

from proxy.dialects.conversation import (
    Conversation,
    Media,
    Message,
    Reasoning,
    Refusal,
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
from proxy.providers.ollama import Ollama
from proxy.providers.ollama_answer import read_usage
from proxy.providers.ollama_speech import OllamaSpeech
from tests.speech_stage import SECRET, asked, call, place, rubbish, streamed, told, written

SPEECH = OllamaSpeech()
ADAPTER = Ollama()
PLACE = place("http://localhost:11434", "qwen3")
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
LOOKUP = Tool("lookup", "Finds the weather", SCHEMA)
USER = Message("user", (Text("hi"),))
MINTED = "call_ops_0123"


def said(conversation: Conversation, **how: Any) -> dict[str, Any]:
    return written(SPEECH, conversation, **{"model": "qwen3", **how})


# What is said ----------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["http://h", "http://h/", "http://h/api"])
def test_where_and_with_which_key(base: str) -> None:
    assert ADAPTER.url(place(base), call()) == "http://h/api/chat"
    assert dict(ADAPTER.headers(PLACE, call()))[b"authorization"] == b"Bearer " + SECRET.encode()
    assert b"authorization" not in dict(ADAPTER.headers(place(base, secret=""), call()))


#: What Ollama's Python package (ollama 0.6) sends for the same call, but for two names: what is too
#: long is to be refused and not cut.
SDK_BODY: dict[str, Any] = {
    "model": "qwen3",
    "stream": False,
    "options": {
        "temperature": 0.5,
        "top_p": 0.5,
        "top_k": 7,
        "seed": 7,
        "stop": ["END"],
        "num_predict": 99,
        "num_ctx": 4096,
    },
    "format": {"type": "object"},
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?", "images": ["aGk="]},
        {
            "role": "assistant",
            "content": "",
            "thinking": "hm",
            "tool_calls": [{"function": {"name": "lookup", "arguments": {"city": "Oslo"}}}],
        },
        {"role": "tool", "content": "rain", "tool_name": "lookup"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "lookup",
                "description": "Finds the weather",
                "parameters": SCHEMA,
            },
        }
    ],
    "think": "low",
}


def test_what_is_sent_is_what_its_own_sdk_sends() -> None:
    body = said(
        asked(
            system=(Text("Be brief."),),
            messages=(
                Message("user", (Text("Weather?"), Media("image", "image/png", "aGk="))),
                Message(
                    "assistant", (Thinking("hm"), ToolCall(MINTED, "lookup", '{"city": "Oslo"}'))
                ),
                Message("user", (ToolResult(MINTED, "", (Text("rain"),)),)),
            ),
            tools=(LOOKUP,),
            tool_choice=ToolChoice("auto"),
            output_max=99,
            stop=("END",),
            sampling=Sampling(0.5, 0.5, 7, 7),
            shape=Shape({"type": "object"}),
            reasoning=Reasoning("low"),
        )
    )
    assert body == {**SDK_BODY, "truncate": False, "shift": False}


def test_an_answers_length_is_always_bounded() -> None:
    """By itself it is without end there."""
    assert said(asked(), output_max=77)["options"]["num_predict"] == 77
    for named, sent in ((-1, 77), (-2, 77), (0, 77), (5, 5), (78, 77), ("9999", 77), (None, 77)):
        options = said(asked(others={"options": {"num_predict": named}}), output_max=77)["options"]
        assert options["num_predict"] == sent


@pytest.mark.parametrize(
    ("length", "output_max", "context_max", "room"),
    [
        (10, 100, 0, 4096),
        (10, 4000, 0, 4096),
        (10, 4097, 0, 8192),
        (60_000, 4096, 0, 32_768),
        (60_000, 4096, 30_000, 30_000),
    ],
)
def test_there_is_room_for_all_that_comes_in_and_goes_out(
    length: int, output_max: int, context_max: int, room: int
) -> None:
    """The default is small. Sizes are few, because a model is loaded anew for each."""
    body = said(asked("x" * length), output_max=output_max, context_max=context_max)
    assert body["options"]["num_ctx"] == room


def test_its_own_settings_pass() -> None:
    others = {"keep_alive": "5m", "num_ctx": 9000, "options": {"min_p": 0.1}}
    body = said(asked(others=others))
    assert (body["keep_alive"], body["options"]["num_ctx"]) == ("5m", 9000)
    assert body["options"]["min_p"] == 0.1
    assert "num_ctx" not in body


def test_its_own_ids_go_back_and_ours_do_not() -> None:
    calls = (ToolCall("theirs", "a", "{}"), ToolCall(MINTED, "b", "{}"))
    results = (
        Text("And?"),
        ToolResult("theirs", "a", (Text("1"),)),
        ToolResult(MINTED, "b", (Text("no"),), is_error=True),
    )
    messages = said(asked(messages=(USER, Message("assistant", calls), Message("user", results))))
    assert messages["messages"][1]["tool_calls"] == [
        {"id": "theirs", "function": {"name": "a", "arguments": {}}},
        {"function": {"name": "b", "arguments": {}}},
    ]
    assert messages["messages"][2:] == [
        {"role": "tool", "tool_name": "a", "tool_call_id": "theirs", "content": "1"},
        {"role": "tool", "tool_name": "b", "content": '{"error":"no"}'},
        {"role": "user", "content": "And?"},
    ]


def test_texts_of_one_turn_are_one() -> None:
    turns = (Message("system", (Text("a"), Text("b"))), Message("assistant", (Refusal("no"),)))
    assert said(asked(messages=turns))["messages"] == [
        {"role": "system", "content": "a\nb"},
        {"role": "assistant", "content": "no"},
    ]


@pytest.mark.parametrize(
    ("reasoning", "think"),
    [
        (Reasoning("none"), False),
        (Reasoning(off=True), False),
        (Reasoning("max"), "max"),
        (Reasoning(), None),
    ],
)
def test_whether_it_thinks(reasoning: Reasoning, think: bool | str | None) -> None:
    assert said(asked(reasoning=reasoning)).get("think") == think


def test_no_tool_may_be_called_where_none_is_named() -> None:
    assert "tools" not in said(asked(tools=(LOOKUP,), tool_choice=ToolChoice("none")))


def test_any_json() -> None:
    assert said(asked(shape=Shape()))["format"] == "json"


def turn(*parts: Any, role: Any = "user") -> Conversation:
    return asked(messages=(Message(role, parts),))


REFUSED: dict[str, Conversation] = {
    "`n`": asked(choices=2),
    "`logit_bias`": asked(others={"logit_bias": {"1": 2}}),
    "The demand for a tool call": asked(tools=(LOOKUP,), tool_choice=ToolChoice("any")),
    "One tool call at a time": asked(tools=(LOOKUP,), tool_choice=ToolChoice(parallel=False)),
    "`strict` of the tool `now`": asked(tools=(Tool("now", "", {}, strict=True),)),
    "The name of a message's author": asked(messages=(Message("user", (Text("a"),), "Ann"),)),
    "Sound": turn(Media("audio", "audio/wav", "aGk=")),
    "A file": turn(Media("file", "application/pdf", "aGk=")),
    "An image by its address": turn(Media("image", url="https://h/a.png")),
    "The `detail` of an image": turn(Media("image", "image/png", "aGk=", detail="low")),
    "A thought that nobody may read": turn(Thinking("", redacted="x"), role="assistant"),
    "A tool's result without its call": turn(ToolResult("a", "", ())),
    "A call of `lookup` whose arguments": turn(ToolCall("a", "lookup", "["), role="assistant"),
    "How many tokens it may think for": asked(reasoning=Reasoning(tokens=9)),
    "An effort of `minimal`": asked(reasoning=Reasoning("minimal")),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_it_has_no_place_for_is_refused_by_name(what: str) -> None:
    with pytest.raises(NotCarried) as refused:
        said(REFUSED[what])
    assert str(refused.value).startswith(what)


def test_what_is_no_conversation_goes_to_its_layer_of_openais_dialect() -> None:
    for base in ("http://h", "http://h/api"):
        assert ADAPTER.url(place(base), call("embeddings")) == "http://h/v1/embeddings"
        assert ADAPTER.url(place(base), call("completions")) == "http://h/v1/completions"
    used = ADAPTER.usage(b'{"usage": {"prompt_tokens": 9, "total_tokens": 9}}')
    assert used is not None
    assert used.tokens == {"input": 9}


# What it answers -------------------------------------------------------------------------

END = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 4_935_886_791_000,
    "prompt_eval_count": 26,
    "eval_count": 282,
}


def line(message: dict[str, Any], **more: Any) -> dict[str, Any]:
    rest = {"model": "qwen3", "created_at": "2026-01-01T00:00:00Z", "done": False}
    return {**rest, "message": {"role": "assistant", **message}, **more}


def lines(*frames: dict[str, Any]) -> bytes:
    return b"\n".join(map(orjson.dumps, frames)) + b"\n"


CALLS = [
    {"function": {"name": "lookup", "arguments": {"a": 1}}},
    {"id": "theirs", "function": {"name": "now"}},
]
STREAM = lines(
    line({"content": "", "thinking": "h"}),
    line({"content": "", "thinking": "m"}),
    line({"content": "Zürich, "}),
    line({"content": "\u2028wait"}),
    line({"content": "", "tool_calls": CALLS}),
    line({"content": ""}, **END),
)


def test_a_stream_is_read_line_by_line() -> None:
    answer = told(streamed(SPEECH, STREAM))
    assert (answer.model, answer.text) == ("qwen3", "Zürich, \u2028wait")
    assert answer.thoughts == [("hm", "")]
    [[minted, *first], second] = answer.calls
    assert minted.startswith("call_ops_")
    assert first == ["lookup", '{"a":1}', ""]
    assert second == ["theirs", "now", "{}", ""]
    assert (answer.reason, answer.native) == ("tool_calls", "stop")
    assert answer.usage == {"input": 26, "output": 282}


def test_a_whole_answer_says_the_same() -> None:
    whole = line({"content": "four", "thinking": "hm"}, **{**END, "done_reason": "length"})
    answer = told(SPEECH.whole(orjson.dumps(whole)))
    assert (answer.text, answer.thoughts) == ("four", [("hm", "")])
    assert (answer.reason, answer.native) == ("length", "length")
    assert answer.usage == {"input": 26, "output": 282}


def test_a_stream_that_breaks_off_has_neither_reason_nor_count() -> None:
    answer = told(streamed(SPEECH, STREAM[: STREAM.index(b"done_reason") - 200]))
    assert (answer.reason, answer.usage) == ("", None)


def test_an_error_inside_of_a_success() -> None:
    failed = Failed("error", "model runner has stopped")
    error = {"error": "model runner has stopped"}
    assert told(streamed(SPEECH, STREAM[:90] + b"\n" + lines(error))).failed == failed
    assert SPEECH.whole(orjson.dumps(error)) == (failed,)


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b"7", b"{}"])
def test_what_is_no_answer_failed(answer: bytes) -> None:
    [failed] = SPEECH.whole(answer)
    assert isinstance(failed, Failed)


FRAMES = rubbish(
    names=("message", "content", "thinking", "tool_calls", "function", "arguments", "done", "error")
)


@given(FRAMES)
@settings(max_examples=60)
def test_rubbish_hurts_nobody(frames: list[dict[str, Any]]) -> None:
    reader = SPEECH.reader()
    for one in frames:
        list(reader.feed(orjson.dumps(one)))
        list(reader.feed(orjson.dumps(line({**one, "tool_calls": [one]}, **END))))


# What it used, and what an error means -----------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "tokens", "doubt"),
    [
        (END, {"input": 26, "output": 282}, ""),
        ({"eval_count": 9}, {"output": 9}, "input_missing"),
        ({"prompt_eval_count": 0, "eval_count": 0}, {}, ""),
        ({"prompt_eval_count": 9, "eval_count": -1}, {"input": 9}, "count_absurd"),
    ],
)
def test_usage_is_two_counts(usage: dict[str, Any], tokens: dict[str, int], doubt: str) -> None:
    """Older servers leave the prompt out which they remembered: that is no zero."""
    found = read_usage(usage)
    assert found is not None
    assert (found.tokens, found.doubt) == (tokens, doubt)
    assert ADAPTER.usage(orjson.dumps(usage)) == found


def test_what_counts_nothing_is_no_usage() -> None:
    assert read_usage({"done": True}) is None


@pytest.mark.parametrize(("status", "passed"), [(400, 400), (404, 404), (500, 503)])
def test_a_refusal_keeps_its_words_and_what_a_caller_can_mend(status: int, passed: int) -> None:
    problem = ADAPTER.error(PLACE, status, b'{"error":"model not found %s"}' % SECRET.encode())
    assert problem.status == passed
    assert problem.sentence.endswith(f"status {status}: model not found ***")


def test_a_refused_key_is_not_the_callers() -> None:
    assert isinstance(ADAPTER.error(PLACE, 401, b"unauthorized"), UpstreamKeyRefused)
