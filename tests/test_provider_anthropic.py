"""Anthropic's dialect: what is said to it, what its answers mean, what they used."""

import base64
from typing import Any

import anthropic
import httpx2
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
from proxy.providers.anthropic import Anthropic
from proxy.providers.anthropic_answer import read_usage
from proxy.providers.anthropic_speech import AnthropicSpeech
from tests.speech_stage import SECRET, asked, call, events, place, rubbish, streamed, told, written

SPEECH = AnthropicSpeech()
ADAPTER = Anthropic()
PLACE = place("https://api.example.com", "claude-opus-4-8")
LOOKUP = Tool("lookup", "Finds the weather", {"properties": {"city": {"type": "string"}}})
USER = Message("user", (Text("hi"),))


def said(conversation: Conversation, **how: Any) -> dict[str, Any]:
    return written(SPEECH, conversation, **{"model": "claude-opus-4-8", **how})


# Where to send, with which headers ------------------------------------------------------


@pytest.mark.parametrize("base", ["https://h", "https://h/", "https://h/v1", "https://h/v1/"])
def test_the_path_follows_the_base_url(base: str) -> None:
    assert ADAPTER.url(place(base), call()) == "https://h/v1/messages"


def test_the_key_and_the_version_stand_in_headers_of_their_own() -> None:
    headers = dict(ADAPTER.headers(PLACE, call()))
    assert headers[b"x-api-key"] == SECRET.encode()
    assert headers[b"anthropic-version"] == b"2023-06-01"
    assert b"authorization" not in headers


def test_a_key_of_a_sign_in_is_a_bearers() -> None:
    headers = dict(ADAPTER.headers(place("https://h", secret="sk-ant-oat01-x"), call()))
    assert headers[b"authorization"] == b"Bearer sk-ant-oat01-x"
    assert b"x-api-key" not in headers


def test_its_own_clients_pass_with_the_models_name_alone_changed() -> None:
    own = call("messages", max_tokens=9, thinking={"type": "adaptive"}, unheard_of=[1])
    assert orjson.loads(ADAPTER.body(PLACE, own)) == {**own.fields, "model": "claude-opus-4-8"}


# What is said ----------------------------------------------------------------------------


def test_a_plain_question() -> None:
    assert said(asked("hi")) == {
        "model": "claude-opus-4-8",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": "hi"}],
    }


def test_all_that_it_has_a_place_for() -> None:
    body = said(
        asked(
            "hi",
            system=(Text("Be brief."), Text("Be kind.", {"cache_control": {"type": "ephemeral"}})),
            output_max=99,
            stop=("END",),
            sampling=Sampling(temperature=0, top_p=0.5, top_k=7),
            shape=Shape({"type": "object"}),
            user="somebody",
        ),
        stream=True,
    )
    assert body == {
        "model": "claude-opus-4-8",
        "max_tokens": 99,
        "system": [
            {"type": "text", "text": "Be brief."},
            {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}},
        ],
        "messages": [{"role": "user", "content": "hi"}],
        "stop_sequences": ["END"],
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 7,
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        "metadata": {"user_id": "somebody"},
        "stream": True,
    }


def test_results_of_one_turns_tools_stand_first_in_one_turn() -> None:
    """Where a client sent each by itself, or words before them, it is refused there."""
    calls = (ToolCall("a", "lookup", '{"city": "Oslo"}'), ToolCall("b.1", "lookup", ""))
    picture = Media("image", "image/png", "aGk=")
    turns = (
        USER,
        Message("assistant", (Text("One moment."), *calls)),
        Message("user", (ToolResult("a", "lookup", (Text("rain"),)),)),
        Message("user", (Text("And?"), ToolResult("b.1", "lookup", (picture,), is_error=True))),
    )
    [_, model, results] = said(asked(messages=turns, tools=(LOOKUP,)))["messages"]
    assert model["content"] == [
        {"type": "text", "text": "One moment."},
        {"type": "tool_use", "id": "a", "name": "lookup", "input": {"city": "Oslo"}},
        {"type": "tool_use", "id": "b_1", "name": "lookup", "input": {}},
    ]
    source = {"type": "base64", "media_type": "image/png", "data": "aGk="}
    image = [{"type": "image", "source": source}]
    assert results["role"] == "user"
    assert results["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": "rain"},
        {"type": "tool_result", "tool_use_id": "b_1", "content": image, "is_error": True},
        {"type": "text", "text": "And?"},
    ]


