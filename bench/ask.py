"""What the fake provider has understood of a request, in whichever dialect it was; and the pieces
from which its answers are made. Pure.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from bench.modes import Mode
from bench.plan import Costs
from bench.seen import Seen

CHOICES_MAX = 16
TEXT = "The quick brown fox jumps over the lazy dog, and nothing else happens at all. "
THOUGHT = "Let me think about that for a moment. "
SIGNATURE = "c2lnbmVkLWJ5LXRoZS1mYWtl"
REFUSAL = "The fake provider does not talk about this."
Fields = Mapping[str, Any]


class BadRequest(ValueError):
    """The body is not one of this dialect; `param` names the field."""

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
    form: str = ""  # in which numbers or images are wanted
    wire: str = "openai"


@dataclass(frozen=True, slots=True)
class Error:
    """As OpenAI tells it; other dialects take of it what they have words for."""

    status: int
    message: str
    kind: str
    param: str | None = None
    code: str | None = None
    retry_s: int = 0


class Events(Protocol):
    """The events of one stream as chunks of HTTP."""

    def opening(self) -> bytes: ...

    def pieces(self, content: str) -> tuple[bytes, ...]:
        """The content in as many parts as the mode wants; of tool calls those they have."""

    def ending(self) -> bytes: ...


class Wire(Protocol):
    """One dialect of the fake provider."""

    stream_type: str
    end_mark: bytes
    garbage: bytes  # of a stream, instead of its rest

    def read(self, request: Seen) -> Ask:
        """Checks and reads a body as the provider would; raises BadRequest."""

    def body(self, ask: Ask, mode: Mode, content: str, costs: Costs) -> Fields:
        """A plain answer."""

    def events(self, ask: Ask, mode: Mode, costs: Costs) -> Events: ...

    def error(self, error: Error) -> Fields: ...

    def error_event(self, error: Error) -> bytes:
        """The same in the middle of a stream."""


def object_of(body: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadRequest("We could not parse the JSON body of your request.") from None
    if not isinstance(fields, dict):
        raise BadRequest("The body must be a JSON object.")
    return fields


def number(fields: Fields, name: str, maximum: int = 10_000_000) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= maximum:
        raise BadRequest(f"Invalid '{name}': expected an integer from 1 to {maximum}.", name)
    return value


def listed(fields: Fields, name: str) -> list[dict[str, Any]]:
    """A list of at least one object, as turns are."""
    value = fields.get(name)
    if not isinstance(value, list) or not value:
        raise BadRequest(f"Missing required parameter: '{name}'.", name)
    if not all(isinstance(one, dict) for one in value):
        raise BadRequest(f"Invalid '{name}': expected objects.", name)
    return value


def model_of(fields: Fields) -> str:
    model = fields.get("model")
    if not isinstance(model, str):
        raise BadRequest("you must provide a model parameter", "model")
    return model


def costs_of(ask: Ask, mode: Mode) -> Costs:
    """What the whole answer costs; a caller's maximum is kept, as a provider keeps it."""
    billed = 0 if mode.behaviour == "usage-zero" else 1
    completion = completion_of(ask, mode)
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


def completion_of(ask: Ask, mode: Mode) -> int:
    return mode["out"] if ask.tokens_max is None else min(mode["out"], ask.tokens_max)


def reason_of(ask: Ask, mode: Mode) -> str:
    """length, tool_calls, content_filter or stop."""
    if mode.behaviour == "refusal":
        return "content_filter"
    if completion_of(ask, mode) < mode["out"]:
        return "length"
    return "tool_calls" if mode.behaviour == "tools" else "stop"


def content_of(mode: Mode) -> str:
    size = mode["bytes"]
    return (TEXT * (size // len(TEXT) + 1))[:size]


ARGUMENTS = ('{"city": "Zürich"}', '{"city": "Oslo", "unit": "celsius"}')


def parts(content: str, count: int) -> Iterator[str]:
    """Exactly `count` parts, as equal as they can be; some empty where content is short."""
    size = len(content)
    return (content[size * i // count : size * (i + 1) // count] for i in range(count))
