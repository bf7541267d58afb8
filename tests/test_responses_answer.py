"""Answers in OpenAI's Responses dialect, as its own SDK reads them."""

from typing import Any

import openai
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response

from proxy.dialects.conversation import Refusal, Text, Thinking, ToolCall
from proxy.dialects.events import Finished
from proxy.dialects.responses import Responses
from proxy.dialects.responses_answer import ResponsesWriter
from proxy.errors import InsufficientCredits, ModelNotFound, OpsError, RateLimited, UpstreamBroken
from proxy.types import NO_USAGE
from tests.words_stage import BEGAN, USAGE, Answer, answers, frames, openai_client, said

SHOWN: dict[str, Any] = {
    "reasoning": {"effort": "low", "summary": "auto"},
    "include": ["reasoning.encrypted_content"],
}
ASKED: dict[str, Any] = {"model": "m", "input": "hi"}
CALL = ToolCall("call_1", "weather", '{"city":"Oslo"}')
LIFE = ("response.created", "response.in_progress")


def writer(**fields: Any) -> ResponsesWriter:
    return Responses().writer("r1", "ops/m", {**SHOWN, **fields})


def streamed(answer: Answer, **fields: Any) -> bytes:
    made = writer(**fields)
    return b"".join(made.feed([event]) for event in answer.whole) + made.end(USAGE)


def read(stream: bytes) -> Response:
    """As the SDK puts it together; it judges order, places and identities of items."""
    with openai_client(stream).responses.stream(**ASKED) as events:
        return events.get_final_response()


def check_order(stream: bytes) -> dict[str, Any]:
    """Numbered from 0; items one after the other, each with its end. The last event's response."""
    told = frames(stream)
    assert [data["sequence_number"] for _, data in told] == list(range(len(told)))
    assert all(name == data["type"] for name, data in told)
    assert tuple(name for name, _ in told[:2]) == LIFE
    begun: list[dict[str, Any]] = []
    ended: list[dict[str, Any]] = []
    for name, data in told[2:]:
        if name == "response.output_item.added":
            assert data["output_index"] == len(begun) == len(ended)
            begun.append(data["item"])
        elif name == "response.output_item.done":
            assert data["output_index"] == len(ended)
            ended.append(data["item"])
        elif "item_id" in data:
            assert (data["item_id"], data["output_index"]) == (begun[-1]["id"], len(ended))
    last = told[-1][1]["response"]
    assert isinstance(last, dict)
    assert last["output"] == ended
    assert [item["id"] for item in begun] == [item["id"] for item in ended]
    return last


# Streams ------------------------------------------------------------------------------


def test_text_is_told_in_pieces_and_again_whole() -> None:
    stream = streamed(said(Text("Hi there")))
    check_order(stream)
    assert [name.removeprefix("response.") for name, _ in frames(stream)] == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta", "output_text.done", "content_part.done"),
        *("output_item.done", "completed"),
    ]
    response = read(stream)
    assert (response.id, response.model, response.status) == ("resp_r1", "ops/m", "completed")
    assert response.output_text == "Hi there"


def test_parallel_calls_are_items_with_arguments_in_pieces() -> None:
    stream = streamed(said(CALL, ToolCall("call_2", "time", ""), reason="tool_calls"))
    one, two = read(stream).output
    assert one.type == two.type == "function_call"
    assert (one.call_id, one.name, one.arguments) == ("call_1", "weather", '{"city":"Oslo"}')
    assert (two.call_id, two.arguments) == ("call_2", "{}")
    pieces = [d["delta"] for n, d in frames(stream) if n.endswith("arguments.delta")]
    assert "".join(pieces) == '{"city":"Oslo"}{}'


def test_usage_includes_what_a_cache_had_and_what_was_thought() -> None:
    usage = read(streamed(said(Text("hi")))).usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (20, 25, 45)
    assert usage.input_tokens_details.cached_tokens == 4
    assert usage.input_tokens_details.cache_write_tokens == 5
    assert usage.output_tokens_details.reasoning_tokens == 5


def test_thoughts_are_summaries_where_they_are_asked_for() -> None:
    stream = streamed(said(Thinking("hm, so", signature="s1"), Text("4")))
    check_order(stream)
    thought, _ = read(stream).output
    assert thought.type == "reasoning"
    assert [one.text for one in thought.summary] == ["hm, so"]
    names = [name for name, _ in frames(stream)]
    for step in ("part.added", "text.delta", "text.done", "part.done"):
        assert f"response.reasoning_summary_{step}" in names


def test_thoughts_that_nobody_asked_for_are_items_without_words() -> None:
    stream = streamed(said(Thinking("hm", signature="s1"), Text("4")), reasoning=None, include=None)
    check_order(stream)
    assert b"summary_text" not in stream
    thought, _ = read(stream).output
    assert thought.type == "reasoning"
    assert thought.summary == []
    assert thought.encrypted_content  # or the model would not know its thought again


@pytest.mark.parametrize(
    ("answer", "status", "why"),
    [
        (said(Text("a")), "completed", None),
        (said(CALL), "completed", None),
        (said(Text("a"), reason="length"), "incomplete", "max_output_tokens"),
        (said(Text("a"), reason="content_filter"), "incomplete", "content_filter"),
        (said(Refusal("no"), reason="content_filter"), "completed", None),
    ],
)
def test_how_it_ended(answer: Answer, status: str, why: str | None) -> None:
    stream = streamed(answer)
    name, told = frames(stream)[-1]
    response = told["response"]
    assert (name, response["status"]) == (f"response.{status}", status)
    assert (response["incomplete_details"] or {}).get("reason") == why
    assert response["output"][0]["status"] == status
    whole = orjson.loads(writer().whole(answer.whole, USAGE))
    assert (whole["status"], whole["output"]) == (status, response["output"])


