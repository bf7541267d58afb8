"""Anthropic's Messages: the five questions. Its own clients pass through, all others are said to it
as `anthropic_speech.py` writes them.
"""

from typing import Any

import orjson

from proxy.dialects.base import ProviderDialect
from proxy.errors import OpsError
from proxy.providers.anthropic_answer import read_usage
from proxy.providers.anthropic_speech import AnthropicSpeech
from proxy.providers.base import Headers
from proxy.providers.fields import count, inner, loaded, text
from proxy.providers.refusal import plain_text, refusal
from proxy.types import Call, Deployment, Usage

VERSION = b"2023-06-01"
SIGNED_IN = "sk-ant-oat"  # keys of a sign-in, which go elsewhere than others


class Anthropic:
    native = frozenset({"messages", "count_tokens"})
    speech: ProviderDialect | None = AnthropicSpeech()

    def url(self, deployment: Deployment, call: Call) -> str:
        base = deployment.base_url.rstrip("/")
        base = base if base.endswith("/v1") else f"{base}/v1"
        return f"{base}/messages/count_tokens" if call.free else f"{base}/messages"

    def headers(self, deployment: Deployment, call: Call) -> Headers:
        headers: Headers = (
            (b"content-type", b"application/json"),
            (b"accept", b"text/event-stream" if call.stream else b"application/json"),
            (b"accept-encoding", b"identity"),
            (b"user-agent", b"opscenter"),
            (b"x-request-id", call.rid.encode()),
            (b"anthropic-version", VERSION),
        )
        if call.betas:
            headers += ((b"anthropic-beta", call.betas.encode()),)
        secret = deployment.secret.encode()
        if not secret:
            return headers
        if deployment.secret.startswith(SIGNED_IN):
            return (*headers, (b"authorization", b"Bearer " + secret))
        return (*headers, (b"x-api-key", secret))

    def body(self, deployment: Deployment, call: Call) -> bytes:
        """Of its own clients: as they wrote it, with the model's name and the lowered maximum."""
        changes: dict[str, Any] = {"model": deployment.upstream_model}
        if call.lowered_to is not None:
            named = count(call.fields, "max_tokens")
            changes["max_tokens"] = min(named or call.lowered_to, call.lowered_to)
        return orjson.dumps({**call.fields, **changes})

    def usage(self, answer: bytes) -> Usage | None:
        """Of a stream's events one alone tells not all: the reader adds up what they tell."""
        frame = loaded(answer)
        told = inner(frame, "usage") or inner(inner(frame, "message"), "usage")
        return read_usage(told)

    def error(self, deployment: Deployment, status: int, answer: bytes) -> OpsError:
        said = text(inner(loaded(answer), "error"), "message") or plain_text(answer)
        return refusal(deployment, status, said)
