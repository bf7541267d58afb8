"""Answers in Anthropic's Messages dialect, as its own SDK reads them."""

from typing import Any

import anthropic
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.dialects.conversation import Refusal, Text, Thinking, ToolCall
from proxy.dialects.events import Counted, Finished, ThinkingPiece, ToolBegan, ToolPiece
from proxy.dialects.messages import Messages
from proxy.dialects.messages_answer import MessagesWriter
from proxy.errors import (
    InsufficientCredits,
    ModelNotFound,
    NotReady,
    OpsError,
    RateLimited,
    UpstreamBroken,
    UpstreamTimeout,
)
from proxy.types import NO_USAGE, Usage
from tests.words_stage import (
    BEGAN,
    USAGE,
    Answer,
    answers,
    anthropic_client,
    frames,
    said,
)

THINKS = {"thinking": {"type": "enabled", "budget_tokens": 2000}}
ASKED: dict[str, Any] = {
    "model": "m",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "hi"}],
}
CALL = ToolCall("call_1", "weather", '{"city":"Oslo"}')
SECOND = ToolCall("call_2", "time", "{}")


def writer(**fields: Any) -> MessagesWriter:
    return Messages().writer("r1", "ops/m", {**THINKS, **fields})


def streamed(answer: Answer, **fields: Any) -> bytes:
    """Event by event, as slow providers answer."""
    made = writer(**fields)
    return b"".join(made.feed([event]) for event in answer.whole) + made.end(USAGE)


def read(stream: bytes) -> anthropic.types.Message:
    with anthropic_client(stream).messages.stream(**ASKED) as events:
        return events.get_final_message()


def content_of(message: anthropic.types.Message) -> list[dict[str, Any]]:
    return [block.model_dump(exclude_none=True) for block in message.content]


def check_order(stream: bytes, ends: bool = True) -> None:
    """message_start, blocks one after the other from 0, message_delta, message_stop."""
    told = frames(stream)
    assert [name for name, _ in told] == [data["type"] for _, data in told]
    names = [name for name, _ in told]
    assert names[0] == "message_start"
    if ends:
        assert names[-2:] == ["message_delta", "message_stop"]
        told = told[:-2]
    open_block, blocks = None, 0
    for name, data in told[1:]:
        if name == "content_block_start":
            assert (open_block, data["index"]) == (None, blocks)
            open_block, blocks = blocks, blocks + 1
        else:
            assert name in ("content_block_delta", "content_block_stop")
            assert data["index"] == open_block
            open_block = open_block if name == "content_block_delta" else None
    assert open_block is None or not ends


# Streams ------------------------------------------------------------------------------


def test_text_and_parallel_calls_come_in_blocks_of_their_own() -> None:
    stream = streamed(said(Text("Let me look."), CALL, SECOND, reason="tool_calls"))
    check_order(stream)
    message = read(stream)
    assert (message.id, message.model, message.role) == ("msg_r1", "ops/m", "assistant")
    assert message.stop_reason == "tool_use"
    assert content_of(message) == [
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Oslo"}},
        {"type": "tool_use", "id": "call_2", "name": "time", "input": {}},
    ]


def test_usage_is_told_without_what_a_cache_had_and_with_it_beside() -> None:
    """Classes are disjoint here, and so they are at Anthropic: nothing is in two counts."""
    usage = read(streamed(said(Text("hi")))).usage
    assert (usage.input_tokens, usage.output_tokens) == (11, 25)
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (4, 5)
    assert usage.output_tokens_details is not None
    assert usage.output_tokens_details.thinking_tokens == 5
    last = frames(streamed(said(Text("hi"))))[-2][1]["usage"]
    assert last["cache_creation"] == {
        "ephemeral_5m_input_tokens": 2,
        "ephemeral_1h_input_tokens": 3,
    }


def test_what_is_known_when_an_answer_begins_is_told_at_its_start() -> None:
    made = writer()
    start = frames(made.feed([BEGAN, Counted(Usage({"input": 7}))]))
    assert [name for name, _ in start] == ["message_start"]
    assert start[0][1]["message"]["usage"]["input_tokens"] == 7


def test_thoughts_come_signed_and_go_back_unchanged() -> None:
    answer = said(Thinking("hm, so", signature="s1"), Thinking("", redacted="zz"), Text("4"))
    assert content_of(read(streamed(answer))) == [
        {"type": "thinking", "thinking": "hm, so", "signature": "s1"},
        {"type": "redacted_thinking", "data": "zz"},
        {"type": "text", "text": "4"},
    ]


def test_thoughts_that_are_to_be_omitted_leave_their_proof() -> None:
    answer = said(Thinking("hm, so", signature="s1"), Text("4"))
    hidden = {"type": "adaptive", "display": "omitted"}
    assert content_of(read(streamed(answer, thinking=hidden)))[0] == {
        "type": "thinking",
        "thinking": "",
        "signature": "s1",
    }


@pytest.mark.parametrize("thinking", [None, {"type": "disabled"}])
def test_who_did_not_ask_for_thoughts_finds_the_text_first(thinking: Any) -> None:
    stream = streamed(said(Thinking("hm", signature="s"), Text("4")), thinking=thinking)
    check_order(stream)
    assert content_of(read(stream)) == [{"type": "text", "text": "4"}]


