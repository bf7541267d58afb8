"""The texts of a request and of its answer, to be counted: each part whole, because the pieces of a
stream end in the middle of tokens. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import orjson

from proxy.dialects.clients import CLIENTS
from proxy.dialects.counting import CountText, input_tokens
from proxy.errors import OpsError
from proxy.stream import sse

Form = Literal["stream", "whole", "text"]  # events, one answer, or its words alone
Place = tuple[str | int, ...]  # of a part: pieces of one place are one text

#: Names of values that no model has said.
_UNSAID = frozenset(
    {
        *("role", "finish_reason", "native_finish_reason", "stop_reason", "id", "call_id", "type"),
        *("object", "index", "status", "logprobs", "annotations", "signature", "phase"),
        *("encrypted_content", "reasoning_details", "citations"),
    }
)
#: Names of values of a request that go in, where it is no conversation.
_SENT = ("messages", "system", "instructions", "input", "prompt", "suffix", "tools")
_ANSWER = {"messages": "content", "responses": "output"}  # of others: choices


def tokens_in(dialect: str, fields: Mapping[str, Any], count: CountText) -> int:
    """What goes in, with what stands around each turn."""
    if dialect in CLIENTS:
        try:
            return input_tokens(CLIENTS[dialect].read(fields), count)
        except OpsError:
            pass  # the provider understood what we have no word for
    return sum(_sent(fields.get(name), count) for name in _SENT)


def tokens_out(dialect: str, form: Form, answer: bytes, count: CountText) -> int:
    if form == "text":
        return count(answer.decode(errors="replace"))
    if form == "whole":
        return _sum(_leaves(_object(answer).get(_ANSWER.get(dialect, "choices")), ()), count)
    frames = (_object(sse.data(event)) for event in sse.events(answer))
    said = _DELTAS.get(dialect, _choices)
    return _sum((piece for frame in frames for piece in said(frame)), count)


def _sum(pieces: Iterable[tuple[Place, str]], count: CountText) -> int:
    parts: dict[Place, list[str]] = {}
    for place, text in pieces:
        parts.setdefault(place, []).append(text)
    return sum(count("".join(texts)) for texts in parts.values())


def _sent(value: Any, count: CountText) -> int:
    if isinstance(value, str):
        return count(value)
    if isinstance(value, dict):
        return sum(_sent(inner, count) for name, inner in value.items() if name not in _UNSAID)
    if isinstance(value, list):
        return sum(_sent(inner, count) for inner in value)
    return int(type(value) is int)  # a token, as completions and embeddings take them


def _leaves(value: Any, place: Place) -> Iterator[tuple[Place, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name == "input":  # arguments of a tool, as JSON that was said
                yield (*place, name), orjson.dumps(inner).decode()
            elif name not in _UNSAID:
                yield from _leaves(inner, (*place, name))
    elif isinstance(value, list):
        for nth, inner in enumerate(value):
            number = inner.get("index", nth) if isinstance(inner, dict) else nth
            yield from _leaves(inner, (*place, number))


# Frames of streams ------------------------------------------------------------------------


def _choices(frame: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    return _leaves(frame.get("choices"), ())


def _blocks(frame: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    """Of Anthropic's messages."""
    place: Place = (frame.get("index", 0),)
    if frame.get("type") == "content_block_delta":
        yield from _leaves(frame.get("delta"), place)
    elif frame.get("type") == "content_block_start":
        block = frame.get("content_block")
        if isinstance(block, dict) and isinstance(block.get("name"), str):
            yield (*place, "name"), block["name"]


def _deltas(frame: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    """Of OpenAI's responses, whose other frames say the same again."""
    kind, delta, item = str(frame.get("type")), frame.get("delta"), frame.get("item")
    place: Place = (kind, frame.get("output_index", 0))
    if kind.endswith(".delta") and isinstance(delta, str):
        yield (*place, frame.get("content_index", 0), frame.get("summary_index", 0)), delta
    elif kind == "response.output_item.added" and isinstance(item, dict):
        yield (*place, "name"), str(item.get("name") or "")


_DELTAS = {"messages": _blocks, "responses": _deltas}


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        found = orjson.loads(data or b"null")
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
