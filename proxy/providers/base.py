"""What every provider answers: five questions, and which clients' dialects it speaks itself."""

from typing import Protocol

from proxy.dialects.base import ProviderDialect
from proxy.errors import OpsError
from proxy.types import Call, Deployment, Usage

Headers = tuple[tuple[bytes, bytes], ...]


class Adapter(Protocol):
    """One wire dialect. Pure: values in, values out."""

    @property
    def native(self) -> frozenset[str]:
        """Dialects of clients (`Call.dialect`) whose bytes pass through untouched."""

    @property
    def speech(self) -> ProviderDialect | None:
        """How conversations in any other dialect are said to it; None: it takes no conversation."""

    def url(self, deployment: Deployment, call: Call) -> str:
        """Where to send; a call whose dialect is not native is sent as a conversation."""

    def headers(self, deployment: Deployment, call: Call) -> Headers:
        """With which headers; never the client's own."""

    def body(self, deployment: Deployment, call: Call) -> bytes:
        """Which body, of a call whose dialect is native: the fields as we have read them, so that
        both sides read the same."""

    def usage(self, answer: bytes) -> Usage | None:
        """What a whole answer, or one event of a stream, says was used; of native dialects."""

    def error(self, deployment: Deployment, status: int, answer: bytes) -> OpsError:
        """What an answer that is no success means for the client."""
