"""The texts that are counted, of requests and of answers, in each dialect."""

from typing import Any

import orjson
import pytest

from proxy.costs.texts import tokens_in, tokens_out
from proxy.dialects.counting import AROUND


def words(text: str) -> int:
    return len(text.split())


def frames(*said: dict[str, Any]) -> bytes:
    return b": hello\n\n" + b"".join(b"data: " + orjson.dumps(one) + b"\n\n" for one in said)


def choice(index: int = 0, **delta: Any) -> dict[str, Any]:
    return {
        "id": "not said",
        "choices": [{"index": index, "delta": delta, "finish_reason": "not said"}],
    }


def call(index: int, **function: str) -> dict[str, Any]:
    return choice(tool_calls=[{"index": index, "id": "not said", "function": function}])


def block(index: int, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "x", **delta}}


def out(kind: str, index: int, delta: str) -> dict[str, Any]:
    return {"type": f"response.{kind}.delta", "output_index": index, "delta": delta}


TOOL = {"name": "find", "type": "tool_use", "id": "t", "input": {}}
STREAMS: list[tuple[str, bytes, int]] = [
    ("chat", frames(choice(role="not said", content="one tw"), choice(content="o three")), 3),
    ("chat", frames(choice(0, content="one"), choice(1, content="two"), choice(0, content="!")), 2),
    ("chat", frames(choice(reasoning_content="one two"), choice(content="three")), 3),
    ("chat", frames(call(0, name="find", arguments='{"a":'), call(0, arguments=' "b c"}')), 4),
    ("chat", frames({"choices": [], "usage": {"note": "not said"}}) + b"data: [DONE]\n\n", 0),
    ("chat", b"data: broken\n\ndata: 7\n\n" + frames(choice(content="one")), 1),
    ("completions", frames({"choices": [{"text": "one tw"}]}, {"choices": [{"text": "o"}]}), 2),
    ("messages", frames(block(0, text="one tw"), block(0, text="o"), block(1, thinking="x")), 3),
    ("messages", frames({"type": "message_start", "message": {"content": "not said"}}), 0),
    (
        "messages",
        frames({"type": "content_block_start", "index": 0, "content_block": TOOL}),
        1,
    ),
    ("messages", frames(block(0, signature="not said"), block(0, partial_json="{} ")), 1),
    ("responses", frames(out("output_text", 0, "one tw"), out("output_text", 0, "o")), 2),
    ("responses", frames({"type": "response.output_text.done", "text": "not said again"}), 0),
    (
        "responses",
        frames({"type": "response.output_item.added", "item": {"name": "find"}}),
        1,
    ),
]


@pytest.mark.parametrize(("dialect", "stream", "expected"), STREAMS)
def test_pieces_of_a_stream_are_one_text(dialect: str, stream: bytes, expected: int) -> None:
    """Whichever choice, block or call they are of; a token is not cut where a frame is."""
    assert tokens_out(dialect, "stream", stream, words) == expected


ANSWERS: list[tuple[str, Any, int]] = [
    ("chat", {"choices": [{"message": {"role": "x y", "content": "one two"}}], "id": "x"}, 2),
    ("chat", {"choices": [{"message": {"content": None, "refusal": "no"}, "logprobs": "x"}]}, 1),
    ("completions", {"choices": [{"text": "one"}, {"text": "two three"}]}, 3),
    ("messages", {"content": [{"type": "text", "text": "one two"}]}, 2),
    ("messages", {"content": [{"type": "x", "name": "f", "input": {"a": "b c"}}]}, 3),
    ("responses", {"output": [{"content": [{"type": "x", "text": "one two"}]}]}, 2),
    ("chat", [], 0),
]


@pytest.mark.parametrize(("dialect", "answer", "expected"), ANSWERS)
def test_of_an_answer_what_was_said_counts(dialect: str, answer: Any, expected: int) -> None:
    assert tokens_out(dialect, "whole", orjson.dumps(answer), words) == expected


def test_words_that_are_known_are_counted_as_they_are() -> None:
    assert tokens_out("chat", "text", b"one two", words) == 2


@pytest.mark.parametrize(
    ("dialect", "fields", "expected"),
    [
        ("chat", {"messages": [{"role": "user", "content": "one two"}]}, AROUND + 2),
        ("responses", {"input": "one two"}, AROUND + 2),
        (
            "messages",
            {"max_tokens": 9, "messages": [{"role": "user", "content": "one"}], "system": "two"},
            2 * AROUND + 2,
        ),
        ("chat", {"messages": "no turns", "model": "not sent"}, 2),
        ("completions", {"prompt": ["one", "two three"], "suffix": "four"}, 4),
        ("completions", {"prompt": [11, 12, 13], "max_tokens": 4}, 3),
        ("embeddings", {"input": [[11, 12], [13]]}, 3),
    ],
)
def test_what_goes_in_is_counted_with_what_stands_around_it(
    dialect: str, fields: dict[str, Any], expected: int
) -> None:
    """Also where we cannot read it as a conversation, and where it comes as tokens."""
    assert tokens_in(dialect, fields, words) == expected
