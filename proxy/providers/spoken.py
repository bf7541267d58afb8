"""What providers share to which conversations are said in their own dialect. What is no
conversation goes untouched to the layer of OpenAI's dialect that they have beside it.
"""

from dataclasses import replace

from proxy.providers.base import Headers
from proxy.providers.openai import OpenAI
from proxy.types import Call, Deployment, Usage


class Spoken:
    native: frozenset[str] = frozenset()
    versions: tuple[str, ...] = ()  # with which a base URL may end
    layer = ""  # where the one of OpenAI's dialect lies

    def __init__(self) -> None:
        self._beside = OpenAI(self.native)

    def url(self, deployment: Deployment, call: Call) -> str:
        base = deployment.base_url.rstrip("/")
        version = next((one for one in self.versions if base.endswith(one)), "")
        host = base.removesuffix(version)
        if call.dialect in self.native:
            return self._beside.url(replace(deployment, base_url=host + self.layer), call)
        return self.conversation_url(host + (version or self.versions[0]), deployment, call)

    def conversation_url(self, base: str, deployment: Deployment, call: Call) -> str:
        raise AssertionError("each has its own")

    def headers(self, deployment: Deployment, call: Call) -> Headers:
        if call.dialect in self.native:
            return self._beside.headers(deployment, call)
        return (*self.plain_headers(call), *self.bearer(deployment))

    def body(self, deployment: Deployment, call: Call) -> bytes:
        return self._beside.body(deployment, call)

    def usage(self, answer: bytes) -> Usage | None:
        return self._beside.usage(answer)

    def plain_headers(self, call: Call, stream: bytes = b"text/event-stream") -> Headers:
        return (
            (b"content-type", b"application/json"),
            (b"accept", stream if call.stream else b"application/json"),
            (b"accept-encoding", b"identity"),
            (b"user-agent", b"opscenter"),
            (b"x-request-id", call.rid.encode()),
        )

    def bearer(self, deployment: Deployment) -> Headers:
        secret = deployment.secret.encode()
        return ((b"authorization", b"Bearer " + secret),) if secret else ()