@pytest.mark.parametrize(
    ("answer", "reason", "sequence"),
    [
        (said(Text("a")), "end_turn", None),
        (said(Text("a"), reason="length"), "max_tokens", None),
        (said(Text("a"), reason="content_filter"), "refusal", None),
        (said(Refusal("no")), "refusal", None),
        (said(CALL), "tool_use", None),  # some say stop where a call was asked for by name
        (Answer((), (), Finished("stop", stop_sequence="END")), "stop_sequence", "END"),
    ],
)
def test_why_it_stopped(answer: Answer, reason: str, sequence: str | None) -> None:
    message = read(streamed(answer))
    assert (message.stop_reason, message.stop_sequence) == (reason, sequence)
    whole = orjson.loads(writer().whole(answer.whole, USAGE))
    assert (whole["stop_reason"], whole["stop_sequence"]) == (reason, sequence)


def test_a_call_keeps_its_thoughts_proof_in_its_id() -> None:
    """Clients send ids back as they are; fields that they do not know they drop."""
    signed = ToolCall("call_1", "weather", "{}", signature="gémini+/=")
    (block,) = content_of(read(streamed(said(signed))))
    assert block["id"].isascii()
    assert block["id"].replace("_", "").replace("-", "").isalnum()
    asked = {**ASKED, "messages": [{"role": "assistant", "content": [block]}]}
    assert Messages().read(asked).messages[0].parts == (signed,)


def test_pieces_of_a_call_that_is_not_the_last_end_the_answer() -> None:
    made = writer()
    made.feed([BEGAN, ToolBegan(0, "a", "f"), ToolBegan(1, "b", "f")])
    with pytest.raises(UpstreamBroken, match="mixed"):
        made.feed([ToolPiece(0, "{}")])


@settings(deadline=None, max_examples=40)
@given(answers)
def test_every_answer_is_a_stream_that_the_sdk_reads_as_the_whole(answer: Answer) -> None:
    stream = streamed(answer)
    check_order(stream)
    message = read(stream)
    whole = orjson.loads(writer().whole(answer.whole, USAGE))
    assert content_of(message) == whole["content"]
    assert message.stop_reason == whole["stop_reason"]
    told = frames(stream)[-2][1]["usage"]
    assert told == whole["usage"]


@settings(deadline=None, max_examples=40)
@given(answers)
def test_what_was_answered_reads_back_as_what_was_said(answer: Answer) -> None:
    whole = orjson.loads(writer().whole(answer.whole, USAGE))
    turn = {"role": "assistant", "content": whole["content"]}
    (message,) = Messages().read({**ASKED, "messages": [turn]}).messages
    wanted = tuple(Text(p.text) if isinstance(p, Refusal) else p for p in answer.parts)
    assert [_plain(part) for part in message.parts] == [_plain(part) for part in wanted]


@settings(deadline=None, max_examples=40)
@given(answers, st.data())
def test_a_stream_that_is_cut_anywhere_ends_cleanly(answer: Answer, data: st.DataObject) -> None:
    made = writer()
    seen = data.draw(st.integers(0, len(answer.events)))
    stream = made.feed([BEGAN, *answer.events[:seen]]) + made.cut(USAGE)
    check_order(stream)
    assert read(stream).stop_reason == "max_tokens"


def _plain(part: Any) -> Any:
    if isinstance(part, ToolCall):
        return part.id, part.name, orjson.loads(part.arguments), part.signature
    return part


# Whole answers ------------------------------------------------------------------------


def test_arguments_that_were_cut_off_are_handed_over_as_what_they_are() -> None:
    cut = said(ToolCall("c", "f", '{"city":"Os'), reason="length")
    (block,) = orjson.loads(writer().whole(cut.whole, USAGE))["content"]
    assert block["input"] == {"INVALID_JSON": '{"city":"Os'}


def test_an_answer_without_a_word_is_a_message_without_content() -> None:
    whole = writer().whole([BEGAN, Finished("stop")], NO_USAGE)
    message = anthropic_client(whole).messages.create(**ASKED)
    assert (message.content, message.usage.output_tokens) == ([], 0)


def test_unsigned_thoughts_are_thoughts_too() -> None:
    whole = orjson.loads(writer().whole([BEGAN, ThinkingPiece("hm"), Finished("stop")], USAGE))
    assert whole["content"] == [{"type": "thinking", "thinking": "hm", "signature": ""}]


# Errors -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problem", "kind", "raised"),
    [
        (ModelNotFound(model="x"), "not_found_error", anthropic.NotFoundError),
        (InsufficientCredits(needed=1, left=0), "billing_error", anthropic.PaymentRequiredError),
        (
            RateLimited(owner="key", limit=1, what="requests", seconds=60, left=0),
            "rate_limit_error",
            anthropic.RateLimitError,
        ),
        (NotReady(), "overloaded_error", anthropic.ServiceUnavailableError),
        (
            UpstreamTimeout(model="m", phase="idle"),
            "timeout_error",
            anthropic.GatewayTimeoutError,
        ),
        (OpsError(), "api_error", anthropic.InternalServerError),
    ],
)
def test_errors_raise_what_the_sdk_has_for_them(
    problem: OpsError, kind: str, raised: type[anthropic.APIStatusError]
) -> None:
    body = Messages().error(problem, "r1")
    with pytest.raises(raised) as caught:
        anthropic_client(body, problem.status).messages.create(**ASKED)
    assert (caught.value.type, caught.value.error_code) == (kind, problem.code)
    assert caught.value.api_message == problem.sentence


def test_a_stream_that_breaks_off_raises_in_the_sdk_with_what_was_used() -> None:
    made = writer()
    stream = made.feed([BEGAN, *said(Text("half a")).events])
    stream += made.fail(UpstreamBroken(model="ops/m", why="it left"), USAGE)
    check_order(stream[: stream.index(b"event: error")], ends=False)
    name, told = frames(stream)[-1]
    assert (name, told["error"]["type"], told["usage"]["output_tokens"]) == (
        "error",
        "api_error",
        25,
    )
    with pytest.raises(anthropic.APIStatusError, match="it left"):
        read(stream)
