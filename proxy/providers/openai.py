"""The OpenAI dialect, which is also the door's own: bytes pass through wherever they can."""

from collections.abc import Mapping
from typing import Any

import orjson

from proxy.errors import OpsError, UpstreamKeyRefused, UpstreamRefused
from proxy.providers.base import Headers
from proxy.types import Call, Deployment, Usage

ERROR_TEXT_MAX = 2_000  # characters of a provider's message that are passed on
# what a caller can mend passes with its status; what he cannot is a bad gateway
PASSED_ON = frozenset({400, 404, 409, 413, 415, 422, 429})
TRANSIENT = frozenset({408, 498, 500, 502, 503, 504, 529})


class OpenAI:
    """Answers the five questions for OpenAI and everything that speaks like it."""

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
        asks_usage = not call.stream or call.usage_wanted
        if asks_usage and deployment.upstream_model == call.fields["model"]:
            return call.body
        fields = {**call.fields, "model": deployment.upstream_model}
        if call.stream:
            options = fields.get("stream_options") or {}
            fields["stream_options"] = {**options, "include_usage": True}
        return orjson.dumps(fields)

    def usage(self, answer: bytes) -> Usage | None:
        try:
            whole = orjson.loads(answer)
        except orjson.JSONDecodeError:
            return None
        usage = whole.get("usage") if isinstance(whole, dict) else None
        return read_usage(usage) if isinstance(usage, dict) else None

    def error(self, deployment: Deployment, status: int, answer: bytes) -> OpsError:
        message = mask(_message(answer), deployment.secret)
        if status in (401, 403):
            return UpstreamKeyRefused(model=deployment.model)
        passed = status if status in PASSED_ON else 503 if status in TRANSIENT else 502
        problem = UpstreamRefused(passed, status=status, model=deployment.model, message=message)
        if passed < 500 and status != 429:
            problem.kind = "invalid_request_error"
        return problem


def read_usage(usage: Mapping[str, Any]) -> Usage | None:
    """OpenAI counts cached tokens inside the prompt and reasoning inside the completion."""
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    if prompt is None and completion is None:
        return None
    into = _details(usage, "prompt_tokens_details")
    out = _details(usage, "completion_tokens_details")
    cached, written = _count(into, "cached_tokens") or 0, _count(into, "cache_write_tokens") or 0
    reasoning = _count(out, "reasoning_tokens") or 0
    tokens = {
        "input": max((prompt or 0) - cached - written, 0),
        "cache_read": cached,
        "cache_write": written,
        "output": max((completion or 0) - reasoning, 0),
        "reasoning": reasoning,
    }
    return Usage({name: count for name, count in tokens.items() if count})


def mask(text: str, secret: str) -> str:
    """Providers like to repeat the key they were given."""
    return text.replace(secret, "***") if secret else text


def _message(answer: bytes) -> str:
    try:
        whole = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return answer.decode("utf-8", "replace")[:ERROR_TEXT_MAX].strip() or "no message"
    error = whole.get("error", whole) if isinstance(whole, dict) else whole
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or "no message")[:ERROR_TEXT_MAX]


def _details(usage: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    details = usage.get(name)
    return details if isinstance(details, dict) else {}


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    # bool is an int to Python, and some providers send whole floats
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return None
    return int(value)
