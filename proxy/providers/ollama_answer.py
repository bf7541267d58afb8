"""What Ollama answers: lines of JSON, of which the last tells the counts; a whole answer is such a
last line. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from proxy.dialects.events import (
    Began,
    Counted,
    Event,
    Failed,
    Finished,
    Reason,
    TextPiece,
    ThinkingPiece,
    ToolBegan,
    ToolPiece,
)
from proxy.providers.fields import (
    UNREADABLE,
    Object,
    as_json,
    count,
    inner,
    loaded,
    rows,
    text,
    usage_of,
)
from proxy.providers.minted import minted
from proxy.types import Usage

REASONS: Mapping[str, Reason] = {"stop": "stop", "length": "length"}


def read_usage(told: Object) -> Usage | None:
    """Thoughts lie inside what went out; older servers leave out a prompt that they remembered."""
    came, went = count(told, "prompt_eval_count"), count(told, "eval_count")
    if came is None and went is None:
        return None
    counts = {name: told.get(name) for name in ("prompt_eval_count", "eval_count")}
    usage = usage_of({"input": came or 0, "output": went or 0}, counts)
    return usage if came is not None else replace(usage, doubt="input_missing")


def whole_answer(answer: bytes) -> Sequence[Event]:
    frame = loaded(answer)
    if not frame.keys() & {"message", "error"}:
        return (UNREADABLE,)
    return tuple(AnswerReader().feed(answer))


class AnswerReader:
    """Lines with more of the message, then one with the end."""

    __slots__ = ("_calls", "_is_begun")

    def __init__(self) -> None:
        self._calls = 0
        self._is_begun = False

    def feed(self, data: bytes) -> Iterable[Event]:
        frame = loaded(data)
        if "error" in frame:
            said = text(frame, "error") or text(inner(frame, "error"), "message")
            return (Failed("error", said or "no message"),)
        found: list[Event] = []
        message = inner(frame, "message")
        if not self._is_begun and message:
            self._is_begun = True
            found.append(Began("", text(frame, "model")))
        thought, said = text(message, "thinking"), text(message, "content")
        if thought:
            found.append(ThinkingPiece(thought))
        if said:
            found.append(TextPiece(said))
        for call in rows(message, "tool_calls"):
            found += self._call(call)
        if frame.get("done") is True:
            found += self._end(frame)
        return found

    def end(self) -> Iterable[Event]:
        """A stream that ends without its last line was broken off."""
        return ()

    def _call(self, call: Object) -> Iterator[Event]:
        function = inner(call, "function")
        yield ToolBegan(self._calls, text(call, "id") or minted(), text(function, "name"))
        yield ToolPiece(self._calls, as_json(inner(function, "arguments")))
        self._calls += 1

    def _end(self, frame: Object) -> Iterator[Event]:
        usage = read_usage(frame)
        if usage is not None:
            yield Counted(usage)
        native = text(frame, "done_reason")
        reason = REASONS.get(native, "stop")
        yield Finished("tool_calls" if self._calls and reason == "stop" else reason, native=native)
