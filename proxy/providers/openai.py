"""The OpenAI dialect, which is also the door's own: bytes pass through wherever they can."""

from collections.abc import Mapping
from typing import Any

import orjson

from proxy import forms
from proxy.dialects.base import ProviderDialect
from proxy.errors import OpsError, UpstreamKeyRefused, UpstreamRefused
from proxy.fields import LEGACY_OUTPUT
from proxy.masks import mask
from proxy.providers.base import Headers
from proxy.providers.fields import loaded
from proxy.providers.openai_speech import OpenAISpeech
from proxy.providers.openai_usage import read_usage, usage_in, with_tools
from proxy.types import Call, Deployment, Usage

#: What every server that speaks like OpenAI may take, each at a path of its own.
COMPATIBLE = frozenset(
    {
        *("chat", "completions", "embeddings", "moderations", "rerank"),
        *("images", "speech", "transcription", "translation", "files", "batches"),
    }
)
NATIVE = COMPATIBLE | {"responses"}
PATHS: Mapping[str, str] = {
    "chat": "/chat/completions",
    "completions": "/completions",
    "embeddings": "/embeddings",
    "moderations": "/moderations",
    "rerank": "/rerank",
    "images": "/images/generations",
    "speech": "/audio/speech",
    "transcription": "/audio/transcriptions",
    "translation": "/audio/translations",
    "responses": "/responses",
}
COUNTED_IF_ASKED = ("chat", "completions")  # streams that tell their usage on demand alone
BYTES = ("speech", "files")  # what may be answered with something else than JSON
ERROR_TEXT_MAX = 2_000  # characters of a provider's message that are passed on
# what a caller can mend passes with its status; what he cannot is a bad gateway
PASSED_ON = frozenset({400, 404, 409, 413, 415, 422, 429})
MAXIMA: Mapping[str, tuple[str, ...]] = {
    "chat": ("max_tokens", "max_completion_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
}
OLDER, NEWER = MAXIMA["chat"]
_FIXED: Headers = ((b"accept-encoding", b"identity"), (b"user-agent", b"opscenter"))
TRANSIENT = frozenset({408, 498, 500, 502, 503, 504, 529})


class OpenAI:
    """Answers the five questions for OpenAI and everything that speaks like it."""

    speech: ProviderDialect | None

    def __init__(self, native: frozenset[str] = NATIVE) -> None:
        self.native = native
        self.speech = OpenAISpeech(takes_thoughts=native is not NATIVE)

    def url(self, deployment: Deployment, call: Call) -> str:
        if call.target:
            return deployment.base_url.rstrip("/") + call.target
        path = PATHS[call.dialect] if call.dialect in self.native else PATHS["chat"]
        return deployment.base_url.rstrip("/") + path

    def headers(self, deployment: Deployment, call: Call) -> Headers:
        headers: Headers = (
            (b"content-type", b"application/json"),
            (b"accept", b"text/event-stream" if call.stream else b"application/json"),
            *_FIXED,
            (b"x-request-id", call.rid.encode()),
        )
        if call.parts or call.dialect in BYTES:
            headers = (_media_type(call), (b"accept", b"*/*"), *headers[2:])
        if deployment.secret:
            name = deployment.quirks.get("key_header")
            secret = deployment.secret.encode()
            shown = (name.encode(), secret) if name else (b"authorization", b"Bearer " + secret)
            headers += (shown,)
        return headers

    def body(self, deployment: Deployment, call: Call) -> bytes:
        """Written anew from what was read: where a name stands twice in the client's bytes
        (`model`, `n`), a provider could read another one than was admitted. To search the bytes
        for such names costs more than to write them.
        """
        if call.parts:
            return _form(deployment, call)
        if call.target:
            return call.body
        changes: dict[str, Any] = {"model": deployment.upstream_model}
        asked = call.dialect in COUNTED_IF_ASKED
        if call.stream and asked and deployment.quirks.get("stream_options", True):
            options = call.fields.get("stream_options") or {}
            changes["stream_options"] = {**options, "include_usage": True}
        if call.dialect == "completions" and call.fields.get("max_tokens") is None:
            changes["max_tokens"] = LEGACY_OUTPUT
        if call.lowered_to is not None:
            changes |= _maxima(call, call.lowered_to, deployment.quirks.get("maximum"))
        fields = {**call.fields, **changes}
        if self.native is not NATIVE and deployment.quirks.get("maximum") != NEWER:
            _by_older_name(fields)
        return orjson.dumps(fields)

    def usage(self, answer: bytes) -> Usage | None:
        frame = loaded(answer)
        return with_tools(read_usage(usage_in(frame)), frame)

    def error(self, deployment: Deployment, status: int, answer: bytes) -> OpsError:
        message = mask(_message(answer), deployment.secret)[:ERROR_TEXT_MAX]
        if status in (401, 403):
            return UpstreamKeyRefused(model=deployment.model)
        passed = status if status in PASSED_ON else 503 if status in TRANSIENT else 502
        problem = UpstreamRefused(passed, status=status, model=deployment.model, message=message)
        if passed < 500:
            problem.kind = "rate_limit_error" if passed == 429 else "invalid_request_error"
        return problem


def _maxima(call: Call, lowered_to: int, usual: str | None) -> Mapping[str, int]:
    """Those that the client named, or the one that this provider knows."""
    names = MAXIMA.get(call.dialect, MAXIMA["chat"])
    named = [(one, most) for one in names if (most := call.fields.get(one)) is not None]
    found = {one: min(most, lowered_to) for one, most in named}
    return found or {usual if usual in names else names[0]: lowered_to}


def _by_older_name(fields: dict[str, Any]) -> None:
    """A server that does not know the newer name of the maximum would obey none; the older one is
    known to all."""
    newer = fields.get(NEWER)
    if newer is not None and fields.get(OLDER) is None:
        del fields[NEWER]
        fields[OLDER] = newer


def _media_type(call: Call) -> tuple[bytes, bytes]:
    if not call.parts:
        return (b"content-type", b"application/json")
    boundary = forms.boundary_of(call.rid, call.parts)
    return (b"content-type", forms.TYPE + b"; boundary=" + boundary)


def _form(deployment: Deployment, call: Call) -> bytes:
    model = forms.Part("model", deployment.upstream_model.encode())
    parts = [model if part.name == "model" else part for part in call.parts]
    kept = [part for part in parts if part.name != "max_cost"]
    return forms.write(kept, forms.boundary_of(call.rid, call.parts))


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
