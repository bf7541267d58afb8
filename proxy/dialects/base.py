"""What a client's dialect can do, and what a provider's can."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

from proxy.dialects.conversation import Conversation
from proxy.dialects.events import Event
from proxy.errors import OpsError
from proxy.types import Usage


class Writer(Protocol):
    """One answer in the client's dialect, fed in order. Stateful: one for each answer."""

    def feed(self, events: Iterable[Event]) -> bytes:
        """Of a stream: what goes to the client now; may be nothing."""

    def end(self, usage: Usage) -> bytes:
        """Of a stream: its last frames, after Finished."""

    def cut(self, usage: Usage) -> bytes:
        """Of a stream: a clean end where credits ended, so that no client waits for more."""

    def fail(self, problem: OpsError, usage: Usage) -> bytes:
        """Of a stream that breaks off, also where that was told by Failed, which is not fed: its
        error in place of an end, with what was used until then."""

    def whole(self, events: Sequence[Event], usage: Usage) -> bytes:
        """A whole answer at once."""


class ClientDialect(Protocol):
    name: str

    def read(self, fields: Mapping[str, Any]) -> Conversation:
        """Raises FieldInvalid where it cannot be understood; what it has no word for stands in
        `others`."""

    def writer(self, rid: str, model: str, fields: Mapping[str, Any]) -> Writer:
        """For one answer; `fields` tell what the client asked to see."""

    def error(self, problem: OpsError, rid: str) -> bytes:
        """The body of an error."""


class Reader(Protocol):
    """One streamed answer of a provider, read in order. Stateful: one for each answer."""

    def feed(self, data: bytes) -> Iterable[Event]:
        """The data of one event of server-sent events, or one line; unknown ones say nothing."""

    def end(self) -> Iterable[Event]:
        """The provider has ended; what is still owed, such as Finished where it names none."""


class ProviderDialect(Protocol):
    framing: Literal["events", "lines"]  # of its streams

    def write(
        self,
        conversation: Conversation,
        *,
        model: str,
        output_max: int,
        stream: bool,
        context_max: int = 0,
    ) -> dict[str, Any]:
        """The body. Carries every value or raises NotCarried; `output_max` is the model's own,
        for providers that want a number where the client named none; `context_max` its context's
        (0: not known), for providers that have to be told how much to make room for."""

    def whole(self, answer: bytes) -> Sequence[Event]:
        """A whole answer; Failed where it is an error in spite of its status."""

    def reader(self) -> Reader: ...
