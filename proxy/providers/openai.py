"""The OpenAI dialect, which is also the door's own: bytes pass through wherever they can."""

from collections.abc import Mapping
from math import ceil
from typing import Any

import orjson

from proxy.dialects.base import ProviderDialect
from proxy.errors import OpsError, UpstreamKeyRefused, UpstreamRefused
from proxy.masks import mask
from proxy.providers.base import Headers
from proxy.types import Call, Deployment, Usage

#: What every server that speaks like OpenAI may take, each at a path of its own.
COMPATIBLE = frozenset(
    {
        *("chat", "completions", "embeddings", "moderations", "rerank"),
        *("images", "speech", "transcription", "translation"),
    }
)
NATIVE = COMPATIBLE | {"responses"}
ERROR_TEXT_MAX = 2_000  # characters of a provider's message that are passed on
# what a caller can mend passes with its status; what he cannot is a bad gateway
PASSED_ON = frozenset({400, 404, 409, 413, 415, 422, 429})
TOKENS_MAX = 1_000_000_000  # a provider that counts more than this has not counted
MAXIMA = ("max_tokens", "max_completion_tokens")
TRANSIENT = frozenset({408, 498, 500, 502, 503, 504, 529})


class OpenAI:
    """Answers the five questions for OpenAI and everything that speaks like it."""

    speech: ProviderDialect | None = None

    def __init__(self, native: frozenset[str] = NATIVE) -> None:
        self.native = native

    def url(self, deployment: Deployment, call: Call) -> str:
        return f"{deployment.base_url.rstrip('/')}/chat/completions"

    def headers(self, deployment: Deployment, call: Call) -> Headers:
        headers: Headers = (
            (b"content-type", b"application/json"),
            (b"accept", b"text/event-stream" if call.stream else b"application/json"),
            (b"accept-encoding", b"identity"),
            (b"user-agent", b"opscenter"),
            (b"x-request-id", call.rid.encode()),
        )
        if deployment.secret:
            headers += ((b"authorization", b"Bearer " + deployment.secret.encode()),)
        return headers

    def body(self, deployment: Deployment, call: Call) -> bytes:
        """Written anew from what was read: where a name stands twice in the client's bytes
        (`model`, `n`), a provider could read another one than was admitted. To search the bytes
        for such names costs more than to write them.
        """
        changes: dict[str, Any] = {"model": deployment.upstream_model}
        if call.stream:
            options = call.fields.get("stream_options") or {}
            changes["stream_options"] = {**options, "include_usage": True}
        if call.lowered_to is not None:
            changes |= _maxima(call.fields, call.lowered_to)
        return orjson.dumps({**call.fields, **changes})

    def usage(self, answer: bytes) -> Usage | None:
        try:
            whole = orjson.loads(answer)
        except orjson.JSONDecodeError:
            return None
        usage = whole.get("usage") if isinstance(whole, dict) else None
        return read_usage(usage) if isinstance(usage, dict) else None

    def error(self, deployment: Deployment, status: int, answer: bytes) -> OpsError:
        message = mask(_message(answer), deployment.secret)[:ERROR_TEXT_MAX]
        if status in (401, 403):
            return UpstreamKeyRefused(model=deployment.model)
        passed = status if status in PASSED_ON else 503 if status in TRANSIENT else 502
        problem = UpstreamRefused(passed, status=status, model=deployment.model, message=message)
        if passed < 500:
            problem.kind = "rate_limit_error" if passed == 429 else "invalid_request_error"
        return problem


def _maxima(fields: Mapping[str, Any], lowered_to: int) -> Mapping[str, int]:
    """Those that the client named, or the one that every provider knows."""
    named = [(one, most) for one in MAXIMA if (most := fields.get(one)) is not None]
    return {one: min(most, lowered_to) for one, most in named} or {MAXIMA[0]: lowered_to}


def read_usage(usage: Mapping[str, Any]) -> Usage | None:
    """OpenAI counts cached tokens inside the prompt and reasoning inside the completion; whatever
    the parts say, together they are never more than the whole."""
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    if prompt is None and completion is None:
        return None
    into = _details(usage, "prompt_tokens_details")
    out = _details(usage, "completion_tokens_details")
    prompt, completion = prompt or 0, completion or 0
    reasoning = _count(out, "reasoning_tokens") or 0
    if reasoning and _count(usage, "total_tokens") == prompt + completion + reasoning:
        completion += reasoning  # some count it beside the completion, and their total says so
    tokens = {**_parts("input", prompt, into, _INPUT), **_parts("output", completion, out, _OUTPUT)}
    return Usage({name: count for name, count in tokens.items() if count})


_INPUT = (
    ("cache_read", "cached_tokens"),
    ("cache_write", "cache_write_tokens"),
    ("audio_in", "audio_tokens"),
    ("image_in", "image_tokens"),
)
_OUTPUT = (
    ("reasoning", "reasoning_tokens"),
    ("audio_out", "audio_tokens"),
    ("image_out", "image_tokens"),
)


def _parts(
    side: str, whole: int, details: Mapping[str, Any], classes: tuple[tuple[str, str], ...]
) -> dict[str, int]:
    """Disjoint classes that add up to the whole; what no detail claims is plain."""
    parts = {}
    for name, field in classes:
        parts[name] = min(_count(details, field) or 0, whole)
        whole -= parts[name]
    return {side: whole, **parts}


def _message(answer: bytes) -> str:
    try:
        whole = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return answer.decode("utf-8", "replace").strip() or "no message"
    if isinstance(whole, list) and whole:
        whole = whole[0]  # some put their error into a list
    error = whole.get("error", whole) if isinstance(whole, dict) else whole
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or "no message")


def _details(usage: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    details = usage.get(name)
    return details if isinstance(details, dict) else {}


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    # bool is an int to Python, and some providers send whole floats
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return ceil(value) if 0 <= value <= TOKENS_MAX else None
