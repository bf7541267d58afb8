"""Chat completions as a client dialect, and as a provider's: what is read, written and said."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
import pytest

from proxy.dialects.chat import Chat
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
from proxy.dialects.events import (
    Began,
    Counted,
    Event,
    Failed,
    Finished,
    RefusalPiece,
    TextPiece,
    ThinkingPiece,
    ThinkingSigned,
    ToolBegan,
    ToolPiece,
)
from proxy.errors import CallerError, NotCarried, UpstreamBroken
from proxy.providers.openai_answer import AnswerReader, whole_answer
from proxy.providers.openai_speech import OpenAISpeech
from proxy.types import Usage

HELLO = {"role": "user", "content": "hello"}
FUNCTION = {"name": "look", "description": "looks", "parameters": {"type": "object"}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
USAGE = Usage({"input": 5, "cache_read": 2, "output": 3, "reasoning": 1})
PNG, PDF = "data:image/png;base64,AAAA", "data:application/pdf;base64,A"


def read(**fields: Any) -> Conversation:
    return Chat().read({"model": "m", "messages": [HELLO], **fields})


def turns(*messages: Mapping[str, Any]) -> tuple[Message, ...]:
    return read(messages=list(messages)).messages


# Requests ---------------------------------------------------------------------------


def test_what_stands_before_the_first_turn_instructs() -> None:
    found = read(messages=[{"role": "developer", "content": "be brief"}, HELLO])
    assert found.system == (Text("be brief"),)
    assert found.messages == (Message("user", (Text("hello"),)),)


def test_parts_of_every_kind_are_read() -> None:
    parts = [
        {"type": "text", "text": "what is it?"},
        {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {
            "type": "file",
            "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,A"},
        },
    ]
    [turn] = turns({"role": "user", "content": parts})
    assert turn.parts == (
        Text("what is it?"),
        Media("image", media_type="image/png", data="AAAA", detail="low"),
        Media("image", url="https://x/y.png"),
        Media("audio", media_type="audio/wav", data="AAAA"),
        Media("file", media_type="application/pdf", data="A", name="a.pdf"),
    )


def test_results_of_tools_are_one_users_turn_with_what_he_says_beside_them() -> None:
    calls = [CALL, {**CALL, "id": "call_2"}]
    found = turns(
        HELLO,
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_1", "content": "one"},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "two"}]},
        {"role": "user", "content": "and?"},
    )
    assert found[1].parts == (
        ToolCall("call_1", "look", '{"a":1}'),
        ToolCall("call_2", "look", '{"a":1}'),
    )
    assert found[2:] == (
        Message(
            "user",
            (
                ToolResult("call_1", "look", (Text("one"),)),
                ToolResult("call_2", "look", (Text("two"),)),
                Text("and?"),
            ),
        ),
    )


def test_what_was_proved_comes_back() -> None:
    """Thinking blocks of the message, and what is signed in a call."""
    thought = {"type": "thinking", "thinking": "hm", "signature": "sig"}
    hidden = {"type": "redacted_thinking", "data": "xx"}
    google = {**CALL, "extra_content": {"google": {"thought_signature": "g"}}}
    said = {"role": "assistant", "content": "so", "reasoning_content": "hm"}
    [_, turn] = turns(HELLO, {**said, "thinking_blocks": [thought, hidden], "tool_calls": [google]})
    assert turn.parts == (
        Thinking("hm", "sig"),
        Thinking("", redacted="xx"),
        Text("so"),
        ToolCall("call_1", "look", '{"a":1}', "g"),
    )


def test_how_it_may_answer_is_read() -> None:
    schema = {"type": "object"}
    found = read(
        tools=[{"type": "function", "function": FUNCTION}],
        tool_choice={"type": "function", "function": {"name": "look"}},
        parallel_tool_calls=False,
        max_completion_tokens=9,
        max_tokens=7,
        stop="x",
        temperature=0.5,
        seed=3,
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
        reasoning_effort="low",
        user="ann",
    )
    assert found.tools == (Tool("look", "looks", {"type": "object"}),)
    assert found.tool_choice == ToolChoice("tool", "look", False)
    assert (found.output_max, found.stop, found.user) == (9, ("x",), "ann")
    assert found.sampling == Sampling(temperature=0.5, seed=3)
    assert found.shape == Shape(schema, "n")
    assert found.reasoning == Reasoning("low")
    assert found.others == {}


@pytest.mark.parametrize(
    ("field", "value"),
    [("logprobs", True), ("store", True), ("web_search_options", {"a": 1}), ("future", 1)],
)
def test_what_there_is_no_word_for_is_named_and_refused(field: str, value: Any) -> None:
    found = read(**{field: value})
    assert found.others == {field: value}
    if field != "store":
        with pytest.raises(NotCarried):
            write(found)


@pytest.mark.parametrize("message", [{"role": "x"}, {"role": "user", "content": 7}, {}])
def test_what_cannot_be_understood_is_told_by_its_place(message: dict[str, Any]) -> None:
    with pytest.raises(CallerError) as caught:
        turns(message)
    assert "messages[0]" in str(caught.value)


# Answers -----------------------------------------------------------------------------

ANSWER: tuple[Event, ...] = (
    Began("x", "m"),
    ThinkingPiece("hm"),
    ThinkingSigned("sig"),
    TextPiece("he"),
    TextPiece("llo"),
    ToolBegan(0, "call_1", "look"),
    ToolPiece(0, '{"a"'),
    ToolPiece(0, ":1}"),
    Finished("tool_calls"),
    Counted(USAGE),
)


def frames(data: bytes) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in data.decode().split("\n\n") if line]
    return [orjson.loads(line) for line in lines if line != "[DONE]"]


def deltas(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [frame["choices"][0]["delta"] for frame in found if frame["choices"]]


@pytest.mark.parametrize("wanted", [True, False])
def test_a_stream_says_role_pieces_reason_and_usage_if_wanted(wanted: bool) -> None:
    writer = Chat().writer("r", "m", {"stream_options": {"include_usage": wanted}})
    data = b"".join(writer.feed([event]) for event in ANSWER) + writer.end(USAGE)
    found = frames(data)
    assert data.endswith(b"data: [DONE]\n\n")
    said = deltas(found)
    assert said[:5] == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "hm"},
        {"thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "sig"}]},
        {"content": "he"},
        {"content": "llo"},
    ]
    started = {"index": 0, **CALL, "function": {"name": "look", "arguments": ""}}
    assert said[5] == {"tool_calls": [started]}
    assert said[-1] == {}
    last = found[-2 if wanted else -1]["choices"][0]
    assert last["finish_reason"] == "tool_calls"
    assert ("usage" in found[0]) == wanted
    if wanted:
        assert found[-1]["usage"]["prompt_tokens"] == 7
        assert found[-1]["usage"]["completion_tokens"] == 4
        assert found[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] == 2


def test_a_whole_answer_is_the_sum_of_its_pieces() -> None:
    found = orjson.loads(Chat().writer("r", "m", {}).whole(ANSWER, USAGE))
    [choice] = found["choices"]
    assert choice["finish_reason"] == "tool_calls"
    message = choice["message"]
    assert (message["content"], message["reasoning_content"]) == ("hello", "hm")
    assert message["tool_calls"] == [CALL]
    assert message["thinking_blocks"][0]["signature"] == "sig"
    assert found["usage"]["completion_tokens_details"] == {"reasoning_tokens": 1}
    # and back: what a client sends on is what was said
    [_, turn] = turns(HELLO, message)
    assert turn.parts == (
        Thinking("hm", "sig"),
        Text("hello"),
        ToolCall("call_1", "look", '{"a":1}'),
    )


def test_an_end_of_credits_and_an_error_are_frames_of_their_own() -> None:
    writer = Chat().writer("r", "m", {})
    cut = frames(writer.feed([TextPiece("a")]) + writer.cut(USAGE))
    assert cut[-1]["choices"][0]["finish_reason"] == "length"
    [told] = frames(writer.fail(UpstreamBroken(model="m", why="x"), USAGE))
    assert told["error"]["code"] == "upstream_broken"
    assert told["usage"]["prompt_tokens"] == 7


# To a provider -----------------------------------------------------------------------


def write(said: Conversation, **more: Any) -> dict[str, Any]:
    speech = OpenAISpeech(more.pop("takes_thoughts", True))
    return speech.write(said, model="gpt", output_max=99, **{"stream": False, **more})


def test_what_a_chat_client_says_is_what_a_chat_provider_is_told() -> None:
    """Through the border and back: nothing is lost, nothing is added."""
    body = {
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "see"},
                                         {"type": "image_url", "image_url": {"url": PNG}}]},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "one"},
        ],
        "tools": [{"type": "function", "function": {**FUNCTION, "strict": True}}],
        "tool_choice": "required",
        "max_tokens": 5,
        "stop": ["x"],
        "temperature": 0,
        "n": 2,
    }  # fmt: skip
    assert write(read(**body)) == {"model": "gpt", **body}
    assert write(read(), stream=True)["stream_options"] == {"include_usage": True}


def test_a_tool_shows_an_image_in_the_turn_after_it() -> None:
    """A tool's message has texts alone."""
    shown = ToolResult("c", "look", (Text("see"), Media("image", url="https://x/y.png")))
    body = write(Conversation((), (Message("user", (shown,)),)))
    assert body["messages"][0] == {"role": "tool", "tool_call_id": "c", "content": "see"}
    assert [part["type"] for part in body["messages"][1]["content"]] == ["text", "image_url"]