def test_thoughts_go_back_with_their_proofs() -> None:
    parts = (Thinking("hm", "sig=="), Thinking("", redacted="xyz"), Text("four"), Refusal("no"))
    turns = (USER, Message("assistant", parts), USER)
    assert said(asked(messages=turns))["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "sig=="},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": "four"},
        {"type": "text", "text": "no"},
    ]


@pytest.mark.parametrize(
    ("media", "block"),
    [
        (
            Media("image", url="https://h/a.png", detail="high"),
            {"type": "image", "source": {"type": "url", "url": "https://h/a.png"}},
        ),
        (
            Media("image", file_id="file_1"),
            {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        ),
        (
            Media("file", "application/pdf", "aGk=", name="a.pdf"),
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="},
                "title": "a.pdf",
            },
        ),
        (
            Media("file", "text/markdown", base64.b64encode("ü".encode()).decode()),
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "ü"},
            },
        ),
    ],
)
def test_images_and_documents(media: Media, block: dict[str, Any]) -> None:
    turns = (Message("user", (Text("See:"), media)),)
    assert said(asked(messages=turns))["messages"][0]["content"][1] == block


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (ToolChoice("auto"), {"type": "auto"}),
        (ToolChoice("none"), {"type": "none"}),
        (ToolChoice("any", parallel=False), {"type": "any", "disable_parallel_tool_use": True}),
        (ToolChoice("tool", "lookup"), {"type": "tool", "name": "lookup"}),
        (ToolChoice(parallel=False), {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice(parallel=True), {"type": "auto"}),
    ],
)
def test_which_tool_it_may_call(choice: ToolChoice, expected: dict[str, Any]) -> None:
    body = said(asked(tools=(LOOKUP,), tool_choice=choice))
    assert body["tool_choice"] == expected
    properties = {"city": {"type": "string"}}
    schema = {"type": "object", "properties": properties}
    assert body["tools"] == [
        {"name": "lookup", "description": "Finds the weather", "input_schema": schema}
    ]


def test_a_choice_among_no_tools_is_none() -> None:
    assert "tool_choice" not in said(asked(tool_choice=ToolChoice("none")))


