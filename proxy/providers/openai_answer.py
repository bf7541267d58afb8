"""What answers in the dialect of OpenAI's chat completions say, streamed or whole. Pure; whoever
speaks like it is read without trust in its shape.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from proxy.dialects.events import (
    Began,
    Counted,
    Event,
    Failed,
    Finished,
    RefusalPiece,
    TextPiece,
    ThinkingPiece,
    ThinkingSigned,
    ToolBegan,
    ToolPiece,
)
from proxy.providers.fields import Object, inner, loaded, rows, text
from proxy.providers.openai_usage import read_usage, usage_in

DONE = b"[DONE]"
Reason = Literal["stop", "length", "tool_calls", "content_filter"]
REASONS: Mapping[str, Reason] = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "model_length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
THOUGHTS = ("reasoning_content", "reasoning")


class AnswerReader:
    """One streamed answer."""

    def __init__(self) -> None:
        self._is_begun = self._is_done = False
        self._calls: set[int] = set()
        self._finish = ""

    def feed(self, data: bytes) -> Iterable[Event]:
        if data == DONE:
            self._is_done = True
            return ()
        return self._events(loaded(data))

    def end(self) -> Iterable[Event]:
        """A stream without its end mark was broken off, whatever it had said before."""
        if self._is_done and self._finish:
            yield Finished(REASONS.get(self._finish, "stop"), native=self._finish)

    def _events(self, frame: Object) -> Iterator[Event]:
        if frame.get("error"):
            yield failed(frame)
            return
        if not self._is_begun and (text(frame, "id") or text(frame, "model")):
            self._is_begun = True
            yield Began(text(frame, "id"), text(frame, "model"))
        for choice in rows(frame, "choices")[:1]:
            yield from self._delta(inner(choice, "delta"))
            self._finish = text(choice, "finish_reason") or self._finish
        yield from counted(frame)

    def _delta(self, delta: Object) -> Iterator[Event]:
        yield from said(delta)
        for nth, call in enumerate(rows(delta, "tool_calls")):
            yield from self._call(call, nth)

    def _call(self, call: Object, nth: int) -> Iterator[Event]:
        """Some name no index where a call comes whole."""
        index = call.get("index")
        index = index if isinstance(index, int) else len(self._calls) if call.get("id") else nth
        function = inner(call, "function")
        if index not in self._calls:
            self._calls.add(index)
            id = text(call, "id") or f"call_{index}"
            yield ToolBegan(index, id, text(function, "name"), signature_of(call))
        if arguments := text(function, "arguments"):
            yield ToolPiece(index, arguments)


def whole_answer(answer: bytes) -> Sequence[Event]:
    """Raises ValueError where it is none."""
    return list(_whole(loaded(answer)))


def _whole(answer: Object) -> Iterator[Event]:
    if answer.get("error"):
        yield failed(answer)
        return
    choices = rows(answer, "choices")
    if not choices:
        raise ValueError("an answer without a choice")
    yield Began(text(answer, "id"), text(answer, "model"))
    message = inner(choices[0], "message")
    yield from said(message)
    for nth, call in enumerate(rows(message, "tool_calls")):
        function = inner(call, "function")
        id = text(call, "id") or f"call_{nth}"
        yield ToolBegan(nth, id, text(function, "name"), signature_of(call))
        yield ToolPiece(nth, text(function, "arguments"))
    yield from counted(answer)
    native = text(choices[0], "finish_reason")
    yield Finished(REASONS.get(native, "stop"), native=native)


def said(delta: Object) -> Iterator[Event]:
    """Thoughts first, since they come first."""
    thought = next((found for name in THOUGHTS if (found := text(delta, name))), "")
    if thought:
        yield ThinkingPiece(thought)
    for block in rows(delta, "thinking_blocks"):
        signature, redacted = text(block, "signature"), text(block, "data")
        if signature or redacted:
            yield ThinkingSigned(signature, redacted)
    content = delta.get("content")
    if isinstance(content, str) and content:
        yield TextPiece(content)
    elif isinstance(content, list):
        yield from _listed(content)
    if refusal := text(delta, "refusal"):
        yield RefusalPiece(refusal)


def _listed(content: Iterable[Any]) -> Iterator[Event]:
    """As Mistral's models that think tell it."""
    for part in content:
        if not isinstance(part, dict):
            continue
        if part.get("type") == "thinking":
            yield from (ThinkingPiece(text(one, "text")) for one in rows(part, "thinking"))
        elif found := text(part, "text"):
            yield TextPiece(found)


def counted(frame: Object) -> Iterator[Event]:
    if (usage := read_usage(usage_in(frame))) is not None:
        yield Counted(usage)


def failed(frame: Object) -> Failed:
    error = frame.get("error")
    if isinstance(error, dict):
        return Failed(str(error.get("type") or error.get("code") or ""), text(error, "message"))
    return Failed("error", str(error))


def signature_of(call: Object) -> str:
    return text(inner(inner(call, "extra_content"), "google"), "thought_signature")