def test_thoughts_and_signatures_go_back_where_they_are_taken() -> None:
    parts = (Thinking("hm", "sig"), ToolCall("c", "look", "{}", "g"))
    said = Conversation((), (Message("user", (Text("a"),)), Message("assistant", parts)))
    taken = write(said)["messages"][1]
    assert taken["reasoning_content"] == "hm"
    assert taken["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "g"}}
    bare = write(said, takes_thoughts=False)["messages"][1]
    assert set(bare) == {"role", "content", "tool_calls"}


def test_the_maximum_of_a_model_that_thinks_has_its_newer_name_at_openai_alone() -> None:
    said = read(max_completion_tokens=9, reasoning_effort="low")
    assert write(said)["max_tokens"] == 9
    assert write(said, takes_thoughts=False)["max_completion_tokens"] == 9


def test_a_refusal_goes_back_as_one() -> None:
    said = Conversation((), (Message("user", (Text("a"),)), Message("assistant", (Refusal("no"),))))
    assert write(said)["messages"][1]["content"] == [{"type": "refusal", "refusal": "no"}]


@pytest.mark.parametrize(
    "media",
    [Media("audio", media_type="audio/ogg", data="A"), Media("file", url="https://x/a.pdf")],
)
def test_media_that_have_no_place_are_refused(media: Media) -> None:
    with pytest.raises(NotCarried):
        write(Conversation((), (Message("user", (media,)),)))


# From a provider ---------------------------------------------------------------------

MESSAGE = {
    "role": "assistant",
    "reasoning": "hm",
    "content": "hello",
    "tool_calls": [CALL],
}
TOLD = {"prompt_tokens": 7, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2}}
SAID = [
    Began("x", "m"),
    ThinkingPiece("hm"),
    TextPiece("hello"),
    ToolBegan(0, "call_1", "look"),
    ToolPiece(0, '{"a":1}'),
]
COUNTED = Counted(Usage({"input": 5, "cache_read": 2, "output": 4}))


