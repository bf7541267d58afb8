"""What Anthropic answers: a message, whole or streamed, and what it used. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from proxy.dialects.events import (
    Began,
    Counted,
    Event,
    Failed,
    Finished,
    Reason,
    RefusalPiece,
    TextPiece,
    ThinkingPiece,
    ThinkingSigned,
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
from proxy.types import Usage

REASONS: Mapping[str, Reason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "compaction": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def read_usage(usage: Object) -> Usage | None:
    """Here the input does not include what was read from a cache or written to one."""
    came, went = count(usage, "input_tokens"), count(usage, "output_tokens")
    if came is None and went is None:
        return None
    went = went or 0
    thought = min(count(inner(usage, "output_tokens_details"), "thinking_tokens") or 0, went)
    written, written_1h = _written(usage)
    tools = inner(usage, "server_tool_use")
    tokens = {
        "input": came or 0,
        "cache_read": count(usage, "cache_read_input_tokens") or 0,
        "cache_write": written - written_1h,
        "cache_write_1h": written_1h,
        "output": went - thought,
        "reasoning": thought,
        "web_searches": count(tools, "web_search_requests") or 0,
        "code_runs": count(tools, "code_execution_requests") or 0,
    }
    return usage_of(tokens, usage)


def _written(usage: Object) -> tuple[int, int]:
    """To caches, in all and to those that last an hour; the sum is the provider's where it tells
    one."""
    parts = inner(usage, "cache_creation")
    short = count(parts, "ephemeral_5m_input_tokens") or 0
    long = count(parts, "ephemeral_1h_input_tokens") or 0
    told = count(usage, "cache_creation_input_tokens")
    whole = short + long if told is None else told
    return whole, min(long, whole)


def whole_answer(answer: bytes) -> Sequence[Event]:
    message = loaded(answer)
    if message.get("type") == "error":
        return (_failed(message),)
    if not isinstance(message.get("content"), list):
        return (UNREADABLE,)
    found: list[Event] = [Began(text(message, "id"), text(message, "model"))]
    calls = 0
    for block in rows(message, "content"):
        kind = block.get("type")
        found += _of_block(block)
        if kind == "tool_use":
            found.append(ToolBegan(calls, text(block, "id"), text(block, "name")))
            found.append(ToolPiece(calls, as_json(inner(block, "input"))))
            calls += 1
        elif kind == "thinking":
            found.append(ThinkingSigned(signature=text(block, "signature")))
    usage = read_usage(inner(message, "usage"))
    if usage is not None:
        found.append(Counted(usage))
    return (*found, *_finished(message))


def _of_block(block: Object) -> Iterator[Event]:
    """What a block says at its beginning; of a whole answer that is all that it says."""
    kind = block.get("type")
    if kind == "text" and block.get("text"):
        yield TextPiece(text(block, "text"))
    elif kind == "thinking" and block.get("thinking"):
        yield ThinkingPiece(text(block, "thinking"))
    elif kind == "redacted_thinking":
        yield ThinkingSigned(redacted=text(block, "data"))


def _finished(told: Object) -> Iterator[Event]:
    reason = text(told, "stop_reason")
    if not reason:
        return
    explained = text(inner(told, "stop_details"), "explanation")
    if reason == "refusal" and explained:
        yield RefusalPiece(explained)
    yield Finished(REASONS.get(reason, "stop"), text(told, "stop_sequence"), reason)


def _failed(frame: Object) -> Failed:
    error = inner(frame, "error")
    return Failed(text(error, "type") or "error", text(error, "message") or "no message")


class AnswerReader:
    """A streamed message: blocks that begin, grow and end; counts that replace earlier ones."""

    __slots__ = ("_calls", "_is_empty", "_kind", "_signature", "_start", "_usage")

    def __init__(self) -> None:
        self._usage: dict[str, Any] = {}
        self._calls = -1  # the last one's number
        # of the block that is open
        self._kind = ""
        self._start: Object = {}
        self._is_empty = True
        self._signature = ""

    def feed(self, data: bytes) -> Iterable[Event]:
        frame = loaded(data)
        kind = frame.get("type")
        if kind == "content_block_delta":
            return self._more(inner(frame, "delta"))
        if kind == "content_block_start":
            return self._begin(inner(frame, "content_block"))
        if kind == "content_block_stop":
            return self._end_block()
        if kind == "message_start":
            return self._began(inner(frame, "message"))
        if kind == "message_delta":
            return self._ended(frame)
        return (_failed(frame),) if kind == "error" else ()

    def end(self) -> Iterable[Event]:
        """A stream that ends without its reason was broken off."""
        return ()

    def _began(self, message: Object) -> Iterator[Event]:
        yield Began(text(message, "id"), text(message, "model"))
        yield from self._counted(inner(message, "usage"), partial=True)

    def _begin(self, block: Object) -> Iterable[Event]:
        self._kind, self._start = text(block, "type"), inner(block, "input")
        self._is_empty, self._signature = True, text(block, "signature")
        if self._kind == "tool_use":
            self._calls += 1
            return (ToolBegan(self._calls, text(block, "id"), text(block, "name")),)
        return tuple(_of_block(block))

    def _more(self, delta: Object) -> Iterable[Event]:
        kind = delta.get("type")
        if kind == "text_delta":
            return (TextPiece(text(delta, "text")),)
        if kind == "input_json_delta":
            return self._argument(text(delta, "partial_json"))
        if kind == "thinking_delta":
            return (ThinkingPiece(text(delta, "thinking")),)
        if kind == "signature_delta":
            self._signature += text(delta, "signature")
        return ()

    def _argument(self, piece: str) -> Iterable[Event]:
        if not piece or self._kind != "tool_use":  # a tool that runs there is nobody's call here
            return ()
        self._is_empty = False
        return (ToolPiece(self._calls, piece),)

    def _end_block(self) -> Iterable[Event]:
        kind, self._kind = self._kind, ""
        if kind == "tool_use" and self._is_empty:
            return (ToolPiece(self._calls, as_json(self._start)),)
        return (ThinkingSigned(signature=self._signature),) if kind == "thinking" else ()

    def _ended(self, frame: Object) -> Iterator[Event]:
        yield from self._counted(inner(frame, "usage"), partial=False)
        yield from _finished(inner(frame, "delta"))

    def _counted(self, told: Object, *, partial: bool) -> Iterator[Event]:
        """Counts are of all until then: a later one stands instead of the earlier."""
        self._usage.update({name: value for name, value in told.items() if value is not None})
        usage = read_usage(self._usage)
        if usage is not None and told:
            yield Counted(usage, partial)
