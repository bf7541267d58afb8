"""OpenAI's dialect for the fake provider: reads a body into an Ask, builds good answers. Pure.

Which fault is put into an answer is decided by `bench.faults`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import orjson

from bench.modes import Mode
from bench.plan import Costs, chunk

CHOICES_MAX = 16
ANSWER_ID = "chatcmpl-mock0000000000000000000000"
CREATED = 1_767_225_600
TEXT = "The quick brown fox jumps over the lazy dog, and nothing else happens at all. "


class BadRequest(ValueError):
    """The body is not a chat completion's; `param` names the field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Ask:
    """Of a request all that shapes its answer; equal asks are answered by equal bytes."""

    model: str
    stream: bool = False
    include_usage: bool = False
    choices: int = 1
    tokens_max: int | None = None
    tool: str = "lookup"


def read_ask(body: bytes) -> Ask:
    """Checks and reads a body as OpenAI would; raises BadRequest."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadRequest("We could not parse the JSON body of your request.") from None
    if not isinstance(fields, dict):
        raise BadRequest("The body must be a JSON object.")
    model, messages = fields.get("model"), fields.get("messages")
    if not isinstance(model, str):
        raise BadRequest("you must provide a model parameter", "model")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("Missing required parameter: 'messages'.", "messages")
    stream = fields.get("stream") is True
    return Ask(
        model,
        stream,
        _include_usage(fields, stream),
        _number(fields, "n", CHOICES_MAX) or 1,
        _number(fields, "max_completion_tokens") or _number(fields, "max_tokens"),
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


def _number(fields: Mapping[str, object], name: str, maximum: int = 10_000_000) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= maximum:
        raise BadRequest(f"Invalid '{name}': expected an integer from 1 to {maximum}.", name)
    return value


def _first_tool(fields: Mapping[str, object]) -> str:
    match fields.get("tools"):
        case [{"function": {"name": str(name)}}, *_]:
            return name
    return "lookup"


def costs_of(ask: Ask, mode: Mode) -> Costs:
    """What the whole answer costs; a caller's maximum is kept, as a provider keeps it."""
    billed = 0 if mode.behaviour == "usage-zero" else 1
    completion = _completion(ask, mode)
    return Costs(
        model=ask.model,
        stream=ask.stream,
        prompt=mode["in"] * billed,
        completion=completion * ask.choices * billed,
        cached=mode["cached"] * billed,
        cache_write=mode["cache_write"] * billed,
        reasoning=min(mode["reasoning"], completion) * ask.choices * billed,
        pieces=mode["chunks"] if ask.stream else 1,
    )


def _completion(ask: Ask, mode: Mode) -> int:
    return mode["out"] if ask.tokens_max is None else min(mode["out"], ask.tokens_max)


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


def finish_reason(ask: Ask, mode: Mode) -> str:
    if _completion(ask, mode) < mode["out"]:
        return "length"
    return "tool_calls" if mode.behaviour == "tools" else "stop"


def content_of(mode: Mode) -> str:
    size = mode["bytes"]
    return (TEXT * (size // len(TEXT) + 1))[:size]


def tool_calls(ask: Ask) -> list[dict[str, object]]:
    """Two calls; their arguments are JSON in a string, as OpenAI's are."""
    return [
        {
            "id": f"call_mock{i}",
            "type": "function",
            "function": {"name": ask.tool, "arguments": arguments},
        }
        for i, arguments in enumerate(('{"city": "Zürich"}', '{"city": "Oslo", "unit": "celsius"}'))
    ]


def completion_body(ask: Ask, mode: Mode, content: str, costs: Costs) -> dict[str, object]:
    """A plain answer."""
    message: dict[str, object] = {"role": "assistant", "content": content, "refusal": None}
    if mode.behaviour == "tools":
        message |= {"content": None, "tool_calls": tool_calls(ask)}
    choice = {"message": message, "logprobs": None, "finish_reason": finish_reason(ask, mode)}
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
        return self._all({"role": "assistant", "content": "", "refusal": None}, usage=usage)

    def pieces(self, content: str) -> tuple[bytes, ...]:
        """The content in as many parts as the mode wants; of tool calls those they have."""
        if self._mode.behaviour == "tools":
            return tuple(self._all({"tool_calls": [part]}) for part in _call_parts(self._ask))
        made: dict[str, bytes] = {}  # parts repeat: an event is built once
        for part in _parts(content, self._mode["chunks"]):
            if part not in made:
                made[part] = self._all({"content": part})
        return tuple(made[part] for part in _parts(content, self._mode["chunks"]))

    def ending(self) -> bytes:
        last = self._all({}, finish=finish_reason(self._ask, self._mode))
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


DONE = chunk(b"data: [DONE]\n\n")


def event(data: object) -> bytes:
    return chunk(b"data: " + orjson.dumps(data) + b"\n\n")


def _parts(content: str, count: int) -> Iterator[str]:
    """Exactly `count` parts, as equal as they can be; some empty where content is short."""
    size = len(content)
    return (content[size * i // count : size * (i + 1) // count] for i in range(count))


def _call_parts(ask: Ask) -> Iterator[dict[str, object]]:
    """Id and name come in the first part of a call alone, its arguments in fragments."""
    for index, call in enumerate(tool_calls(ask)):
        function = call["function"]
        assert isinstance(function, dict)
        text = function["arguments"]
        yield {"index": index, **call, "function": {"name": function["name"], "arguments": ""}}
        for fragment in _parts(text, 3):
            yield {"index": index, "function": {"arguments": fragment}}


def error_body(message: str, kind: str, param: str | None, code: str | None) -> dict[str, object]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
