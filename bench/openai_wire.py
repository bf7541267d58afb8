"""OpenAI's dialect for the fake provider: reads a body into an Ask, builds good answers. Pure.

Which fault is put into an answer is decided by `bench.faults`.
"""

from collections.abc import Iterator, Mapping

import orjson

from bench.ask import (
    ARGUMENTS,
    CHOICES_MAX,
    REFUSAL,
    THOUGHT,
    Ask,
    Error,
    listed,
    model_of,
    number,
    object_of,
    parts,
    reason_of,
)
from bench.ask import BadRequest as BadRequest
from bench.modes import Mode
from bench.plan import Costs, chunk
from bench.seen import Seen

ANSWER_ID = "chatcmpl-mock0000000000000000000000"
CREATED = 1_767_225_600


class OpenAIWire:
    stream_type = "text/event-stream; charset=utf-8"
    end_mark = chunk(b"data: [DONE]\n\n")
    garbage = chunk(b'data: {"id": "chatcmpl-broken", "choi\n\nnonsense\n\ndata: \xff\xfe\xfa\n\n')

    def read(self, request: Seen) -> Ask:
        return read_ask(request.body)

    def body(self, ask: Ask, mode: Mode, content: str, costs: Costs) -> Mapping[str, object]:
        return completion_body(ask, mode, content, costs)

    def events(self, ask: Ask, mode: Mode, costs: Costs) -> "Events":
        return Events(ask, mode, costs)

    def error(self, error: Error) -> Mapping[str, object]:
        return error_body(error.message, error.kind, error.param, error.code)

    def error_event(self, error: Error) -> bytes:
        return event(self.error(error))


def read_ask(body: bytes) -> Ask:
    """Checks and reads a body as OpenAI would; raises BadRequest."""
    fields = object_of(body)
    model = model_of(fields)
    listed(fields, "messages")
    stream = fields.get("stream") is True
    return Ask(
        model,
        stream,
        _include_usage(fields, stream),
        number(fields, "n", CHOICES_MAX) or 1,
        number(fields, "max_completion_tokens") or number(fields, "max_tokens"),
        _first_tool(fields),
    )


def _include_usage(fields: Mapping[str, object], stream: bool) -> bool:
    options = fields.get("stream_options")
    if options is None:
        return False
    if not stream:
        raise BadRequest(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            "stream_options",
        )
    return isinstance(options, dict) and options.get("include_usage") is True


def _first_tool(fields: Mapping[str, object]) -> str:
    match fields.get("tools"):
        case [{"function": {"name": str(name)}}, *_]:
            return name
    return "lookup"


def usage_of(costs: Costs) -> dict[str, object]:
    return {
        "prompt_tokens": costs.prompt,
        "completion_tokens": costs.completion,
        "total_tokens": costs.prompt + costs.completion,
        "prompt_tokens_details": {
            "cached_tokens": costs.cached,
            "cache_write_tokens": costs.cache_write,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": costs.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def tool_calls(ask: Ask) -> list[dict[str, object]]:
    """Two calls; their arguments are JSON in a string, as OpenAI's are."""
    return [
        {
            "id": f"call_mock{i}",
            "type": "function",
            "function": {"name": ask.tool, "arguments": arguments},
        }
        for i, arguments in enumerate(ARGUMENTS)
    ]


def completion_body(ask: Ask, mode: Mode, content: str, costs: Costs) -> dict[str, object]:
    """A plain answer."""
    message: dict[str, object] = {"role": "assistant", "content": content, "refusal": None}
    if mode.behaviour == "tools":
        message |= {"content": None, "tool_calls": tool_calls(ask)}
    elif mode.behaviour == "thinking":
        message["reasoning_content"] = THOUGHT
    elif mode.behaviour == "refusal":
        message |= {"content": None, "refusal": REFUSAL}
    choice = {"message": message, "logprobs": None, "finish_reason": reason_of(ask, mode)}
    body = _envelope(ask, "chat.completion")
    body["choices"] = [{"index": i, **choice} for i in range(ask.choices)]
    if mode.behaviour != "nousage":
        body["usage"] = usage_of(costs)
    return body


def _envelope(ask: Ask, kind: str) -> dict[str, object]:
    return {
        "id": ANSWER_ID,
        "object": kind,
        "created": CREATED,
        "model": ask.model,
        "service_tier": "default",
        "system_fingerprint": "fp_mock",
    }


class Events:
    """The events of one stream as chunks of HTTP; the choices of one piece are one write."""

    def __init__(self, ask: Ask, mode: Mode, costs: Costs) -> None:
        self._ask, self._mode, self._costs = ask, mode, costs
        self._base = _envelope(ask, "chat.completion.chunk")
        self._tells_usage = ask.include_usage and mode.behaviour != "nousage"

    def opening(self) -> bytes:
        early = self._tells_usage and self._mode.behaviour == "usage-early"
        usage = usage_of(self._costs) if early else None
        first = self._all({"role": "assistant", "content": "", "refusal": None}, usage=usage)
        if self._mode.behaviour == "thinking":
            first += self._all({"reasoning_content": THOUGHT})
        return first

    def pieces(self, content: str) -> tuple[bytes, ...]:
        """The content in as many parts as the mode wants; of tool calls those they have."""
        if self._mode.behaviour == "tools":
            return tuple(self._all({"tool_calls": [part]}) for part in _call_parts(self._ask))
        if self._mode.behaviour == "refusal":
            return (self._all({"refusal": REFUSAL}),)
        made: dict[str, bytes] = {}  # parts repeat: an event is built once
        for part in parts(content, self._mode["chunks"]):
            if part not in made:
                made[part] = self._all({"content": part})
        return tuple(made[part] for part in parts(content, self._mode["chunks"]))

    def ending(self) -> bytes:
        last = self._all({}, finish=reason_of(self._ask, self._mode))
        if self._tells_usage and self._mode.behaviour != "usage-early":
            last += event({**self._base, "choices": [], "usage": usage_of(self._costs)})
        return last

    def _all(self, delta: object, finish: str | None = None, usage: object = None) -> bytes:
        rest: dict[str, object] = {"usage": usage} if self._ask.include_usage else {}
        return b"".join(
            event(
                {
                    **self._base,
                    "choices": [
                        {"index": i, "delta": delta, "logprobs": None, "finish_reason": finish}
                    ],
                    **rest,
                }
            )
            for i in range(self._ask.choices)
        )


def event(data: object) -> bytes:
    return chunk(b"data: " + orjson.dumps(data) + b"\n\n")


def _call_parts(ask: Ask) -> Iterator[dict[str, object]]:
    """Id and name come in the first part of a call alone, its arguments in fragments."""
    for index, call in enumerate(tool_calls(ask)):
        function = call["function"]
        assert isinstance(function, dict)
        text = function["arguments"]
        yield {"index": index, **call, "function": {"name": function["name"], "arguments": ""}}
        for fragment in parts(text, 3):
            yield {"index": index, "function": {"arguments": fragment}}


def error_body(message: str, kind: str, param: str | None, code: str | None) -> dict[str, object]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
