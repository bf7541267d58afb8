"""Cohere's chat, version 2, for the fake provider. Pure."""

from typing import Any

import orjson

from bench.ask import (
    ARGUMENTS,
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

ID = "00000000-0000-4000-8000-000000000000"
PLAN = "I will look both of them up."
REASONS = {
    "stop": "COMPLETE",
    "length": "MAX_TOKENS",
    "tool_calls": "TOOL_CALL",
    "content_filter": "ERROR",
}
PREAMBLE = 480  # tokens of its own words, which its model counts and nobody pays


class CohereWire:
    stream_type = "text/event-stream"
    end_mark = b""
    garbage = chunk(b'event: content-delta\ndata: {"type": "cont\n\nnonsense\n\n')

    def read(self, request: Seen) -> Ask:
        fields = object_of(request.body)
        unknown = set(fields) - FIELDS
        if unknown:
            raise BadRequest(f"unknown field: parameter '{min(unknown)}' is not a valid field")
        _check_turns(listed(fields, "messages"))
        stream = fields.get("stream") is True
        most = number(fields, "max_tokens")
        tool = _first_tool(fields)
        return Ask(model_of(fields), stream, tokens_max=most, tool=tool, wire="cohere")

    def body(self, ask: Ask, mode: Mode, content: str, costs: Costs) -> Fields:
        message: dict[str, Any] = {"role": "assistant"}
        if mode.behaviour == "tools":
            calls = [_call(ask, nth, one) for nth, one in enumerate(ARGUMENTS)]
            message |= {"tool_plan": PLAN, "tool_calls": calls}
        elif mode.behaviour != "refusal":
            blocks = [{"type": "text", "text": content}]
            if mode.behaviour == "thinking":
                blocks.insert(0, {"type": "thinking", "thinking": THOUGHT})
            message["content"] = blocks
        return {"id": ID, "message": message, **_ending(ask, mode, costs)}

    def events(self, ask: Ask, mode: Mode, costs: Costs) -> "CohereEvents":
        return CohereEvents(ask, mode, costs)

    def error(self, error: Error) -> Fields:
        return {"id": ID, "message": error.message}

    def error_event(self, error: Error) -> bytes:
        return _event("message-end", {"finish_reason": "ERROR", "error": error.message})


FIELDS = {
    *("model", "messages", "tools", "strict_tools", "tool_choice", "stream", "documents"),
    *("citation_options", "response_format", "safety_mode", "max_tokens", "stop_sequences"),
    *("temperature", "seed", "frequency_penalty", "presence_penalty", "k", "p", "logprobs"),
    *("thinking", "priority"),
}


class CohereEvents:
    """Contents that begin, grow and end; a plan, calls; the counts at the end alone."""

    def __init__(self, ask: Ask, mode: Mode, costs: Costs) -> None:
        self._ask, self._mode, self._costs = ask, mode, costs
        self._nth = 1 if mode.behaviour == "thinking" else 0

    def opening(self) -> bytes:
        out = _event("message-start", _said(role="assistant", content=[]), id=ID)
        if self._mode.behaviour == "thinking":
            out += _begin(0, {"type": "thinking", "thinking": ""})
            out += _more(0, {"thinking": THOUGHT}) + _event("content-end", None, index=0)
        if self._mode.behaviour in ("tools", "refusal"):
            return out
        return out + _begin(self._nth, {"type": "text", "text": ""})

    def pieces(self, content: str) -> tuple[bytes, ...]:
        if self._mode.behaviour == "tools":
            plan = tuple(_event("tool-plan-delta", _said(tool_plan=one)) for one in parts(PLAN, 2))
            return (*plan, *(self._tool(nth, one) for nth, one in enumerate(ARGUMENTS)))
        if self._mode.behaviour == "refusal":
            return (b"",)
        made = parts(content, self._mode["chunks"])
        return tuple(_more(self._nth, {"text": part}) for part in made)

    def ending(self) -> bytes:
        no_text = self._mode.behaviour in ("tools", "refusal")
        out = b"" if no_text else _event("content-end", None, index=self._nth)
        return out + _event("message-end", _ending(self._ask, self._mode, self._costs))

    def _tool(self, nth: int, arguments: str) -> bytes:
        out = _event("tool-call-start", _said(tool_calls=_call(self._ask, nth, "")), index=nth)
        for part in parts(arguments, 3):
            piece = _said(tool_calls={"function": {"arguments": part}})
            out += _event("tool-call-delta", piece, index=nth)
        return out + _event("tool-call-end", None, index=nth)


def _ending(ask: Ask, mode: Mode, costs: Costs) -> Fields:
    told: dict[str, Any] = {"finish_reason": REASONS[reason_of(ask, mode)]}
    if mode.behaviour != "nousage":
        told["usage"] = usage_of(costs)
    return told


def usage_of(costs: Costs) -> dict[str, Any]:
    counts = {"input_tokens": float(costs.prompt), "output_tokens": float(costs.completion)}
    model = {**counts, "input_tokens": float(costs.prompt + PREAMBLE)}
    return {"billed_units": counts, "tokens": model, "cached_tokens": float(costs.cached)}


def _check_turns(messages: list[dict[str, Any]]) -> None:
    calls = set[str]()
    for message in messages:
        role = message.get("role")
        if role == "tool":
            if message.get("tool_call_id") not in calls:
                raise BadRequest("invalid request: tool call id not found in previous tool calls")
            calls.discard(str(message["tool_call_id"]))
            continue
        if role not in ("system", "user", "assistant"):
            raise BadRequest("invalid request: unknown role")
        if calls:
            raise BadRequest("invalid request: tool calls must be followed by their results")
        calls = {call["id"] for call in message.get("tool_calls") or ()}


def _first_tool(fields: Fields) -> str:
    match fields.get("tools"):
        case [{"function": {"name": str(name)}}, *_]:
            return name
    return "lookup"


def _call(ask: Ask, nth: int, arguments: str) -> Fields:
    function = {"name": ask.tool, "arguments": arguments}
    return {"id": f"{ask.tool}_mock{nth}", "type": "function", "function": function}


def _said(**message: Any) -> Fields:
    return {"message": message}


def _begin(nth: int, content: Fields) -> bytes:
    return _event("content-start", _said(content=content), index=nth)


def _more(nth: int, content: Fields) -> bytes:
    return _event("content-delta", _said(content=content), index=nth)


def _event(kind: str, delta: Fields | None, **rest: Any) -> bytes:
    told = rest if delta is None else {**rest, "delta": delta}
    data = orjson.dumps({"type": kind, **told})
    return chunk(f"event: {kind}\ndata: ".encode() + data + b"\n\n")
