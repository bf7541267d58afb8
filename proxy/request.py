"""Request: bytes in, a Call out. Pure; parses only what admission needs and refuses what would
hurt before it is parsed.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import orjson

from proxy import forms
from proxy.bounds.meters import Job
from proxy.errors import (
    BodyEmpty,
    BodyInvalid,
    BodyNotObject,
    BodyTooDeep,
    BodyTooManyItems,
    FieldInvalid,
    HeaderInvalid,
)
from proxy.fields import bookable, check_spelling, model_of
from proxy.served import Served
from proxy.settings import Settings
from proxy.types import Call

NO_HEADERS: Mapping[bytes, bytes] = MappingProxyType({})
BETAS_MAX = 2_000  # characters of the features on trial that a client names
_job_id = re.compile(rb"[A-Za-z0-9._-]{1,128}").fullmatch
_amount = re.compile(rb"(0|[1-9][0-9]{0,8})(\.[0-9]{1,6})?").fullmatch
CREDITS = "it takes credits with at most 6 decimals, such as 12.5"
_betas = re.compile(r"[A-Za-z0-9._, -]*").fullmatch


def read(
    served: Served,
    rid: str,
    path: str,
    body: bytes,
    settings: Settings,
    headers: Mapping[bytes, bytes] = NO_HEADERS,
    client: str = "",
) -> Call:
    """A call, as far as it must be understood here; the provider judges the rest."""
    parts = forms.read(body, headers.get(b"content-type", b"")) if served.form else []
    fields = forms.texts(parts) if served.form else read_object(body, settings)
    check_spelling(fields)
    model = model_of(fields)
    if "models" in fields and fields["models"] == [model]:
        del fields["models"]  # a router's, of others to fall back to: there is none
    stream, usage_wanted, output_max, end_user, choices = served.read(fields)
    return Call(
        rid=rid,
        path=path,
        body=body,
        fields=fields,
        model=model,
        stream=stream,
        usage_wanted=usage_wanted,
        output_max=output_max,
        end_user=end_user,
        job=job_of(headers),
        client=client,
        max_cost_ucr=_max_cost(headers, fields),
        kind=served.kind,
        dialect=served.dialect,
        choices=choices,
        free=bool(served.free),
        parts=parts,
        betas=betas_of(headers) if b"anthropic-beta" in headers else "",
    )


def with_maximum(call: Call, tokens: int) -> Call:
    """The same call with a maximum of each choice that the client had not named."""
    return replace(call, lowered_to=tokens, output_max=tokens * call.choices)


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


def credential(headers: Mapping[bytes, bytes]) -> bytes | None:
    """A program names its own account in X-Service-Key, which goes before Authorization: SDKs send
    that one in any case, or Anthropic's X-Api-Key."""
    named = headers.get(b"x-service-key")
    if named is None and (named := headers.get(b"authorization")) is not None:
        return named
    named = headers.get(b"x-api-key") if named is None else named
    return None if named is None else b"Bearer " + named


def end_user_of(headers: Mapping[bytes, bytes]) -> str | None:
    """Whom `X-End-User` names where there is no body with the field `user`."""
    return bookable(headers.get(b"x-end-user", b"").decode("utf-8", "replace"))


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


def betas_of(headers: Mapping[bytes, bytes]) -> str:
    """Features on trial that an Anthropic client names; the only header of his that goes on."""
    betas = headers[b"anthropic-beta"].decode("latin-1")
    if len(betas) > BETAS_MAX or not _betas(betas):
        why = f"it takes names of features, {BETAS_MAX} characters at most"
        raise HeaderInvalid(name="anthropic-beta", why=why)
    return betas


def _max_cost(headers: Mapping[bytes, bytes], fields: dict[str, Any]) -> int | None:
    """`X-Max-Cost`, or the field `max_cost`, which no provider sees; of both the lower."""
    header, field = headers.get(b"x-max-cost"), fields.pop("max_cost", None)
    if header is None and field is None:
        return None
    allowed = [] if header is None else [_header_ucr("X-Max-Cost", header)]
    if field is not None:
        number = _ucr(str(field).encode()) if type(field) in (str, int, float) else None
        if number is None:
            raise FieldInvalid("max_cost", name="max_cost", why=CREDITS)
        allowed.append(number)
    return min(allowed)


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
