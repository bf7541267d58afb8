"""What the fake provider is asked to do: a model's name is read into a Mode. Pure.

    model     = [ "mock/" ] behaviour [ "@" n ] [ "?" name "=" number { "&" name "=" number } ]
    behaviour = a name of BEHAVIOURS, or a status from 400 to 599

`@n` says after how many pieces of content the fault comes. Examples: `mock/ok?in=12&out=34`,
`mock/hang@3`, `mock/503?times=2`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

PREFIX = "mock/"
NAME_CHARS_MAX = 400

_NAME = re.compile(r"(?P<behaviour>[a-z0-9-]+)(?:@(?P<at>[0-9]{1,6}))?(?:\?(?P<parameters>.*))?")
_NUMBER = re.compile(r"[0-9]{1,9}")
_NONE: Mapping[str, int] = MappingProxyType({})


class UnknownModel(ValueError):
    """No such behaviour: the provider answers 404, as for any model that it does not have."""


class BadParameter(ValueError):
    """The behaviour exists, a parameter is wrong: the provider answers 400 and says which."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One way to answer; `at` is where its fault comes when the name does not say."""

    says: str
    at: int = 0
    defaults: Mapping[str, int] = field(default_factory=lambda: _NONE)


BEHAVIOURS: Mapping[str, Behaviour] = MappingProxyType(
    {
        "ok": Behaviour("answers well"),
        "tools": Behaviour("answers with two tool calls, of the first tool that the request names"),
        "thinking": Behaviour("answers well, after a thought with its signature"),
        "refusal": Behaviour("refuses: nothing but the reason, where there is a place for it"),
        "echo": Behaviour("the content is JSON: method, path, headers and body of the request"),
        "slow": Behaviour("answers well, late", defaults={"latency_ms": 1_000, "chunk_ms": 100}),
        "bigline": Behaviour(
            "answers well, its content in one line of 1.25 MiB",
            defaults={"chunks": 1, "bytes": 1_310_720},
        ),
        "nousage": Behaviour("answers well, never tells usage"),
        "usage-early": Behaviour("tells usage in a stream's first event, null afterwards"),
        "usage-zero": Behaviour("tells usage of 0 tokens, and bills 0"),
        "nodone": Behaviour("a whole stream that ends without [DONE], or its dialect's mark"),
        "lingers": Behaviour("a whole stream with its usage, then silence in place of its end"),
        "hang": Behaviour("no first byte, ever; @n: silent after n pieces"),
        "truncate": Behaviour("cut after n pieces: no end, connection closed", at=1),
        "close": Behaviour("connection closed without an answer"),
        "reset": Behaviour("connection reset (RST) without an answer; @n: after n pieces"),
        "garbage": Behaviour("200 and no JSON, no SSE; @n: after n good pieces"),
        "error-in-stream": Behaviour("200, n pieces, then an error event", at=1),
        "bomb": Behaviour("200 and content without end"),
        "redirect": Behaviour("307 to /redirected, which nobody should ask for"),
        "quota": Behaviour("429 insufficient_quota, which nobody should try again"),
    }
)


@dataclass(frozen=True, slots=True)
class Parameter:
    says: str
    default: int
    maximum: int


PARAMETERS: Mapping[str, Parameter] = MappingProxyType(
    {
        "in": Parameter("prompt tokens", 12, 10_000_000),
        "out": Parameter("completion tokens of each choice", 34, 10_000_000),
        "cached": Parameter("of the prompt: read from the cache", 0, 10_000_000),
        "cache_write": Parameter("of the prompt: written to the cache", 0, 10_000_000),
        "cache_hour": Parameter("of cache_write: for an hour", 0, 10_000_000),
        "reasoning": Parameter("of the completion: reasoning", 0, 10_000_000),
        "latency_ms": Parameter("before the first byte", 0, 600_000),
        "chunks": Parameter("pieces of content in a stream", 8, 100_000),
        "chunk_ms": Parameter("between two pieces; 0: the stream is sent at once", 0, 60_000),
        "bytes": Parameter("of content, over all pieces", 160, 64 * 1024 * 1024),
        "retry_after": Parameter("seconds, told by an error; 429 tells 1 by itself", 0, 86_400),
        "times": Parameter("the fault comes this often, then all is ok; 0: always", 0, 1_000_000),
        "tag": Parameter("means nothing; tells two equal names apart", 0, 999_999_999),
    }
)


@dataclass(frozen=True, slots=True)
class Mode:
    """A model's name, understood; `status` is 200 unless the behaviour is an error's number."""

    behaviour: str
    status: int
    at: int
    parameters: Mapping[str, int]

    def __getitem__(self, name: str) -> int:
        return self.parameters[name]


def parse(model: str) -> Mode:
    """Reads a model's name. Raises UnknownModel or BadParameter."""
    match = _NAME.fullmatch(model.removeprefix(PREFIX)) if len(model) <= NAME_CHARS_MAX else None
    if match is None:
        raise UnknownModel(model[:NAME_CHARS_MAX])
    name = match["behaviour"]
    status = int(name) if re.fullmatch(r"[45][0-9]{2}", name) else 200
    known = BEHAVIOURS.get(name) or (
        Behaviour("answers with this status") if status > 200 else None
    )
    if known is None:
        raise UnknownModel(model)
    at = int(match["at"]) if match["at"] else known.at
    return Mode(name, status, at, _parameters(known, match["parameters"]))


def _parameters(known: Behaviour, text: str | None) -> Mapping[str, int]:
    values = {name: parameter.default for name, parameter in PARAMETERS.items()}
    values.update(known.defaults)
    for pair in text.split("&") if text else ():
        name, _, number = pair.partition("=")
        parameter = PARAMETERS.get(name)
        if parameter is None:
            raise BadParameter(f"unknown parameter {name!r}; there are {', '.join(PARAMETERS)}")
        if not _NUMBER.fullmatch(number) or int(number) > parameter.maximum:
            raise BadParameter(f"{name} must be a number from 0 to {parameter.maximum}")
        values[name] = int(number)
    _check_parts(values)
    return MappingProxyType(values)


def _check_parts(values: Mapping[str, int]) -> None:
    if values["cached"] + values["cache_write"] > values["in"]:
        raise BadParameter("cached and cache_write are parts of in: together they must not pass it")
    if values["cache_hour"] > values["cache_write"]:
        raise BadParameter("cache_hour is a part of cache_write: it must not pass it")
    if values["reasoning"] > values["out"]:
        raise BadParameter("reasoning is a part of out: it must not pass it")
    if values["chunks"] < 1:
        raise BadParameter("chunks must be at least 1")
