"""Google's Gemini: the five questions. Conversations are said to it as `gemini_speech.py` writes
them.
"""

from urllib.parse import quote

from proxy.dialects.base import ProviderDialect
from proxy.errors import OpsError, UpstreamKeyRefused
from proxy.providers.base import Headers
from proxy.providers.fields import Object, inner, loaded, rows, text
from proxy.providers.gemini_answer import read_usage
from proxy.providers.gemini_speech import GeminiSpeech
from proxy.providers.refusal import error_object, plain_text, refusal, seconds
from proxy.providers.spoken import Spoken
from proxy.types import Call, Deployment, Usage


class Gemini(Spoken):
    native = frozenset({"embeddings", "images"})
    versions = ("/v1beta", "/v1alpha", "/v1")
    layer = "/v1beta/openai"
    speech: ProviderDialect | None = GeminiSpeech()

    def conversation_url(self, base: str, deployment: Deployment, call: Call) -> str:
        model = quote(deployment.upstream_model.removeprefix("models/"))
        verb = "streamGenerateContent?alt=sse" if call.stream else "generateContent"
        return f"{base}/{model if '/' in model else f'models/{model}'}:{verb}"

    def headers(self, deployment: Deployment, call: Call) -> Headers:
        """The key stands in a header, never in the address."""
        if call.dialect in self.native:
            return super().headers(deployment, call)
        headers = self.plain_headers(call)
        if not deployment.secret:
            return headers
        return (*headers, (b"x-goog-api-key", deployment.secret.encode()))

    def usage(self, answer: bytes) -> Usage | None:
        return read_usage(inner(loaded(answer), "usageMetadata")) or super().usage(answer)

    def error(self, deployment: Deployment, status: int, answer: bytes) -> OpsError:
        error = error_object(answer)
        details = rows(error, "details")
        if any(row.get("reason") == "API_KEY_INVALID" for row in details):
            return UpstreamKeyRefused(model=deployment.model)
        said = text(error, "message") or (plain_text(answer) if not error else "")
        problem = refusal(deployment, status, said)
        wait = next((w for row in details if (w := seconds(text(row, "retryDelay")))), None)
        if wait is not None:
            problem.headers += (("retry-after", str(wait)),)
        if any(map(_is_of_a_day, details)):
            problem.retry = False
        return problem


def _is_of_a_day(detail: Object) -> bool:
    """A quota that no wait of minutes fills."""
    return any("PerDay" in text(row, "quotaId") for row in rows(detail, "violations"))
