"""What Cohere answers (version 2): a message, whole or streamed, and what it bills. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

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
    count,
    inner,
    loaded,
    rows,
    text,
    usage_of,
)
from proxy.types import Usage

REASONS: Mapping[str, Reason] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR_TOXIC": "content_filter",
}
FAILURES = frozenset({"ERROR", "TIMEOUT", "ERROR_LIMIT"})


def read_usage(told: Object) -> Usage | None:
    """What is billed, which is less than the model's own count: its own words are not sold."""
    billed = inner(told, "billed_units") or inner(told, "tokens")
    came, went = count(billed, "input_tokens"), count(billed, "output_tokens")
    searched = count(billed, "search_units")
    if came is None and went is None and searched is None:
        return None
    cached = min(count(told, "cached_tokens") or 0, came or 0)
    tokens = {
        "input": (came or 0) - cached,
        "cache_read": cached,
        "output": went or 0,
        "searches": searched or 0,
    }
    return usage_of(tokens, billed)


def whole_answer(answer: bytes) -> Sequence[Event]:
    frame = loaded(answer)
    message = inner(frame, "message")
    if not message:
        said = text(frame, "message")
        return (Failed("error", said) if said else UNREADABLE,)
    found: list[Event] = [Began(text(frame, "id"), "")]
    plan = text(message, "tool_plan")
    for block in rows(message, "content"):
        found += _more(block)
    if plan:
        found.append(TextPiece(plan))
    for nth, call in enumerate(rows(message, "tool_calls")):
        function = inner(call, "function")
        found.append(ToolBegan(nth, text(call, "id"), text(function, "name")))
        found.append(ToolPiece(nth, text(function, "arguments") or "{}"))
    return (*found, *_end(frame))


def _more(content: Object) -> Iterator[Event]:
    thought, said = text(content, "thinking"), text(content, "text")
    if thought:
        yield ThinkingPiece(thought)
    if said:
        yield TextPiece(said)


def _end(told: Object) -> Iterator[Event]:
    usage = read_usage(inner(told, "usage"))
    if usage is not None:
        yield Counted(usage)
    reason = text(told, "finish_reason")
    if reason in FAILURES or text(told, "error"):
        yield Failed(reason or "error", text(told, "error") or f"The model ended with {reason}.")
    elif reason:
        yield Finished(REASONS.get(reason, "stop"), native=reason)


class AnswerReader:
    """A streamed message: contents, a plan, calls; one count at its end."""

    __slots__ = ("_calls", "_is_empty")

    def __init__(self) -> None:
        self._calls = -1  # the last one's number
        self._is_empty = True

    def feed(self, data: bytes) -> Iterable[Event]:
        frame = loaded(data)
        kind, delta = frame.get("type"), inner(frame, "delta")
        message = inner(delta, "message")
        if kind in ("content-delta", "content-start"):
            return _more(inner(message, "content"))
        if kind == "tool-call-delta":
            return self._argument(inner(inner(message, "tool_calls"), "function"))
        if kind == "tool-call-start":
            return self._call(inner(message, "tool_calls"))
        if kind == "tool-call-end":
            return self._end_call()
        if kind == "tool-plan-delta":
            plan = text(message, "tool_plan")
            return (TextPiece(plan),) if plan else ()
        if kind == "message-start":
            return (Began(text(frame, "id"), ""),)
        if kind == "message-end":
            return _end(delta)
        return self._other(frame)

    def end(self) -> Iterable[Event]:
        """A stream that ends without its reason was broken off."""
        return ()

    def _call(self, call: Object) -> Iterator[Event]:
        function = inner(call, "function")
        self._calls += 1
        self._is_empty = True
        yield ToolBegan(self._calls, text(call, "id"), text(function, "name"))
        yield from self._argument(function)

    def _argument(self, function: Object) -> Iterable[Event]:
        piece = text(function, "arguments")
        if not piece or self._calls < 0:
            return ()
        self._is_empty = False
        return (ToolPiece(self._calls, piece),)

    def _end_call(self) -> Iterable[Event]:
        if not self._is_empty or self._calls < 0:
            return ()
        self._is_empty = False
        return (ToolPiece(self._calls, "{}"),)

    def _other(self, frame: Object) -> Iterable[Event]:
        """An error has no type, and its message is a text."""
        said = text(frame, "message")
        return (Failed("error", said),) if said else ()
