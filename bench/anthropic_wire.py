"""Anthropic's Messages for the fake provider. Pure."""

from collections.abc import Mapping
from typing import Any

import orjson

from bench.ask import (
    ARGUMENTS,
    REFUSAL,
    SIGNATURE,
    THOUGHT,
    Ask,
    BadRequest,
    Error,
    Fields,
    listed,
    model_of,
    number,
    object_of,
    parts,
    reason_of,
)
from bench.modes import Mode
from bench.plan import Costs, chunk
from bench.seen import Seen

ID = "msg_mock000000000000000000"
REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
ONCE = ("cache_creation", "service_tier")  # told at a stream's beginning alone
KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class AnthropicWire:
    stream_type = "text/event-stream; charset=utf-8"
    end_mark = chunk(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
    garbage = chunk(b'event: content_block_delta\ndata: {"type": "content_bl\n\nnonsense\n\n')

    def read(self, request: Seen) -> Ask:
        if not request.headers.get("anthropic-version"):
            raise BadRequest("anthropic-version: header is required")
        fields = object_of(request.body)
        if number(fields, "max_tokens") is None:
            raise BadRequest("max_tokens: Field required", "max_tokens")
        _check_turns(listed(fields, "messages"))
        stream = fields.get("stream") is True
        most = number(fields, "max_tokens")
        tool = _first_tool(fields)
        return Ask(model_of(fields), stream, tokens_max=most, tool=tool, wire="anthropic")

    def body(self, ask: Ask, mode: Mode, content: str, costs: Costs) -> Fields:
        blocks: list[Fields] = []
        if mode.behaviour == "thinking":
            blocks.append({"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE})
        if mode.behaviour == "tools":
            blocks += [
                _call(nth, ask, orjson.loads(arguments)) for nth, arguments in enumerate(ARGUMENTS)
            ]
        elif mode.behaviour != "refusal":
            blocks.append({"type": "text", "text": content, "citations": None})
        usage = {} if mode.behaviour == "nousage" else {"usage": usage_of(mode, costs)}
        return {**_message(ask), "content": blocks, **_ending(ask, mode), **usage}

    def events(self, ask: Ask, mode: Mode, costs: Costs) -> "AnthropicEvents":
        return AnthropicEvents(ask, mode, costs)

    def error(self, error: Error) -> Fields:
        told = {"type": KINDS.get(error.status, "api_error"), "message": error.message}
        return {"type": "error", "error": told, "request_id": "req_mock"}

    def error_event(self, error: Error) -> bytes:
        return _event("error", {"error": self.error(error)["error"]})


class AnthropicEvents:
    """Blocks that begin, grow and end; the counts of what came in stand at the beginning."""

    def __init__(self, ask: Ask, mode: Mode, costs: Costs) -> None:
        self._ask, self._mode, self._costs = ask, mode, costs
        self._tells = mode.behaviour != "nousage"
        self._nth = int(mode.behaviour == "thinking")  # of the block of text

    def opening(self) -> bytes:
        message: dict[str, Any] = {**_message(self._ask), "content": []}
        message |= {"stop_reason": None, "stop_sequence": None}
        if self._tells:
            first = {"output_tokens": min(1, self._costs.completion)}
            message["usage"] = {**usage_of(self._mode, self._costs), **first}
        out = _event("message_start", {"message": message}) + _event("ping", {})
        if self._mode.behaviour == "thinking":
            out += self._thought()
        if self._mode.behaviour in ("tools", "refusal"):
            return out
        return out + _begin(self._nth, {"type": "text", "text": "", "citations": None})

    def pieces(self, content: str) -> tuple[bytes, ...]:
        if self._mode.behaviour == "tools":
            return tuple(self._tool(nth, one) for nth, one in enumerate(ARGUMENTS))
        if self._mode.behaviour == "refusal":
            return (_event("ping", {}),)
        made = (
            _more(self._nth, {"type": "text_delta", "text": part})
            for part in parts(content, self._mode["chunks"])
        )
        return tuple(made)

    def ending(self) -> bytes:
        no_text = self._mode.behaviour in ("tools", "refusal")
        out = b"" if no_text else _event("content_block_stop", {"index": self._nth})
        told: dict[str, Any] = {"delta": _ending(self._ask, self._mode)}
        if self._tells:
            whole = usage_of(self._mode, self._costs)
            told["usage"] = {name: whole[name] for name in whole if name not in ONCE}
        return out + _event("message_delta", told)

    def _thought(self) -> bytes:
        return (
            _begin(0, {"type": "thinking", "thinking": "", "signature": ""})
            + b"".join(
                _more(0, {"type": "thinking_delta", "thinking": part}) for part in parts(THOUGHT, 2)
            )
            + _more(0, {"type": "signature_delta", "signature": SIGNATURE})
            + _event("content_block_stop", {"index": 0})
        )

    def _tool(self, nth: int, arguments: str) -> bytes:
        out = _begin(nth, _call(nth, self._ask, {}))
        for part in ("", *parts(arguments, 3)):
            out += _more(nth, {"type": "input_json_delta", "partial_json": part})
        return out + _event("content_block_stop", {"index": nth})


def usage_of(mode: Mode, costs: Costs) -> dict[str, Any]:
    """What came in without what was read from a cache or written to one."""
    hour = min(mode["cache_hour"], costs.cache_write)
    return {
        "input_tokens": costs.prompt - costs.cached - costs.cache_write,
        "cache_read_input_tokens": costs.cached,
        "cache_creation_input_tokens": costs.cache_write,
        "cache_creation": {
            "ephemeral_5m_input_tokens": costs.cache_write - hour,
            "ephemeral_1h_input_tokens": hour,
        },
        "output_tokens": costs.completion,
        "output_tokens_details": {"thinking_tokens": costs.reasoning},
        "server_tool_use": None,
        "service_tier": "standard",
    }


def _check_turns(messages: list[dict[str, Any]]) -> None:
    """As the real one does: every call has its result in the next turn, before anything else."""
    open_calls = set[str]()
    for nth, message in enumerate(messages):
        role, content = message.get("role"), message.get("content")
        if role not in ("user", "assistant", "system"):
            raise BadRequest(f"messages.{nth}.role: Input should be 'user' or 'assistant'")
        blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
        if any(block.get("type") == "text" and not block.get("text") for block in blocks):
            raise BadRequest(f"messages.{nth}: text content blocks must be non-empty")
        results = _results(blocks)
        if results != open_calls:
            raise BadRequest(f"messages.{nth}: tool_use ids and tool_result blocks differ")
        open_calls = {str(block["id"]) for block in blocks if block.get("type") == "tool_use"}


def _results(blocks: list[dict[str, Any]]) -> set[str]:
    """The results that stand before anything else."""
    found = set[str]()
    for block in blocks:
        if block.get("type") != "tool_result":
            break
        found.add(str(block.get("tool_use_id")))
    return found


def _first_tool(fields: Fields) -> str:
    match fields.get("tools"):
        case [{"name": str(name), "input_schema": {"type": "object"}}, *_]:
            return name
        case [_, *_]:
            raise BadRequest("tools.0.input_schema.type: Field required", "tools")
    return "lookup"


def _message(ask: Ask) -> Fields:
    return {"id": ID, "type": "message", "role": "assistant", "model": ask.model}


def _ending(ask: Ask, mode: Mode) -> Fields:
    reason = reason_of(ask, mode)
    found: dict[str, Any] = {"stop_reason": REASONS[reason], "stop_sequence": None}
    if reason == "content_filter":
        found["stop_details"] = {"type": "refusal", "category": None, "explanation": REFUSAL}
    return found


def _call(nth: int, ask: Ask, arguments: object) -> Fields:
    return {"type": "tool_use", "id": f"toolu_mock{nth}", "name": ask.tool, "input": arguments}


def _begin(nth: int, block: Fields) -> bytes:
    return _event("content_block_start", {"index": nth, "content_block": block})


def _more(nth: int, delta: Fields) -> bytes:
    return _event("content_block_delta", {"index": nth, "delta": delta})


def _event(kind: str, fields: Mapping[str, Any]) -> bytes:
    data = orjson.dumps({"type": kind, **fields})
    return chunk(f"event: {kind}\ndata: ".encode() + data + b"\n\n")