def test_a_response_says_what_it_was_asked_and_that_nothing_is_stored() -> None:
    fields = {
        "instructions": "Be brief.",
        "metadata": {"run": "7"},
        "store": True,
        "temperature": 0.5,
        "tools": [{"type": "function", "name": "f", "parameters": {}, "strict": None}],
    }
    response = orjson.loads(writer(**fields).whole(said(Text("a")).whole, USAGE))
    assert response["store"] is False
    for name in ("instructions", "metadata", "temperature", "tools"):
        assert response[name] == fields[name]
    assert response["reasoning"] == SHOWN["reasoning"]
    assert response["text"] == {"format": {"type": "text"}}


@settings(deadline=None, max_examples=40)
@given(answers)
def test_every_answer_is_a_stream_that_the_sdk_reads_as_the_whole(answer: Answer) -> None:
    stream = streamed(answer)
    last = check_order(stream)
    whole = orjson.loads(writer().whole(answer.whole, USAGE))
    moments = {"created_at": 0, "completed_at": 0}
    assert {**last, **moments} == {**whole, **moments}
    if last["status"] == "completed":
        assert [item.id for item in read(stream).output] == [item["id"] for item in last["output"]]


@settings(deadline=None, max_examples=40)
@given(answers, st.booleans())
def test_what_was_answered_reads_back_as_what_was_said(answer: Answer, shown: bool) -> None:
    """Whether a client was shown the thoughts or not."""
    fields = {} if shown else {"reasoning": None}
    whole = orjson.loads(writer(**fields).whole(answer.whole, USAGE))
    turns = Responses().read({"input": [*whole["output"], {"role": "user", "content": "go on"}]})
    parts = turns.messages[0].parts if answer.parts else ()
    assert parts == answer.parts


@settings(deadline=None, max_examples=40)
@given(answers, st.data(), st.booleans())
def test_a_stream_that_ends_anywhere_ends_cleanly(
    answer: Answer, data: st.DataObject, fails: bool
) -> None:
    made = writer()
    seen = data.draw(st.integers(0, len(answer.events)))
    stream = made.feed([BEGAN, *answer.events[:seen]])
    stream += made.fail(OpsError(), USAGE) if fails else made.cut(USAGE)
    last = check_order(stream)
    assert last["status"] == ("failed" if fails else "incomplete")
    assert last["usage"]["total_tokens"] == 45


# Whole answers, errors ------------------------------------------------------------------


def test_a_whole_answer_is_what_the_sdk_takes() -> None:
    whole = writer().whole(said(Thinking("hm"), Text("4"), CALL).whole, USAGE)
    response = openai_client(whole).responses.create(**ASKED)
    assert [item.type for item in response.output] == ["reasoning", "message", "function_call"]
    assert response.output_text == "4"


def test_an_answer_without_a_word_has_no_items_and_no_counts() -> None:
    whole = orjson.loads(writer().whole([BEGAN, Finished("stop")], NO_USAGE))
    assert (whole["output"], whole["usage"], whole["status"]) == ([], None, "completed")


@pytest.mark.parametrize(
    ("problem", "raised"),
    [
        (ModelNotFound(model="x"), openai.NotFoundError),
        (
            RateLimited(owner="key", limit=1, what="requests", seconds=60, left=0),
            openai.RateLimitError,
        ),
        (InsufficientCredits(needed=1, left=0), openai.APIStatusError),
        (OpsError(), openai.InternalServerError),
    ],
)
def test_errors_raise_what_the_sdk_has_for_them(
    problem: OpsError, raised: type[openai.APIStatusError]
) -> None:
    body = Responses().error(problem, "r1")
    with pytest.raises(raised) as caught:
        openai_client(body, problem.status).responses.create(**ASKED)
    assert caught.value.code == problem.code


def test_a_stream_that_breaks_off_raises_in_the_sdk_and_tells_what_was_used() -> None:
    made = writer()
    stream = made.feed([BEGAN, *said(Text("half a")).events])
    stream += made.fail(UpstreamBroken(model="ops/m", why="it left"), USAGE)
    last = check_order(stream)
    assert (last["status"], last["error"]["code"]) == ("failed", "server_error")
    assert last["output"][0]["status"] == "incomplete"
    with pytest.raises(openai.APIError, match="it left"):
        read(stream)


def test_an_error_in_a_stream_that_somebody_else_tells_is_one_event() -> None:
    """Of a provider's stream that passes untouched, the response is the provider's."""
    ((name, told),) = frames(writer().fail(UpstreamBroken(model="ops/m", why="it left"), USAGE))
    assert (name, told["code"]) == ("error", "upstream_broken")


def test_the_error_behind_a_stream_that_was_cut_is_one_event() -> None:
    """A limit that ends a stream is named after its clean end, which stays the end."""
    made = writer()
    stream = made.feed([BEGAN, *said(Text("half a")).events]) + made.cut(USAGE)
    check_order(stream)
    ((name, told),) = frames(made.fail(OpsError(), USAGE))
    assert (name, told["sequence_number"]) == ("error", len(frames(stream)))
