"""A provider's refusal as an error of ours: what a caller can mend keeps its status. Pure."""

import re

import orjson

from proxy.errors import OpsError, UpstreamKeyRefused, UpstreamRefused
from proxy.masks import mask
from proxy.providers.fields import NOTHING, Object
from proxy.types import Deployment

ERROR_TEXT_MAX = 2_000  # characters of a provider's message that are passed on
# what a caller can mend passes with its status; what he cannot is a bad gateway
PASSED_ON = frozenset({400, 404, 409, 413, 415, 422, 429})
TRANSIENT = frozenset({408, 498, 499, 500, 502, 503, 504, 529})
_SECONDS = re.compile(r"(\d{1,6})(\.\d{1,9})?s?")


def refusal(deployment: Deployment, status: int, message: str) -> OpsError:
    if status in (401, 403):
        return UpstreamKeyRefused(model=deployment.model)
    said = mask(message or "no message", deployment.secret)[:ERROR_TEXT_MAX]
    passed = status if status in PASSED_ON else 503 if status in TRANSIENT else 502
    problem = UpstreamRefused(passed, status=status, model=deployment.model, message=said)
    if passed < 500:
        problem.kind = "rate_limit_error" if passed == 429 else "invalid_request_error"
    if status == 402:
        problem.retry = False  # their account is empty: no second try fills it
    return problem


def seconds(told: str) -> int | None:
    """A wait such as `7s` or `0.5s`, in whole seconds and never too short."""
    found = _SECONDS.fullmatch(told)
    return None if found is None else int(found[1]) + bool(float(found[2] or 0))


def error_object(answer: bytes) -> Object:
    """What stands under `error`, or the whole where nothing does; some put it into a list."""
    try:
        whole = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return NOTHING
    if isinstance(whole, list) and whole:
        whole = whole[0]
    error = whole.get("error", whole) if isinstance(whole, dict) else NOTHING
    return error if isinstance(error, dict) else NOTHING


def plain_text(answer: bytes) -> str:
    """What is no JSON; a page of some proxy in between tells a client nothing."""
    said = answer.decode("utf-8", "replace").strip()
    return "" if said.startswith("<") else said