@pytest.mark.parametrize(
    ("model", "reasoning", "expected"),
    [
        ("claude-opus-4-8", Reasoning(off=True), {"thinking": {"type": "disabled"}}),
        ("claude-opus-4-8", Reasoning("none"), {"thinking": {"type": "disabled"}}),
        (
            "claude-opus-4-8",
            Reasoning("minimal", shown=False),
            {
                "thinking": {"type": "adaptive", "display": "omitted"},
                "output_config": {"effort": "low"},
            },
        ),
        (
            "claude-opus-4-8",
            Reasoning("high"),
            {
                "thinking": {"type": "adaptive", "display": "summarized"},
                "output_config": {"effort": "high"},
            },
        ),
        (
            "claude-opus-4-8",
            Reasoning(tokens=2000),
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
        ),
        (
            "claude-sonnet-4-5-20250929",
            Reasoning("low"),
            {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        ),
        (
            "claude-sonnet-4-5-20250929",
            Reasoning("high"),
            {"thinking": {"type": "enabled", "budget_tokens": 4095}},
        ),
        ("claude-opus-4-8", Reasoning(), {}),
    ],
)
def test_how_much_it_thinks(model: str, reasoning: Reasoning, expected: dict[str, Any]) -> None:
    """Models of before are told tokens, which have to leave room for an answer."""
    body = said(asked(reasoning=reasoning), model=model)
    assert {name: body[name] for name in ("thinking", "output_config") if name in body} == expected


REFUSED: dict[str, Conversation] = {
    "`n`": asked(choices=2),
    "`seed`": asked(sampling=Sampling(seed=0)),
    "`presence_penalty`": asked(sampling=Sampling(presence_penalty=0.5)),
    "`frequency_penalty`": asked(sampling=Sampling(frequency_penalty=-1)),
    "A temperature above 1": asked(sampling=Sampling(temperature=1.5)),
    "Any JSON as an answer": asked(shape=Shape()),
    "`logit_bias`": asked(others={"logit_bias": {"1": 2}}),
    "`logprobs`": asked(others={"logprobs": True}),
    "`store`": asked(others={"store": True}),
    "`messages.0.annotations`": asked(others={"messages.0.annotations": [1]}),
    "The name of a message's author": asked(messages=(Message("user", (Text("a"),), "Ann"),)),
    "Sound": asked(messages=(Message("user", (Media("audio", "audio/wav", "aGk="),)),)),
    "The `detail` of an image": asked(
        messages=(Message("user", (Media("image", url="https://h", detail="low"),)),)
    ),
    "Data without its media type": asked(messages=(Message("user", (Media("image", data="a"),)),)),
    "A thought without its signature": asked(messages=(Message("assistant", (Thinking("a"),)),)),
    "A call of `lookup` whose arguments": asked(
        messages=(Message("assistant", (ToolCall("a", "lookup", "[1]"),)),)
    ),
    "An effort of `enormous`": asked(reasoning=Reasoning("enormous")),
    "`defer`": asked(tools=(Tool("a", "", {}, extra={"defer": True}),)),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_it_has_no_place_for_is_refused_by_name(what: str) -> None:
    with pytest.raises(NotCarried) as refused:
        said(REFUSED[what])
    assert str(refused.value).startswith(what)
    assert "carried to Anthropic" in str(refused.value)


def test_what_changes_no_answer_is_left_out() -> None:
    others = {"metadata": {"a": "b"}, "store": False, "service_tier": "auto", "logprobs": False}
    others |= {"logit_bias": {}, "messages.0.annotations": [], "tools.0.cache_control": {"a": 1}}
    assert said(asked("hi", others=others, hints={"prompt_cache_key": "k"})) == said(asked("hi"))


# The provider's own SDK ------------------------------------------------------------------


def sdk_sends(**arguments: Any) -> tuple[dict[str, str], dict[str, Any], str]:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(500)

    transport = httpx2.Client(transport=httpx2.MockTransport(answer))
    client = anthropic.Anthropic(
        api_key=SECRET, base_url=PLACE.base_url, http_client=transport, max_retries=0
    )
    with pytest.raises(anthropic.InternalServerError):
        client.messages.create(**arguments)
    [request] = seen
    return dict(request.headers), orjson.loads(request.content), str(request.url)


def test_what_is_sent_is_what_its_own_sdk_sends() -> None:
    """The same call, by Anthropic's Python package and by us: equal bodies, the same place.

    In which header a key stands and which version is spoken change with the package; ours are the
    documented ones.
    """
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    headers, body, url = sdk_sends(
        model="claude-opus-4-8",
        max_tokens=99,
        system="Be brief.",
        messages=[
            {"role": "user", "content": "Weather?"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "tool_use", "id": "t1", "name": "lookup", "input": {"city": "Oslo"}},
                ],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "rain"}],
            },
        ],
        tools=[{"name": "lookup", "description": "Finds the weather", "input_schema": schema}],
        tool_choice={"type": "auto", "disable_parallel_tool_use": True},
        stop_sequences=["END"],
        thinking={"type": "enabled", "budget_tokens": 1024},
        metadata={"user_id": "somebody"},
    )
    ours = said(
        asked(
            system=(Text("Be brief."),),
            messages=(
                Message("user", (Text("Weather?"),)),
                Message(
                    "assistant",
                    (Thinking("hm", "s"), ToolCall("t1", "lookup", '{"city":"Oslo"}')),
                ),
                Message("user", (ToolResult("t1", "lookup", (Text("rain"),)),)),
            ),
            tools=(LOOKUP,),
            tool_choice=ToolChoice(parallel=False),
            output_max=99,
            stop=("END",),
            reasoning=Reasoning(tokens=1024),
            user="somebody",
        )
    )
    assert ours == body
    assert ADAPTER.url(PLACE, call()) == url
    for name, value in ADAPTER.headers(PLACE, call()):
        if name in (b"content-type", b"accept"):
            assert headers[name.decode()] == value.decode()


# What it answers -------------------------------------------------------------------------

