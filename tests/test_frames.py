"""Streams that pass untouched in the newer dialects: usage, ends and errors are found, wherever the
network cuts, and not a byte is changed.
"""

from typing import Any

import orjson
import pytest

from bench.anthropic_wire import AnthropicWire
from bench.ask import Ask, content_of, costs_of
from bench.modes import parse
from bench.responses_wire import ResponsesWire
from proxy.costs.price import Price
from proxy.providers.catalog import ADAPTERS
from proxy.settings import Settings
from proxy.stream import sse
from proxy.stream.ways import Untouched
from proxy.types import Call, Deployment, Outcome
from proxy.upstream import Reply

PRICE = Price(1, {"input": 1, "output": 1}, 1_000_000)
PLACE = Deployment(1, "m", "p", "anthropic", "http://127.0.0.1:1", "m")
WIRES: dict[str, Any] = {"messages": AnthropicWire(), "responses": ResponsesWire()}
OWNERS = {"messages": "anthropic", "responses": "openai", "chat": "openai"}
DIALECTS = pytest.mark.parametrize("dialect", ["messages", "responses"])


class Answer:
    status = 200
    headers = ((b"content-type", b"text/event-stream"),)

    async def read(self) -> bytes | None:
        return None

    def close(self) -> None:
        """Nothing is open."""


def whole(dialect: str, model: str) -> list[bytes]:
    """A stream's events."""
    mode, ask = parse(model), Ask(model, True)
    wire = WIRES[dialect]
    said = wire.events(ask, mode, costs_of(ask, mode))
    pieces = [said.opening(), *said.pieces(content_of(mode)), said.ending(), wire.end_mark]
    return list(sse.events(b"".join(_unchunked(piece) for piece in pieces)))


def _unchunked(data: bytes) -> bytes:
    out = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        out, data = out + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return out


def way(dialect: str) -> tuple[Untouched, Outcome]:
    body, outcome = b"x" * 40, Outcome()
    fields: dict[str, Any] = {"stream": True}
    call = Call("rid", "/", body, fields, "m", True, True, None, None, dialect=dialect)
    reply = Reply(Answer(), ADAPTERS[OWNERS[dialect]], PLACE, Settings(), 0)
    return Untouched(reply, call, outcome, PRICE), outcome


@DIALECTS
def test_bytes_pass_untouched_wherever_they_are_cut(dialect: str) -> None:
    events = whole(dialect, "mock/ok?in=12&out=34&cached=5&bytes=300")
    stream = b"".join(events)
    for at in range(0, len(stream), 97):
        passing, outcome = way(dialect)
        out = passing.take(stream[:at]) + passing.take(stream[at:]) + passing.rest()
        assert out == stream
        assert passing.ending() == "usage_frame"
        assert passing.used().tokens == {"input": 7, "cache_read": 5, "output": 34}
        assert outcome.usage.source == "provider"
        # numbers of events grow by a digit, and nobody reads each of them
        assert 300 <= passing.count.content_bytes <= 305


@DIALECTS
def test_a_word_that_looks_like_a_mark_is_a_word(dialect: str) -> None:
    said = 'x_tokens" "error" .done" "message_stop" [DONE]'
    passing, _ = way(dialect)
    events = [event.replace(b"over the lazy", said.replace('"', '\\"').encode())
              for event in whole(dialect, "mock/ok?chunks=1")]  # fmt: skip
    for event in events:
        assert passing.take(event) == event
    assert passing.ending() == "usage_frame"


@pytest.mark.parametrize(("dialect", "told"), [("messages", 12), ("responses", 10)])
def test_what_broke_off_is_counted_by_what_went_out(dialect: str, told: int) -> None:
    """Of Anthropic's, what came in is known from the beginning on."""
    events = whole(dialect, "mock/ok?in=12&out=34&bytes=160&chunks=8")
    passing, _ = way(dialect)
    content = [event for event in events if b"delta" in event and b"message_delta" not in event]
    for event in events[: events.index(content[2]) + 1]:
        passing.take(event)
    used = passing.used()
    assert (used.source, dict(used.tokens)) == ("estimated", {"input": told, "output": 15})
    assert passing.count.content_bytes == 60


@DIALECTS
def test_a_cut_ends_what_is_open(dialect: str) -> None:
    events = whole(dialect, "mock/ok?chunks=8")
    passing, _ = way(dialect)
    for event in events[:5]:
        passing.take(event)
    last = [orjson.loads(sse.data(event)) for event in sse.events(passing.last())]
    if dialect == "messages":
        assert [one["type"] for one in last] == [
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
        assert last[1]["delta"]["stop_reason"] == "max_tokens"
    else:
        assert last[-1]["type"] == "response.incomplete"
        assert last[-1]["response"]["id"].startswith("resp_")


DEEP = b"[" * 400 + b"]" * 400


@pytest.mark.parametrize(
    ("dialect", "frame", "last"),
    [
        ("chat", b'{"id":%b,"choices":[{"delta":{"content":"x"}}]}', b'"finish_reason":"length"'),
        (
            "messages",
            b'{"type":"content_block_start","index":%b,"content_block":{}}',
            b"message_stop",
        ),
        (
            "responses",
            b'{"type":"response.output_item.added","response":{"id":%b}}',
            b"response.incomplete",
        ),
    ],
)
def test_a_cut_is_told_however_deep_a_frame_was(dialect: str, frame: bytes, last: bytes) -> None:
    """Deeper than what can be written anew."""
    passing, _ = way(dialect)
    passing.take(b"data: " + frame % DEEP + b"\n\n")
    assert last in passing.last()
