"""Cohere, version 2: the five questions. All is said to it as `cohere_speech.py` writes it."""

from proxy.dialects.base import ProviderDialect
from proxy.errors import OpsError, UpstreamKeyRefused
from proxy.providers.cohere_answer import read_usage
from proxy.providers.cohere_speech import CohereSpeech
from proxy.providers.fields import inner, loaded, text
from proxy.providers.refusal import error_object, plain_text, refusal
from proxy.providers.spoken import Spoken
from proxy.types import Call, Deployment, Usage

BLOCKED = 498  # a key that was taken away


class Cohere(Spoken):
    native = frozenset({"embeddings", "rerank"})
    versions = ("/v2",)
    layer = "/compatibility/v1"
    speech: ProviderDialect | None = CohereSpeech()

    def url(self, deployment: Deployment, call: Call) -> str:
        """Ranking again is its own invention: everybody's dialect of it is Cohere's."""
        if call.dialect != "rerank":
            return super().url(deployment, call)
        return f"{deployment.base_url.rstrip('/').removesuffix('/v2')}/v2/rerank"

    def conversation_url(self, base: str, deployment: Deployment, call: Call) -> str:
        return f"{base}/chat"

    def usage(self, answer: bytes) -> Usage | None:
        frame = loaded(answer)
        told = inner(frame, "usage") or inner(inner(frame, "delta"), "usage")
        return read_usage(told or inner(frame, "meta")) or super().usage(answer)

    def error(self, deployment: Deployment, status: int, answer: bytes) -> OpsError:
        if status == BLOCKED:
            return UpstreamKeyRefused(model=deployment.model)
        said = text(error_object(answer), "message") or plain_text(answer)
        return refusal(deployment, status, said)
