"""Ollama's chat for the fake provider: lines of JSON. Pure."""

from typing import Any

import orjson

from bench.ask import (
    ARGUMENTS,
    REFUSAL,
    THOUGHT,
    Ask,
    BadRequest,
    Error,
    Fields,
    listed,
    model_of,
    object_of,
    parts,
    reason_of,
)
from bench.modes import Mode
from bench.plan import Costs, chunk
from bench.seen import Seen


class OllamaWire:
    stream_type = "application/x-ndjson"
    end_mark = b""
    garbage = chunk(b'{"model": "mock", "mess\nnonsense\n')

    def read(self, request: Seen) -> Ask:
        fields = object_of(request.body)
        _check_turns(listed(fields, "messages"))
        options = fields.get("options") or {}
        most = options.get("num_predict")
        return Ask(
            model_of(fields),
            fields.get("stream") is not False,  # its default
            tokens_max=most if isinstance(most, int) and most > 0 else None,
            tool=_first_tool(fields),
            wire="ollama",
        )

    def body(self, ask: Ask, mode: Mode, content: str, costs: Costs) -> Fields:
        message: dict[str, Any] = {"content": content}
        if mode.behaviour == "tools":
            message = {"content": "", "tool_calls": _calls(ask)}
        elif mode.behaviour == "thinking":
            message["thinking"] = THOUGHT
        elif mode.behaviour == "refusal":
            message = {"content": REFUSAL}
        return _line(ask, message, **_ending(ask, mode, costs))

    def events(self, ask: Ask, mode: Mode, costs: Costs) -> "OllamaLines":
        return OllamaLines(ask, mode, costs)

    def error(self, error: Error) -> Fields:
        return {"error": error.message}

    def error_event(self, error: Error) -> bytes:
        return _chunk(self.error(error))


class OllamaLines:
    """Pieces of text, calls whole; the last line tells the counts."""

    def __init__(self, ask: Ask, mode: Mode, costs: Costs) -> None:
        self._ask, self._mode, self._costs = ask, mode, costs

    def opening(self) -> bytes:
        if self._mode.behaviour != "thinking":
            return b""
        thoughts = (_line(self._ask, {"content": "", "thinking": one}) for one in parts(THOUGHT, 2))
        return b"".join(map(_chunk, thoughts))

    def pieces(self, content: str) -> tuple[bytes, ...]:
        if self._mode.behaviour == "tools":
            calls = ({"content": "", "tool_calls": [call]} for call in _calls(self._ask))
            return tuple(_chunk(_line(self._ask, call)) for call in calls)
        if self._mode.behaviour == "refusal":
            content = REFUSAL
        made = parts(content, self._mode["chunks"])
        return tuple(_chunk(_line(self._ask, {"content": part})) for part in made)

    def ending(self) -> bytes:
        told = _ending(self._ask, self._mode, self._costs)
        return _chunk(_line(self._ask, {"content": ""}, **told))


def _ending(ask: Ask, mode: Mode, costs: Costs) -> Fields:
    reason = reason_of(ask, mode)
    told: dict[str, Any] = {
        "done": True,
        "done_reason": "length" if reason == "length" else "stop",
        "total_duration": 4_935_886_791,
        "load_duration": 534_986_708,
    }
    if mode.behaviour != "nousage":
        told |= {"prompt_eval_count": costs.prompt, "eval_count": costs.completion}
    return told


def _line(ask: Ask, message: Fields, **more: Any) -> Fields:
    rest = {"model": ask.model, "created_at": "2026-01-01T00:00:00Z"}
    return {**rest, "message": {"role": "assistant", **message}, "done": False, **more}


def _calls(ask: Ask) -> list[Fields]:
    return [{"function": {"name": ask.tool, "arguments": orjson.loads(one)}} for one in ARGUMENTS]


def _check_turns(messages: list[dict[str, Any]]) -> None:
    for message in messages:
        if message.get("role") not in ("system", "user", "assistant", "tool"):
            raise BadRequest("invalid role")
        if not isinstance(message.get("content", ""), str):
            raise BadRequest("json: cannot unmarshal array into Go struct field .messages.content")
        for call in message.get("tool_calls") or ():
            if not isinstance(call.get("function", {}).get("arguments"), dict):
                raise BadRequest("json: cannot unmarshal string into .tool_calls.arguments")


def _first_tool(fields: Fields) -> str:
    match fields.get("tools"):
        case [{"function": {"name": str(name)}}, *_]:
            return name
    return "lookup"


def _chunk(line: Fields) -> bytes:
    return chunk(orjson.dumps(line) + b"\n")
