"""An answer's events as parts that begin, grow and end: what every dialect with parts is written
from, as a stream or at once.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from proxy.dialects.events import (
    Began,
    Counted,
    Event,
    Finished,
    RefusalPiece,
    TextPiece,
    ThinkingPiece,
    ThinkingSigned,
    ToolBegan,
    ToolPiece,
)
from proxy.dialects.signed import sealed_id
from proxy.errors import UpstreamBroken
from proxy.types import NO_USAGE, Usage

MIXED = "it mixed the pieces of its tool calls"
_KINDS: dict[type[Event], Literal["text", "refusal", "thinking"]] = {
    TextPiece: "text",
    RefusalPiece: "refusal",
    ThinkingPiece: "thinking",
}


@dataclass(slots=True)
class Part:
    """A text, a refusal, a thought or a call; `nth` counts those that the client sees."""

    kind: Literal["text", "refusal", "thinking", "tool"]
    nth: int
    pieces: list[str] = field(default_factory=list)
    signature: str = ""  # of a thought
    redacted: str = ""
    call: int = 0  # the calls' own numbers
    id: str = ""  # of a call, with what is signed in it
    name: str = ""

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class PartsWriter(ABC):
    """Feeds itself with events; a dialect says what is written where a part begins, grows, ends."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.parts = 0  # that have begun
        self.usage = NO_USAGE  # the last that was told
        self.finished: Finished | None = None
        self.calls = self.refused = False  # whether there were any
        self._open: Part | None = None
        self.is_begun = False

    def feed(self, events: Iterable[Event]) -> bytes:
        out: list[bytes] = []
        begins = False
        for event in events:
            kind = _KINDS.get(type(event))
            if kind is not None:
                self._grow(kind, event.text, out)  # type: ignore[union-attr]
            elif isinstance(event, ToolPiece):
                self._argue(event, out)
            elif isinstance(event, Began):
                begins = True  # what the provider has counted may be told in the same breath
            else:
                self._change(event, out)
        if begins:
            self._start(out)
        return b"".join(out)

    def close(self, usage: Usage, out: list[bytes]) -> None:
        """What has to be said before any end."""
        self.usage = usage
        self._start(out)
        self._shut(out)

    @property
    def reason(self) -> str:
        """Why it stopped; a call that was asked for by name is a stop to some providers."""
        reason = self.finished.reason if self.finished else "stop"
        return "tool_calls" if reason == "stop" and self.calls else reason

    def _grow(
        self, kind: Literal["text", "refusal", "thinking"], text: str, out: list[bytes]
    ) -> None:
        if not text:
            return
        part = self._open
        if part is None or part.kind != kind:
            part = self._begin(Part(kind, self.parts), out)
        self.more(part, text, out)

    def _argue(self, event: ToolPiece, out: list[bytes]) -> None:
        part = self._open
        if part is None or part.kind != "tool" or part.call != event.index:
            raise UpstreamBroken(model=self.model, why=MIXED)
        if event.text:
            self.more(part, event.text, out)

    def _change(self, event: Event, out: list[bytes]) -> None:
        if isinstance(event, ToolBegan):
            self.calls = True
            id = sealed_id(event.id, event.signature)
            self._begin(Part("tool", self.parts, call=event.index, id=id, name=event.name), out)
        elif isinstance(event, ThinkingSigned):
            self._sign(event, out)
        elif isinstance(event, Counted):
            self.usage = event.usage
        elif isinstance(event, Finished):
            self.finished = event

    def _sign(self, event: ThinkingSigned, out: list[bytes]) -> None:
        part = self._open
        if event.redacted or part is None or part.kind != "thinking":
            part = self._begin(Part("thinking", self.parts, redacted=event.redacted), out)
        part.signature = event.signature
        self._shut(out)

    def _begin(self, part: Part, out: list[bytes]) -> Part:
        self._start(out)
        self._shut(out)
        self._open = part
        self.refused = self.refused or part.kind == "refusal"
        if self.shows(part):
            self.parts += 1
            self.begin(part, out)
        return part

    def _shut(self, out: list[bytes]) -> None:
        part, self._open = self._open, None
        if part is not None and self.shows(part):
            self.end_part(part, out)

    def _start(self, out: list[bytes]) -> None:
        if not self.is_begun:
            self.is_begun = True
            self.start(out)

    def shows(self, part: Part) -> bool:
        """Whether the client has asked to see such a part."""
        return True

    @abstractmethod
    def start(self, out: list[bytes]) -> None: ...

    @abstractmethod
    def begin(self, part: Part, out: list[bytes]) -> None: ...

    @abstractmethod
    def more(self, part: Part, text: str, out: list[bytes]) -> None: ...

    @abstractmethod
    def end_part(self, part: Part, out: list[bytes]) -> None: ...


class Whole(PartsWriter):
    """The parts of a whole answer."""

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self.found: list[Part] = []

    def start(self, out: list[bytes]) -> None:
        pass

    def begin(self, part: Part, out: list[bytes]) -> None:
        self.found.append(part)

    def more(self, part: Part, text: str, out: list[bytes]) -> None:
        part.pieces.append(text)

    def end_part(self, part: Part, out: list[bytes]) -> None:
        pass
