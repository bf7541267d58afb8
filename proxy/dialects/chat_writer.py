"""Answers in the dialect of OpenAI's chat completions.

Thoughts are `reasoning_content`; what their provider wants to see again is `thinking_blocks` of the
message, and the signature of a tool call lies in its id.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from proxy.dialects.events import (
    Began,
    Event,
    Finished,
    RefusalPiece,
    TextPiece,
    ThinkingPiece,
    ThinkingSigned,
    ToolBegan,
    ToolPiece,
)
from proxy.dialects.signed import sealed_id
from proxy.dialects.sums import sums
from proxy.errors import OpsError
from proxy.types import NO_USAGE, Usage

DONE = b"data: [DONE]\n\n"
_FIELDS: Mapping[type[Event], str] = {
    TextPiece: "content",
    RefusalPiece: "refusal",
    ThinkingPiece: "reasoning_content",
}
Delta = dict[str, Any]


class ChatWriter:
    """One answer."""

    def __init__(self, rid: str, model: str, wants_usage: bool) -> None:
        self._rid, self._model, self._wants_usage = rid, model, wants_usage
        self._id = f"chatcmpl-{rid}"
        self._created = int(time.time())
        self._is_begun = False
        self._finished: Finished | None = None
        self._called = False
        self._thought: list[str] = []  # of the thought that has not been signed yet

    # a stream

    def feed(self, events: Iterable[Event]) -> bytes:
        return b"".join(self._chunk(delta) for delta in self._deltas(events))

    def end(self, usage: Usage) -> bytes:
        last = self._begin() + self._chunk({}, finish=self._reason)
        if self._wants_usage:
            last += self._event({**self._head, "choices": [], "usage": usage_of(usage)})
        return last + DONE

    def cut(self, usage: Usage) -> bytes:
        return self._begin() + self._chunk({}, finish="length")

    def fail(self, problem: OpsError, usage: Usage) -> bytes:
        return self._event(error_of(problem, self._rid, usage))

    # a whole answer

    def whole(self, events: Sequence[Event], usage: Usage) -> bytes:
        message: Delta = {"role": "assistant", "content": None, "refusal": None}
        for delta in self._deltas(events):
            _add(message, delta)
        for call in message.get("tool_calls", ()):
            del call["index"]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._reason}
        head = {**self._head, "object": "chat.completion"}
        return orjson.dumps({**head, "choices": [choice], "usage": usage_of(usage)})

    # its own

    def _deltas(self, events: Iterable[Event]) -> Iterable[Delta]:
        for event in events:
            if isinstance(event, Began | Finished):
                self._note(event)
                continue
            delta = self._delta(event)
            if delta is None:
                continue
            if not self._is_begun:
                self._is_begun = True
                yield {"role": "assistant", "content": ""}
            yield delta

    def _note(self, event: Began | Finished) -> None:
        if isinstance(event, Finished):
            self._finished = event
        elif event.id.startswith("chatcmpl-"):
            self._id = event.id

    def _delta(self, event: Event) -> Delta | None:
        match event:
            case TextPiece(text) | RefusalPiece(text) | ThinkingPiece(text):
                if isinstance(event, ThinkingPiece):
                    self._thought.append(text)
                return {_FIELDS[type(event)]: text} if text else None
            case ToolBegan(index, id, name, signature):
                self._called = True
                function = {"name": name, "arguments": ""}
                call = {"id": sealed_id(id, signature), "type": "function", "function": function}
                return {"tool_calls": [{"index": index, **call}]}
            case ToolPiece(index, text):
                return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}
            case ThinkingSigned():
                return {"thinking_blocks": [self._signed(event)]}
        return None

    def _signed(self, event: ThinkingSigned) -> Delta:
        if event.redacted:
            return {"type": "redacted_thinking", "data": event.redacted}
        text = "".join(self._thought)
        self._thought.clear()
        return {"type": "thinking", "thinking": text, "signature": event.signature}

    @property
    def _reason(self) -> str:
        reason = self._finished.reason if self._finished else "stop"
        return "tool_calls" if reason == "stop" and self._called else reason

    @property
    def _head(self) -> dict[str, Any]:
        names = {"id": self._id, "object": "chat.completion.chunk", "created": self._created}
        return {**names, "model": self._model}

    def _begin(self) -> bytes:
        if self._is_begun:
            return b""
        self._is_begun = True
        return self._chunk({"role": "assistant", "content": ""})

    def _chunk(self, delta: Delta, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        usage = {"usage": None} if self._wants_usage else {}
        return self._event({**self._head, "choices": [choice], **usage})

    def _event(self, data: Mapping[str, Any]) -> bytes:
        return b"data: " + orjson.dumps(data) + b"\n\n"


def _add(message: Delta, delta: Delta) -> None:
    """One more delta of a message, as clients add them up."""
    for name, value in delta.items():
        if name == "tool_calls":
            calls = message.setdefault(name, [])
            _add_call(calls, value[0])
        elif name == "thinking_blocks":
            message.setdefault(name, []).extend(value)
        elif name != "role" and value:
            message[name] = (message.get(name) or "") + value


def _add_call(calls: list[Delta], piece: Delta) -> None:
    known = next((call for call in calls if call["index"] == piece["index"]), None)
    if known is None:
        calls.append(piece)
    else:
        known["function"]["arguments"] += piece["function"]["arguments"]


def error_of(problem: OpsError, rid: str, usage: Usage = NO_USAGE) -> dict[str, object]:
    """An error; in the middle of a stream with what was used until then."""
    error: dict[str, object] = {"error": problem.shape(rid)}
    if usage is NO_USAGE:
        return error
    told = sums(usage)
    counts = {
        "prompt_tokens": told.all_in,
        "completion_tokens": told.all_out,
        "total_tokens": told.all_in + told.all_out,
        "estimated": usage.source != "provider",
    }
    return {**error, "usage": counts}


def usage_of(usage: Usage) -> dict[str, object]:
    """OpenAI's totals, with what lies inside them."""
    told = sums(usage)
    return {
        "prompt_tokens": told.all_in,
        "completion_tokens": told.all_out,
        "total_tokens": told.all_in + told.all_out,
        "prompt_tokens_details": {"cached_tokens": told.cached, "cache_write_tokens": told.written},
        "completion_tokens_details": {"reasoning_tokens": told.thought},
    }
