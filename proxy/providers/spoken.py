"""What providers share that take conversations alone: no client's bytes pass through untouched."""

from proxy.providers.base import Headers
from proxy.types import Call, Deployment


class Spoken:
    native: frozenset[str] = frozenset()

    def body(self, deployment: Deployment, call: Call) -> bytes:
        raise AssertionError("all that is sent there is written from a conversation")

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