USAGE: dict[str, Any] = {
    "input_tokens": 9,
    "cache_read_input_tokens": 5,
    "cache_creation_input_tokens": 7,
    "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 3},
    "output_tokens": 1,
    "service_tier": "standard",
}
START = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": []}
DONE_USAGE: dict[str, Any] = {"output_tokens": 30, "output_tokens_details": {"thinking_tokens": 10}}
STREAM = events(
    {"type": "message_start", "message": {**START, "usage": USAGE}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking"}},
    {"type": "ping"},
    {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "h"}},
    {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "m"}},
    {"type": "content_block_delta", "delta": {"type": "signature_delta", "signature": "s=="}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "content_block": {"type": "redacted_thinking", "data": "x"}},
    {"type": "content_block_stop", "index": 1},
    {"type": "content_block_start", "index": 2, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Zürich, "}},
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "\u2028wait"}},
    {"type": "content_block_delta", "delta": {"type": "unheard_of"}},
    {"type": "content_block_stop", "index": 2},
    {
        "type": "content_block_start",
        "content_block": {"type": "tool_use", "id": "toolu_1", "name": "lookup", "input": {}},
    },
    {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": ""}},
    {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": '{"a"'}},
    {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": ": 1}"}},
    {"type": "content_block_stop", "index": 3},
    {
        "type": "content_block_start",
        "content_block": {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
    },
    {"type": "content_block_stop", "index": 4},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": DONE_USAGE},
    {"type": "message_stop"},
)
MESSAGE: dict[str, Any] = {
    **START,
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "s=="},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "Zürich, \u2028wait"},
        {"type": "tool_use", "id": "toolu_1", "name": "lookup", "input": {"a": 1}},
        {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
    ],
    "stop_reason": "tool_use",
    "usage": {**USAGE, **DONE_USAGE},
}
TOKENS = {
    **{"input": 9, "cache_read": 5, "cache_write": 4, "cache_write_1h": 3},
    **{"output": 20, "reasoning": 10},
}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1 << 20])
def test_a_stream_is_read_however_it_is_cut(size: int) -> None:
    answer = told(streamed(SPEECH, STREAM, size))
    assert (answer.id, answer.model, answer.text) == ("msg_1", "claude", "Zürich, \u2028wait")
    assert answer.thoughts == [("hm", "s=="), ("", "x")]
    assert answer.calls == [["toolu_1", "lookup", '{"a": 1}', ""], ["toolu_2", "now", "{}", ""]]
    assert (answer.reason, answer.native) == ("tool_calls", "tool_use")
    assert (answer.usage, answer.partial) == (TOKENS, False)


def test_a_whole_answer_says_the_same() -> None:
    answer, other = told(SPEECH.whole(orjson.dumps(MESSAGE))), told(streamed(SPEECH, STREAM))
    other.calls[0][2] = '{"a":1}'  # as the stream's pieces had it
    assert answer == other


def test_until_its_end_a_streams_usage_is_partial_and_its_reason_open() -> None:
    """Broken off: what came in is known, what went out is not."""
    answer = told(streamed(SPEECH, STREAM[: STREAM.index(b"event: message_delta")]))
    assert (answer.reason, answer.partial) == ("", True)
    assert answer.usage is not None
    assert answer.usage["cache_write_1h"] == 3


def test_counts_are_of_all_until_then() -> None:
    """They replace earlier ones; what is told once stays."""
    more = {"input_tokens": 12, "output_tokens": 40, "cache_read_input_tokens": None}
    stream = events(
        {"type": "message_start", "message": {**START, "usage": USAGE}},
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 30}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": more},
    )
    usage = told(streamed(SPEECH, stream)).usage
    kept = {"cache_read": 5, "cache_write": 4, "cache_write_1h": 3}
    assert usage == {"input": 12, "output": 40, **kept}


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("unheard_of", "stop"),
    ],
)
def test_why_it_stopped(native: str, reason: str) -> None:
    answer = told(SPEECH.whole(orjson.dumps({**START, "stop_reason": native})))
    assert (answer.reason, answer.native) == (reason, native)


def test_a_refusal_tells_its_reason() -> None:
    delta = {"stop_reason": "refusal", "stop_details": {"explanation": "It is not safe."}}
    answer = told(streamed(SPEECH, events({"type": "message_delta", "delta": delta, "usage": {}})))
    assert (answer.reason, answer.refusal) == ("content_filter", "It is not safe.")


def test_the_sequence_that_stopped_it_is_told() -> None:
    message = {**START, "stop_reason": "stop_sequence", "stop_sequence": "END"}
    assert told(SPEECH.whole(orjson.dumps(message))).stop_sequence == "END"


ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


