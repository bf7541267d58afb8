"""An answer in Anthropic's Messages dialect: a stream of named events, or one message; and errors.

Blocks come one after the other, numbered from 0. Usage is told at the start as far as it is known
then, and again at the end, cumulative.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from proxy.dialects.events import Event
from proxy.dialects.frames import frame
from proxy.dialects.parts import Part, PartsWriter, Whole
from proxy.dialects.sums import sums
from proxy.errors import OpsError
from proxy.types import Usage

REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
#: Anthropic's own way to hand over arguments that are no JSON, as those that were cut off.
NO_JSON = "INVALID_JSON"
_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'
_DELTA = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
    b'"delta":{"type":"%b","%b":%b}}\n\n'
)
_DELTAS = {
    "text": (b"text_delta", b"text"),
    "refusal": (b"text_delta", b"text"),
    "thinking": (b"thinking_delta", b"thinking"),
    "tool": (b"input_json_delta", b"partial_json"),
}
_MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


class MessagesWriter(PartsWriter):
    """One answer."""

    def __init__(self, rid: str, model: str, fields: Mapping[str, Any]) -> None:
        super().__init__(model)
        self._rid = rid
        self._fields = fields
        thinking = fields.get("thinking") or {}
        asked = thinking.get("type") in ("enabled", "adaptive")
        self._shows_thoughts = asked
        self._tells_thoughts = asked and thinking.get("display") != "omitted"

    def end(self, usage: Usage) -> bytes:
        out: list[bytes] = []
        self.close(usage, out)
        out += [self._delta(self._stop_reason()), _MESSAGE_STOP]
        return b"".join(out)

    def cut(self, usage: Usage) -> bytes:
        out: list[bytes] = []
        self.close(usage, out)
        out += [self._delta("max_tokens"), _MESSAGE_STOP]
        return b"".join(out)

    def fail(self, problem: OpsError, usage: Usage) -> bytes:
        self.usage = usage
        return frame("error", {**error(problem, self._rid), "usage": self._usage()})

    def whole(self, events: Sequence[Event], usage: Usage) -> bytes:
        found = _Whole(self)
        found.feed(events)
        self.usage, self.finished = usage, found.finished
        self.calls, self.refused = found.calls, found.refused
        return orjson.dumps(
            {
                **self._message([self._block(part, part.text) for part in found.found]),
                "stop_reason": self._stop_reason(),
                "stop_sequence": self._stop_sequence(),
            }
        )

    # What the parts become -----------------------------------------------------------

    def shows(self, part: Part) -> bool:
        return part.kind != "thinking" or self._shows_thoughts

    def start(self, out: list[bytes]) -> None:
        out.append(frame("message_start", {"type": "message_start", "message": self._message([])}))

    def begin(self, part: Part, out: list[bytes]) -> None:
        block = self._block(part, "")
        if part.kind == "tool":
            block["input"] = {}
        start = {"type": "content_block_start", "index": part.nth, "content_block": block}
        out.append(frame("content_block_start", start))

    def more(self, part: Part, text: str, out: list[bytes]) -> None:
        if part.kind == "thinking" and not self._tells_thoughts:
            return
        kind, name = _DELTAS[part.kind]
        out.append(_DELTA % (part.nth, kind, name, orjson.dumps(text)))

    def end_part(self, part: Part, out: list[bytes]) -> None:
        if part.signature:
            signed = orjson.dumps(part.signature)
            out.append(_DELTA % (part.nth, b"signature_delta", b"signature", signed))
        out.append(_STOP % part.nth)

    def _block(self, part: Part, text: str) -> dict[str, Any]:
        if part.kind == "tool":
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": _object(text)}
        if part.redacted:
            return {"type": "redacted_thinking", "data": part.redacted}
        if part.kind == "thinking":
            told = text if self._tells_thoughts else ""
            return {"type": "thinking", "thinking": told, "signature": part.signature}
        return {"type": "text", "text": text}

    # What stands around them ---------------------------------------------------------

    def _message(self, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"msg_{self._rid}",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": self._usage(),
        }

    def _delta(self, stop_reason: str) -> bytes:
        delta = {"stop_reason": stop_reason, "stop_sequence": self._stop_sequence()}
        told = {"type": "message_delta", "delta": delta, "usage": self._usage()}
        return frame("message_delta", told)

    def _stop_reason(self) -> str:
        reason = self.reason
        if reason == "stop" and self._stop_sequence() is not None:
            return "stop_sequence"
        if reason == "stop" and self.refused:
            return "refusal"
        return REASONS[reason]

    def _stop_sequence(self) -> str | None:
        return (self.finished.stop_sequence if self.finished else "") or None

    def _usage(self) -> dict[str, Any]:
        found = sums(self.usage)
        return {
            "input_tokens": found.fresh,
            "cache_creation_input_tokens": found.written,
            "cache_read_input_tokens": found.cached,
            "cache_creation": {
                "ephemeral_5m_input_tokens": found.written - found.written_1h,
                "ephemeral_1h_input_tokens": found.written_1h,
            },
            "output_tokens": found.all_out,
            "output_tokens_details": {"thinking_tokens": found.thought},
        }


class _Whole(Whole):
    """The parts of a whole answer that its client has asked to see."""

    def __init__(self, writer: MessagesWriter) -> None:
        super().__init__(writer.model)
        self.shows = writer.shows  # type: ignore[method-assign]


def error(problem: OpsError, rid: str) -> dict[str, Any]:
    """Anthropic's error object; its `error_code` is our code, and what else we know is beside."""
    shape = problem.shape(rid)
    message, code = shape.pop("message"), shape.pop("code")
    for name in ("type", "request_id"):
        shape.pop(name)
    kind = KINDS.get(problem.status, "api_error" if problem.status >= 500 else KINDS[400])
    details = {"error_code": code, **{n: value for n, value in shape.items() if value is not None}}
    return {
        "type": "error",
        "error": {"type": kind, "message": message, "details": details},
        "request_id": rid,
    }


def _object(arguments: str) -> dict[str, Any]:
    """Arguments as this dialect has them."""
    if not arguments:
        return {}
    try:
        found = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return {NO_JSON: arguments}
    return found if isinstance(found, dict) else {NO_JSON: arguments}
