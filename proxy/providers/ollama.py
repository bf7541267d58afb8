"""Ollama, here or in its cloud: the five questions. All is said to it as `ollama_speech.py` writes
it; its streams are lines.
"""

from proxy.dialects.base import ProviderDialect
from proxy.errors import OpsError
from proxy.providers.base import Headers
from proxy.providers.fields import loaded, text
from proxy.providers.ollama_answer import read_usage
from proxy.providers.ollama_speech import OllamaSpeech
from proxy.providers.refusal import error_object, plain_text, refusal
from proxy.providers.spoken import Spoken
from proxy.types import Call, Deployment, Usage


class Ollama(Spoken):
    native = frozenset({"completions", "embeddings"})
    versions = ("/api",)
    layer = "/v1"
    speech: ProviderDialect | None = OllamaSpeech()

    def conversation_url(self, base: str, deployment: Deployment, call: Call) -> str:
        return f"{base}/chat"

    def headers(self, deployment: Deployment, call: Call) -> Headers:
        """No key is needed where it runs here."""
        if call.dialect in self.native:
            return super().headers(deployment, call)
        return (*self.plain_headers(call, b"application/x-ndjson"), *self.bearer(deployment))

    def usage(self, answer: bytes) -> Usage | None:
        return read_usage(loaded(answer)) or super().usage(answer)

    def error(self, deployment: Deployment, status: int, answer: bytes) -> OpsError:
        error = error_object(answer)
        said = text(loaded(answer), "error") or text(error, "message") or plain_text(answer)
        return refusal(deployment, status, said)
