"""What a stream's frames say in the dialects that pass through untouched: which are worth a look,
and of those which tell usage, an error or the end. Pure.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import orjson

from proxy.costs.price import SIDES, tokens_in
from proxy.costs.pricing import NOTHING
from proxy.masks import mask_bytes
from proxy.providers.fields import count, inner
from proxy.providers.hosted import unit_of
from proxy.stream import sse
from proxy.stream.delivered import Delivered, Silent, Text
from proxy.types import Call, Outcome, Usage

DONE = b"[DONE]"
ERROR = b'"error"'
# the names of all counts end so; `"usage":null` stands in every chunk of a stream and tells nothing
COUNTS = b'_tokens"'

ReadUsage = Callable[[bytes], Usage | None]


class Frames(Protocol):
    """One stream's; stateful."""

    count: Delivered
    marks: tuple[bytes, bytes, bytes, bytes]  # without one of them a frame is content

    def look(self, event: bytes, data: bytes) -> bool:
        """Reads an event with a mark; False where its client has not asked for it."""

    def last(self) -> bytes:
        """Frames of ours that end a stream where its credits ended."""

    @property
    def told(self) -> Mapping[str, Any]:
        """What a whole answer would have said by which images and seconds are billed."""


def frames_of(call: Call, usage: ReadUsage, outcome: Outcome) -> Frames:
    typed = _TYPED.get(call.dialect)
    if typed is not None:
        return TypedFrames(typed, usage, outcome)
    return ChoiceFrames(call, usage, outcome)


class ChoiceFrames:
    """OpenAI's chat completions, and legacy ones."""

    told: Mapping[str, Any] = NOTHING
    marks = (COUNTS, ERROR, DONE, DONE)

    def __init__(self, call: Call, usage: ReadUsage, outcome: Outcome) -> None:
        self.count = Delivered()
        self._usage, self._outcome = usage, outcome
        self._hides_usage = not call.usage_wanted

    def look(self, event: bytes, data: bytes) -> bool:
        if data == DONE:
            self.count.done = True
            return True
        if COUNTS in data and (usage := self._usage(data)):
            self._outcome.usage = usage
            if self._hides_usage and b'"choices":[]' in data.replace(b" ", b""):
                return False
        if ERROR in data and is_error(data):
            self.count.error = True
        else:
            self.count.add(event)
        return True

    def last(self) -> bytes:
        first = self.count.first
        text = first.get("object") == "text_completion"
        part: Mapping[str, Any] = {"text": ""} if text else {"delta": {}}
        names = ("id", "object", "created", "model")
        kept = {name: first[name] for name in names if isinstance(first.get(name), str | int)}
        choice = {"index": 0, **part, "finish_reason": "length"}
        return b"data: " + orjson.dumps({**kept, "choices": [choice]}) + b"\n\n"


class Typed(NamedTuple):
    """A dialect whose frames each tell their type."""

    marks: tuple[bytes, bytes, bytes, bytes]
    text: Text
    begins: str  # the one that tells what came in, before the end
    ends: frozenset[str]
    fails: frozenset[str]
    last: Callable[["TypedFrames"], bytes]
    ran: str = ""  # the one that tells of a tool that the provider has run
    part: str = ""  # and where in it


class TypedFrames:
    """Anthropic's messages, OpenAI's responses, and streams of sound and images."""

    def __init__(self, typed: Typed, usage: ReadUsage, outcome: Outcome) -> None:
        self.count = Silent() if typed.text is _no_bytes else Delivered(typed.text)
        self.marks = typed.marks
        self.open: Mapping[str, Any] | None = None  # the part that has begun
        self._ends: list[Mapping[str, Any]] = []  # what each of the last frames tells of usage
        self._typed, self._usage, self._outcome = typed, usage, outcome

    def look(self, event: bytes, data: bytes) -> bool:
        frame = _read(data)
        kind, typed, count = str(frame.get("type")), self._typed, self.count
        if typed.text(frame) >= 0:
            count.add(event)  # a word that looks like a mark
            return True
        count.events += kind not in typed.fails  # an error alone is no answer
        count.first = count.first or dict(frame)
        if kind.endswith("block_start"):
            self.open = frame
        elif kind.endswith("block_stop"):
            self.open = None
        if COUNTS in data and (usage := self._usage(data)):
            self._counted(kind, usage)
        elif kind == typed.ran and (unit := unit_of(inner(frame, typed.part))):
            count.told = {**count.told, unit: count.told.get(unit, 0) + 1}
        if kind in typed.ends:
            count.done = True
            self._ends.append(inner(frame, "usage"))
        count.error = count.error or kind in typed.fails
        return True

    @property
    def told(self) -> Mapping[str, Any]:
        """Of an image of which a part went out, and of no end, nothing is told."""
        usage = self._ends[-1] if self._ends else NOTHING
        is_part = self.count.events and not self._ends
        return {"usage": usage} if is_part else {"usage": usage, "data": self._ends}

    def last(self) -> bytes:
        return self._typed.last(self)

    def _counted(self, kind: str, usage: Usage) -> None:
        count = self.count
        if kind == self._typed.begins:
            count.told = _came_in(usage.tokens)
            return
        told, before = usage.tokens, _came_in(count.told)
        if tokens_in(told) in (0, tokens_in(before)):  # told in more detail at the beginning
            told = {**before, **{n: c for n, c in told.items() if SIDES.get(n) != "input"}}
        self._outcome.usage = replace(usage, tokens=told)


