"""Request: bytes in, a Call out. Pure; parses only what admission needs and refuses what would
hurt before it is parsed.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import orjson

from proxy.errors import (
    BodyEmpty,
    BodyInvalid,
    BodyNotObject,
    BodyTooDeep,
    BodyTooManyItems,
    FieldInvalid,
    FieldMissing,
    HeaderInvalid,
)
from proxy.meters import Job
from proxy.settings import Settings
from proxy.types import Call

MODEL_MAX = 256  # characters of a model's name
CHOICES_MAX = 128
OUTPUT_MAX = 10_000_000  # tokens that a client may ask for
NO_HEADERS: Mapping[bytes, bytes] = MappingProxyType({})
#: What is read here, and on which a hold depends.
READ = frozenset(
    {
        *("model", "messages", "n", "stream", "stream_options", "user"),
        *("max_tokens", "max_completion_tokens", "max_cost"),
    }
)
_job_id = re.compile(rb"[A-Za-z0-9._-]{1,128}").fullmatch
_amount = re.compile(rb"(0|[1-9][0-9]{0,8})(\.[0-9]{1,6})?").fullmatch
CREDITS = "it takes credits with at most 6 decimals, such as 12.5"
END_USER_MAX = 256  # characters that are kept of `user`


def chat(
    rid: str,
    path: str,
    body: bytes,
    settings: Settings,
    headers: Mapping[bytes, bytes] = NO_HEADERS,
    client: str = "",
) -> Call:
    """A chat completion, as far as it must be understood here; the provider judges the rest."""
    fields = read_object(body, settings)
    _check_spelling(fields)
    model = _model(fields)
    messages = fields.get("messages")
    if messages is None:
        raise FieldMissing("messages", name="messages")
    if not isinstance(messages, list) or not messages:
        raise FieldInvalid(
            "messages", name="messages", why="it takes a list of at least one message"
        )
    for message in messages:
        if not isinstance(message, dict):
            raise FieldInvalid("messages", name="messages", why="each of them is an object")
    stream = fields.get("stream")
    if stream is None:
        stream = False
    if not isinstance(stream, bool):
        raise FieldInvalid("stream", name="stream", why="it takes true or false")
    return Call(
        rid=rid,
        path=path,
        body=body,
        fields=fields,
        model=model,
        stream=stream,
        usage_wanted=stream and _usage_wanted(fields),
        output_max=_output_max(fields),
        end_user=_end_user(fields),
        job=job_of(headers),
        client=client,
        max_cost_ucr=_max_cost(headers, fields),
    )


def with_maximum(call: Call, tokens: int) -> Call:
    """The same call with a maximum of each choice that the client had not named."""
    return replace(call, lowered_to=tokens, output_max=tokens * choices_of(call.fields))


def read_object(body: bytes, settings: Settings) -> dict[str, Any]:
    """The body as a JSON object, within the limits of depth and size."""
    if not body or body.isspace():
        raise BodyEmpty
    openers, limit = _openers(body), settings.json_items_max
    if len(body) > limit and openers + body.count(b",") > limit and _is_crowded(body, limit):
        raise BodyTooManyItems(limit=limit)
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        if "depth" in problem.msg:
            raise BodyTooDeep(limit=settings.json_depth_max) from None
        raise BodyInvalid(why=_where(problem)) from None
    if not isinstance(fields, dict):
        raise BodyNotObject
    # fewer brackets than levels allowed: no need to look
    if openers > settings.json_depth_max and _deeper_than(fields, settings.json_depth_max):
        raise BodyTooDeep(limit=settings.json_depth_max)
    return fields


def _openers(body: bytes) -> int:
    return body.count(b"{") + body.count(b"[")


def _is_crowded(body: bytes, limit: int) -> bool:
    """Whether brackets and commas are too many also without those inside of texts."""
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') > 4 * limit:  # an item has two texts at most: its name and itself
        return True
    bare = b"".join(plain.split(b'"')[::2])
    return _openers(bare) + bare.count(b",") > limit


def _where(problem: orjson.JSONDecodeError) -> str:
    return (
        f"{problem.msg.split(':')[0].rstrip('.')} at line {problem.lineno} column {problem.colno}"
    )


def _deeper_than(value: Any, limit: int) -> bool:
    level: list[Any] = [value]
    for _ in range(limit):
        inner: list[Any] = []
        for item in level:
            children = item.values() if isinstance(item, dict) else item
            inner += [child for child in children if isinstance(child, dict | list)]
        if not inner:
            return False
        level = inner
    return True


def _check_spelling(fields: Mapping[str, Any]) -> None:
    """Some providers read names whatever their case: they would find a second model or maximum."""
    names = "".join(fields)
    if names.isascii() and names.islower():
        return
    for name in fields:
        if name not in READ and (meant := name.casefold()) in READ:
            raise FieldInvalid(meant, name=name, why=f"write it as `{meant}`")


def _model(fields: Mapping[str, Any]) -> str:
    model = fields.get("model")
    if model is None:
        raise FieldMissing("model", name="model")
    if not isinstance(model, str) or not 0 < len(model) <= MODEL_MAX:
        raise FieldInvalid("model", name="model", why="it takes the name of a model")
    return model


def _usage_wanted(fields: Mapping[str, Any]) -> bool:
    options = fields.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise FieldInvalid("stream_options", name="stream_options", why="it takes an object")
    return options.get("include_usage") is True


def _output_max(fields: Mapping[str, Any]) -> int | None:
    """Tokens that all choices together may have, if the client sets a limit."""
    choices = _whole(fields, "n", 1, CHOICES_MAX) or 1
    newer = _whole(fields, "max_completion_tokens", 1, OUTPUT_MAX)
    older = _whole(fields, "max_tokens", 1, OUTPUT_MAX)
    # a provider that knows but one of the two obeys that one, so the larger is what may come
    limits = [limit for limit in (newer, older) if limit is not None]
    return max(limits) * choices if limits else None


def choices_of(fields: Mapping[str, Any]) -> int:
    return _whole(fields, "n", 1, CHOICES_MAX) or 1


def _whole(fields: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    # to Python a bool is an int
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise FieldInvalid(name, name=name, why=f"it takes a whole number from {low} to {high}")
    return value


def _end_user(fields: Mapping[str, Any]) -> str | None:
    user = fields.get("user")
    if user is None:
        return None
    if not isinstance(user, str):
        raise FieldInvalid("user", name="user", why="it takes a text")
    # no database takes this character in a text, and the ledger must be able to book the name
    return user.replace("\0", "")[:END_USER_MAX] or None


def job_of(headers: Mapping[bytes, bytes]) -> Job | None:
    """`X-Job-Id` joins requests to a job, `X-Job-Max-Cost` gives it a ceiling in credits."""
    name, cost = headers.get(b"x-job-id"), headers.get(b"x-job-max-cost")
    if name is None:
        if cost is not None:
            raise HeaderInvalid(name="X-Job-Max-Cost", why="it needs an X-Job-Id beside it")
        return None
    if not _job_id(name):
        why = "it takes 1 to 128 letters, digits, and . _ - of a name"
        raise HeaderInvalid(name="X-Job-Id", why=why)
    return Job(name.decode(), None if cost is None else _header_ucr("X-Job-Max-Cost", cost))


def _max_cost(headers: Mapping[bytes, bytes], fields: dict[str, Any]) -> int | None:
    """`X-Max-Cost`, or the field `max_cost`, which no provider sees; of both the lower."""
    header, field = headers.get(b"x-max-cost"), fields.pop("max_cost", None)
    allowed = [] if header is None else [_header_ucr("X-Max-Cost", header)]
    if field is not None:
        number = _ucr(str(field).encode()) if type(field) in (str, int, float) else None
        if number is None:
            raise FieldInvalid("max_cost", name="max_cost", why=CREDITS)
        allowed.append(number)
    return min(allowed, default=None)


def _header_ucr(name: str, text: bytes) -> int:
    number = _ucr(text)
    if number is None:
        raise HeaderInvalid(name=name, why=CREDITS)
    return number


def _ucr(text: bytes) -> int | None:
    if not _amount(text):
        return None
    whole, _, decimals = text.decode().partition(".")
    return int(whole) * 1_000_000 + int(decimals.ljust(6, "0"))
