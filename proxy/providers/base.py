"""The five questions that every provider answers."""

from typing import Protocol

from proxy.errors import OpsError
from proxy.types import Call, Deployment, Usage

Headers = tuple[tuple[bytes, bytes], ...]


class Adapter(Protocol):
    """One wire dialect. Pure: values in, values out."""

    def url(self, deployment: Deployment, call: Call) -> str:
        """Where to send."""

    def headers(self, deployment: Deployment, call: Call) -> Headers:
        """With which headers; never the client's own."""

    def body(self, deployment: Deployment, call: Call) -> bytes:
        """Which body: the fields as we have read them, so that both sides read the same."""

    def usage(self, answer: bytes) -> Usage | None:
        """What a whole answer, or one event of a stream, says was used."""

    def error(self, deployment: Deployment, status: int, answer: bytes) -> OpsError:
        """What an answer that is no success means for the client."""