def test_a_whole_answer_says_all_that_is_in_it() -> None:
    choice = {"index": 0, "message": MESSAGE, "finish_reason": "tool_calls"}
    answer = {"id": "x", "model": "m", "choices": [choice], "usage": TOLD}
    last = Finished("tool_calls", native="tool_calls")
    assert list(whole_answer(orjson.dumps(answer))) == [*SAID, COUNTED, last]


def test_a_stream_says_the_same_and_ends_with_its_mark_alone() -> None:
    reader, found = AnswerReader(), list[Event]()
    rows: list[dict[str, Any]] = [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "hm"},
        {"content": "hello"},
        {"tool_calls": [{"index": 0, **CALL, "function": {"name": "look", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]},
    ]
    for delta in rows:
        choice = {"index": 0, "delta": delta, "finish_reason": None}
        found += reader.feed(orjson.dumps({"id": "x", "model": "m", "choices": [choice]}))
    assert found == SAID
    finish = {"index": 0, "delta": {}, "finish_reason": "tool_calls"}
    assert list(reader.feed(orjson.dumps({"choices": [finish]}))) == []
    assert list(reader.feed(orjson.dumps({"choices": [], "usage": TOLD}))) == [COUNTED]
    assert list(reader.end()) == []
    assert list(reader.feed(b"[DONE]")) == []
    assert list(reader.end()) == [Finished("tool_calls", native="tool_calls")]


@pytest.mark.parametrize(
    "error", [{"message": "no", "type": "t"}, {"message": "no", "code": 502}, "no"]
)
def test_an_error_in_an_answer_is_one(error: Any) -> None:
    for found in (AnswerReader().feed(orjson.dumps({"error": error})),
                  whole_answer(orjson.dumps({"error": error}))):  # fmt: skip
        [failed] = found
        assert isinstance(failed, Failed)
        assert failed.message == "no"


def test_rubbish_says_nothing_and_is_no_whole_answer() -> None:
    reader = AnswerReader()
    for data in (b"", b"{", b"[]", b'{"choices":[7]}', b'{"choices":[{"delta":9}]}'):
        assert list(reader.feed(data)) == []
    with pytest.raises(ValueError, match="choice"):
        whole_answer(b"{}")


def test_a_refusal_is_no_text() -> None:
    writer = Chat().writer("r", "m", {})
    found = orjson.loads(writer.whole([RefusalPiece("no"), Finished("stop")], USAGE))
    assert found["choices"][0]["message"]["refusal"] == "no"
    assert found["choices"][0]["message"]["content"] is None
