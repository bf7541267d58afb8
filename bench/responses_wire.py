"""OpenAI's Responses for the fake provider. Pure."""

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
    model_of,
    number,
    object_of,
    parts,
    reason_of,
)
from bench.modes import Mode
from bench.openai_wire import CREATED, OpenAIWire
from bench.plan import Costs, chunk
from bench.seen import Seen

ID = "resp_mock0000000000000000"


class ResponsesWire:
    stream_type = "text/event-stream; charset=utf-8"
    end_mark = b""
    garbage = chunk(b'event: response.output_text.delta\ndata: {"type": "resp\n\nnonsense\n\n')

    def read(self, request: Seen) -> Ask:
        fields = object_of(request.body)
        if not fields.get("input"):
            raise BadRequest("Missing required parameter: 'input'.", "input")
        most, stream = number(fields, "max_output_tokens"), fields.get("stream") is True
        tool = _first_tool(fields)
        return Ask(model_of(fields), stream, tokens_max=most, tool=tool, wire="responses")

    def body(self, ask: Ask, mode: Mode, content: str, costs: Costs) -> Fields:
        return _response(ask, mode, costs, _items(ask, mode, content))

    def events(self, ask: Ask, mode: Mode, costs: Costs) -> "ResponseEvents":
        return ResponseEvents(ask, mode, costs)

    def error(self, error: Error) -> Fields:
        return OpenAIWire().error(error)

    def error_event(self, error: Error) -> bytes:
        told = {"code": error.code, "message": error.message, "param": error.param}
        return _event("error", {**told, "sequence_number": 0})


class ResponseEvents:
    """Items that are added, grow and are done; the whole response, with its counts, at the end."""

    def __init__(self, ask: Ask, mode: Mode, costs: Costs) -> None:
        self._ask, self._mode, self._costs = ask, mode, costs
        self._number = -1
        self._content = ""
        self._nth = 1 if mode.behaviour == "thinking" else 0  # of the message among the items

    def opening(self) -> bytes:
        whole = _response(self._ask, self._mode, self._costs, [])
        begun = {**whole, "status": "in_progress", "incomplete_details": None, "usage": None}
        out = self._event("response.created", response=begun)
        out += self._event("response.in_progress", response=begun)
        if self._mode.behaviour == "thinking":
            out += self._whole(0, _thought())
        if self._mode.behaviour == "tools":
            return out
        message = {**_message([]), "status": "in_progress"}
        out += self._event("response.output_item.added", output_index=self._nth, item=message)
        return out + self._of_part("response.content_part.added", part=self._part(""))

    def pieces(self, content: str) -> tuple[bytes, ...]:
        if self._mode.behaviour == "tools":
            calls = _items(self._ask, self._mode, content)
            return tuple(self._call(nth, call) for nth, call in enumerate(calls))
        refuses = self._mode.behaviour == "refusal"
        self._content = REFUSAL if refuses else content
        kind = "response.refusal.delta" if refuses else "response.output_text.delta"
        more: Fields = {} if refuses else {"logprobs": []}
        made = parts(self._content, self._mode["chunks"])
        return tuple(self._of_part(kind, delta=part, **more) for part in made)

    def ending(self) -> bytes:
        out = b""
        if self._mode.behaviour != "tools":
            refuses = self._mode.behaviour == "refusal"
            kind, name = ("refusal", "refusal") if refuses else ("output_text", "text")
            told: dict[str, Any] = {name: self._content, **({} if refuses else {"logprobs": []})}
            out = self._of_part(f"response.{kind}.done", **told)
            out += self._of_part("response.content_part.done", part=self._part(self._content))
            message = _message([self._part(self._content)])
            out += self._event("response.output_item.done", output_index=self._nth, item=message)
        items = _items(self._ask, self._mode, self._content)
        whole = _response(self._ask, self._mode, self._costs, items)
        return out + self._event(f"response.{whole['status']}", response=whole)

    def _part(self, content: str) -> Fields:
        return _part(self._mode, content)

    def _whole(self, nth: int, item: Fields) -> bytes:
        added = self._event("response.output_item.added", output_index=nth, item=item)
        return added + self._event("response.output_item.done", output_index=nth, item=item)

    def _call(self, nth: int, call: Fields) -> bytes:
        begun = {**call, "arguments": "", "status": "in_progress"}
        out = self._event("response.output_item.added", output_index=nth, item=begun)
        where = {"output_index": nth, "item_id": call["id"]}
        for part in parts(str(call["arguments"]), 3):
            out += self._event("response.function_call_arguments.delta", **where, delta=part)
        done = {"arguments": call["arguments"], "name": call["name"]}
        out += self._event("response.function_call_arguments.done", **where, **done)
        return out + self._event("response.output_item.done", output_index=nth, item=call)

    def _of_part(self, kind: str, **fields: Any) -> bytes:
        where = {"output_index": self._nth, "content_index": 0, "item_id": "msg_mock"}
        return self._event(kind, **where, **fields)

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._number += 1
        return _event(kind, {"sequence_number": self._number, **fields})


def _items(ask: Ask, mode: Mode, content: str) -> list[Fields]:
    if mode.behaviour == "tools":
        return [_called(ask, nth, one) for nth, one in enumerate(ARGUMENTS)]
    said = _message([_part(mode, REFUSAL if mode.behaviour == "refusal" else content)])
    return [_thought(), said] if mode.behaviour == "thinking" else [said]


def _called(ask: Ask, nth: int, arguments: str) -> Fields:
    call = {"type": "function_call", "id": f"fc_mock{nth}", "call_id": f"call_mock{nth}"}
    return {**call, "name": ask.tool, "arguments": arguments, "status": "completed"}


def _thought() -> Fields:
    summary = [{"type": "summary_text", "text": THOUGHT}]
    return {
        "type": "reasoning",
        "id": "rs_mock",
        "summary": summary,
        "encrypted_content": SIGNATURE,
    }


def _message(content: list[Fields]) -> Fields:
    head = {"type": "message", "id": "msg_mock", "role": "assistant", "status": "completed"}
    return {**head, "content": content}


def _part(mode: Mode, content: str) -> Fields:
    if mode.behaviour == "refusal":
        return {"type": "refusal", "refusal": content}
    return {"type": "output_text", "text": content, "annotations": [], "logprobs": []}


def _response(ask: Ask, mode: Mode, costs: Costs, items: list[Fields]) -> Fields:
    cut = reason_of(ask, mode) == "length"
    found: dict[str, Any] = {
        "id": ID,
        "object": "response",
        "created_at": CREATED,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "error": None,
        "model": ask.model,
        "output": items,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "metadata": {},
    }
    return found if mode.behaviour == "nousage" else {**found, "usage": usage_of(costs)}


def usage_of(costs: Costs) -> Fields:
    return {
        "input_tokens": costs.prompt,
        "input_tokens_details": {
            "cached_tokens": costs.cached,
            "cache_write_tokens": costs.cache_write,
        },
        "output_tokens": costs.completion,
        "output_tokens_details": {"reasoning_tokens": costs.reasoning},
        "total_tokens": costs.prompt + costs.completion,
    }


def _first_tool(fields: Fields) -> str:
    match fields.get("tools"):
        case [{"name": str(name)}, *_]:
            return name
    return "lookup"


def _event(kind: str, fields: Mapping[str, Any]) -> bytes:
    data = orjson.dumps({"type": kind, **fields})
    return chunk(f"event: {kind}\ndata: ".encode() + data + b"\n\n")
