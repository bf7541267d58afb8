"""Cohere, version 2: the five questions. All is said to it as `cohere_speech.py` writes it."""

from proxy.dialects.base import ProviderDialect
from proxy.errors import OpsError, UpstreamKeyRefused
from proxy.providers.base import Headers
from proxy.providers.cohere_answer import read_usage
from proxy.providers.cohere_speech import CohereSpeech
from proxy.providers.fields import inner, loaded, text
from proxy.providers.refusal import error_object, plain_text, refusal
from proxy.providers.spoken import Spoken
from proxy.types import Call, Deployment, Usage

BLOCKED = 498  # a key that was taken away


class Cohere(Spoken):
    speech: ProviderDialect | None = CohereSpeech()

    def url(self, deployment: Deployment, call: Call) -> str:
        base = deployment.base_url.rstrip("/")
        return f"{base}/chat" if base.endswith("/v2") else f"{base}/v2/chat"

    def headers(self, deployment: Deployment, call: Call) -> Headers:
        return (*self.plain_headers(call), *self.bearer(deployment))

    def usage(self, answer: bytes) -> Usage | None:
        frame = loaded(answer)
        told = inner(frame, "usage") or inner(inner(frame, "delta"), "usage")
        return read_usage(told)

    def error(self, deployment: Deployment, status: int, answer: bytes) -> OpsError:
        if status == BLOCKED:
            return UpstreamKeyRefused(model=deployment.model)
        said = text(error_object(answer), "message") or plain_text(answer)
        return refusal(deployment, status, said)