def _came_in(tokens: Mapping[str, int]) -> dict[str, int]:
    return {name: number for name, number in tokens.items() if SIDES.get(name) == "input"}


def is_error(data: bytes) -> bool:
    return bool(_read(data).get("error"))


def _read(data: bytes) -> Mapping[str, Any]:
    try:
        frame = orjson.loads(data)
    except orjson.JSONDecodeError:
        return NOTHING
    return frame if isinstance(frame, dict) else NOTHING


# Dialects of types ---------------------------------------------------------------------


def _block_bytes(frame: Mapping[str, Any]) -> int:
    """Of Anthropic's deltas."""
    delta = frame.get("delta")
    if frame.get("type") != "content_block_delta" or not isinstance(delta, dict):
        return -1
    return sum(len(v.encode()) for n, v in delta.items() if isinstance(v, str) and n in _SAID)


_SAID = ("text", "partial_json", "thinking")


def _delta_bytes(frame: Mapping[str, Any]) -> int:
    """Of OpenAI's newer streams."""
    delta = frame.get("delta")
    return len(delta.encode()) if isinstance(delta, str) else -1


def _no_bytes(frame: Mapping[str, Any]) -> int:
    return -1


def _message_end(frames: TypedFrames) -> bytes:
    """The part that is open is closed, and the message ends at its maximum."""
    end: list[tuple[str, Mapping[str, Any]]] = []
    if frames.open is not None:
        end.append(("content_block_stop", {"index": count(frames.open, "index") or 0}))
    out = -(-frames.count.content_bytes // 4)
    delta = {"stop_reason": "max_tokens", "stop_sequence": None}
    end.append(("message_delta", {"delta": delta, "usage": {"output_tokens": out}}))
    end.append(("message_stop", {}))
    return b"".join(_event(kind, fields) for kind, fields in end)


def _response_end(frames: TypedFrames) -> bytes:
    response = frames.count.first.get("response")
    kept = response if isinstance(response, dict) else {}
    why = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    nth = frames.count.events
    try:
        return _incomplete(nth, {**kept, **why})
    except orjson.JSONEncodeError:  # deeper than can be written
        return _incomplete(nth, why)


def _incomplete(nth: int, response: Mapping[str, Any]) -> bytes:
    return _event("response.incomplete", {"sequence_number": nth, "response": response})


def _nothing(frames: TypedFrames) -> bytes:
    return b""


def _event(kind: str, fields: Mapping[str, Any]) -> bytes:
    return (
        f"event: {kind}\n".encode() + b"data: " + orjson.dumps({"type": kind, **fields}) + b"\n\n"
    )


def _media(*ends: str) -> Typed:
    marks = (COUNTS, ERROR, b'.done"', b'.completed"')
    return Typed(marks, _delta_bytes, "", frozenset(ends), frozenset({"error"}), _nothing)


_SOUND = _media("transcript.text.done")
_TYPED: Mapping[str, Typed] = {
    "messages": Typed(
        (COUNTS, ERROR, b'"content_block_st', b'"message_stop"'),
        _block_bytes,
        "message_start",
        frozenset({"message_stop"}),
        frozenset({"error"}),
        _message_end,
        "content_block_start",
        "content_block",
    ),
    "responses": Typed(
        (COUNTS, ERROR, b'.done"', b'.added"'),
        _delta_bytes,
        "",
        frozenset({"response.completed", "response.incomplete", "response.failed"}),
        frozenset({"error", "response.failed"}),
        _response_end,
        "response.output_item.done",
        "item",
    ),
    "transcription": _SOUND,
    "translation": _SOUND,
    "speech": _media("speech.audio.done")._replace(text=_no_bytes),
    "images": _media("image_generation.completed")._replace(text=_no_bytes),
}


def before_marks(block: bytes, marks: tuple[bytes, ...]) -> int:
    """How much of a block lies in events before the first that is worth reading."""
    found = [at for mark in marks if (at := block.find(mark)) >= 0]
    end = block.rfind(b"\n\n", 0, min(found, default=0))
    return end + 2 if end >= 0 else 0


def kept(block: bytes, frames: Frames, secret: str) -> bytes:
    """The block without what its client has not asked for, nor in errors anybody's key."""
    plain = before_marks(block, frames.marks)
    if plain:
        frames.count.add(block[:plain])
    parts = [block[:plain]]
    for event in sse.events(block[plain:]):
        data = sse.data(event)
        if not data or frames.look(event, data):
            parts.append(mask_bytes(event, secret) if frames.count.error else event)
    return b"".join(parts)