def test_an_error_inside_of_a_success() -> None:
    failed = Failed("overloaded_error", "Overloaded")
    assert told(streamed(SPEECH, STREAM[:900] + b"\n\n" + events(ERROR))).failed == failed
    assert SPEECH.whole(orjson.dumps(ERROR)) == (failed,)


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b"7", b"{}", b'{"content": "no"}'])
def test_what_is_no_answer_failed(answer: bytes) -> None:
    [failed] = SPEECH.whole(answer)
    assert isinstance(failed, Failed)


FRAMES = rubbish(
    *("message_start", "content_block_start", "content_block_delta", "content_block_stop"),
    *("message_delta", "error", "ping"),
    names=("message", "content_block", "delta", "usage", "error", "index", "content"),
)


@given(FRAMES)
@settings(max_examples=60)
def test_rubbish_hurts_nobody(frames: list[dict[str, Any]]) -> None:
    reader = SPEECH.reader()
    for one in frames:
        list(reader.feed(orjson.dumps(one)))
        SPEECH.whole(orjson.dumps({**one, "content": [one]}))


# What it used ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"input_tokens": 9, "output_tokens": 4}, {"input": 9, "output": 4}),
        ({"input_tokens": 0, "output_tokens": 0}, {}),
        ({"input_tokens": 9.0, "output_tokens": None}, {"input": 9}),
        (
            {"input_tokens": 2, "cache_creation_input_tokens": 8, "output_tokens": 1},
            {"input": 2, "cache_write": 8, "output": 1},
        ),
        (
            {
                "input_tokens": 2,
                "output_tokens": 1,
                "cache_creation": {"ephemeral_1h_input_tokens": 8},
            },
            {"input": 2, "cache_write_1h": 8, "output": 1},
        ),
        (
            {
                "input_tokens": 2,
                "cache_creation_input_tokens": 5,
                "cache_creation": {"ephemeral_1h_input_tokens": 8},
                "output_tokens": 1,
            },
            {"input": 2, "cache_write_1h": 5, "output": 1},
        ),
        (
            {"output_tokens": 4, "output_tokens_details": {"thinking_tokens": 9}},
            {"reasoning": 4},
        ),
        (
            {"output_tokens": 4, "server_tool_use": {"web_search_requests": 2}},
            {"output": 4, "web_searches": 2},
        ),
    ],
)
def test_usage_is_counted_in_classes_that_do_not_overlap(
    usage: dict[str, Any], tokens: dict[str, int]
) -> None:
    found = read_usage(usage)
    assert found is not None
    assert (found.tokens, found.source) == (tokens, "provider")
    assert ADAPTER.usage(orjson.dumps({"usage": usage})) == found
    assert ADAPTER.usage(orjson.dumps({"type": "x", "message": {"usage": usage}})) == found


@pytest.mark.parametrize(
    "usage",
    [{}, {"input_tokens": -1}, {"input_tokens": True}, {"output_tokens": "9"}, {"speed": "fast"}],
)
def test_what_counts_nothing_is_no_usage(usage: dict[str, Any]) -> None:
    assert read_usage(usage) is None


# What an error means ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "passed"),
    [
        (400, 400),
        (404, 404),
        (413, 413),
        (429, 429),
        (402, 502),
        (500, 503),
        (504, 503),
        (529, 503),
    ],
)
def test_a_refusal_keeps_its_words_and_what_a_caller_can_mend(status: int, passed: int) -> None:
    problem = ADAPTER.error(PLACE, status, orjson.dumps({**ERROR, "request_id": "req_1"}))
    assert problem.status == passed
    assert problem.sentence.endswith(f"status {status}: Overloaded")


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_not_the_callers(status: int) -> None:
    said = orjson.dumps({"type": "error", "error": {"message": f"invalid x-api-key {SECRET}"}})
    problem = ADAPTER.error(PLACE, status, said)
    assert isinstance(problem, UpstreamKeyRefused)
    assert SECRET not in problem.sentence


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"<html>Request Entity Too Large</html>", "no message"),
        (b"too large", "too large"),
        (b"", "no message"),
        (b'{"error": "text"}', '{"error": "text"}'),
        (b'{"error": {"message": "key %s"}}' % SECRET.encode(), "key ***"),
    ],
)
def test_an_error_of_another_shape(answer: bytes, message: str) -> None:
    assert ADAPTER.error(PLACE, 413, answer).sentence.endswith(f"status 413: {message}")
