"""How the pieces of a streamed answer go to their client: untouched, translated, or as bytes that
are no text. Pure; each knows what it has given out, and how it ends.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from proxy.costs import billed
from proxy.costs.estimates import so_far
from proxy.costs.price import SIDES, Price
from proxy.dialects.base import Reader, Writer
from proxy.dialects.clients import client_of
from proxy.dialects.events import (
    Counted,
    Event,
    Failed,
    Finished,
    RefusalPiece,
    TextPiece,
    ThinkingPiece,
    ToolPiece,
)
from proxy.errors import ErrorInStream, OpsError, UpstreamBroken
from proxy.masks import mask
from proxy.stream import sse
from proxy.stream.delivered import Counted as Count
from proxy.stream.frames import frames_of, kept
from proxy.types import NO_USAGE, Call, Delivered, Outcome, Usage
from proxy.upstream import Reply

CUT = "the stream ended without its end mark"
ERROR_TEXT_MAX = 2_000  # characters of a provider's message that are passed on
PIECES = (TextPiece, ThinkingPiece, RefusalPiece, ToolPiece)


class Way(Protocol):
    @property
    def count(self) -> Delivered: ...

    @property
    def events(self) -> int:
        """How many came that said something."""

    def take(self, piece: bytes) -> bytes:
        """What goes to the client now."""

    def rest(self) -> bytes:
        """The same once the provider has ended."""

    def ending(self) -> str:
        """Why a stream ended that was read to its end; raises where it was broken off."""

    def used(self) -> Usage:
        """However it ended: as the provider counted, or as far as it came."""

    def last(self) -> bytes:
        """A clean end of ours, where its credits ended."""

    def fail(self, problem: OpsError) -> bytes | None:
        """An error in the middle, in the client's dialect; None where it has no place for one."""

    def end(self) -> bytes:
        """What still has to go out after a good end."""


class Untouched:
    """Same dialect in and out: nothing is parsed but the events that tell usage or an end."""

    def __init__(self, reply: Reply, call: Call, outcome: Outcome, price: Price) -> None:
        limit = reply.settings.event_max_bytes
        self._frames = frames_of(call, reply.adapter.usage, outcome)
        self.count = self._frames.count
        self._call, self._outcome, self._limit = call, outcome, limit
        self._price = price
        self._secret = reply.deployment.secret
        self._splitter = sse.Splitter(limit)
        self.take = self._taker()

    @property
    def events(self) -> int:
        return self.count.events

    def _taker(self) -> Callable[[bytes], bytes]:
        """Made once for each stream: what is asked for each piece of it is at hand."""
        feed, add, frames = self._splitter.feed, self.count.add, self._frames
        one, two, three, four = frames.marks
        call, limit, waiting = self._call, self._limit, self._splitter.waiting
        secret, fourth = self._secret, four != three

        def take(piece: bytes) -> bytes:
            if waiting or len(piece) > limit or not piece.endswith(b"\n\n"):
                try:
                    piece = feed(piece)
                except sse.EventTooLong:
                    raise too_long(call, limit) from None
                if not piece:
                    return piece
            if one in piece or two in piece or three in piece or (fourth and four in piece):
                return kept(piece, frames, secret)
            add(piece)
            return piece

        return take

    def rest(self) -> bytes:
        rest = self._splitter.rest().rstrip(b"\r\n")
        if len(rest) > self._limit:
            raise too_long(self._call, self._limit)
        # a last event without its blank line still counts
        return kept(rest + b"\n\n", self._frames, self._secret) if rest else b""

    def ending(self) -> str:
        if self.count.error:
            return "error_in_stream"
        if not self.count.done:
            raise UpstreamBroken(model=self._call.model, why=CUT)
        return self.used().reason

    def used(self) -> Usage:
        told, frames = self._outcome.usage, self._frames
        counted = told if told.source == "provider" else None
        return billed.streamed(self._call, self._price, counted, self.count, frames.told)

    def last(self) -> bytes:
        return self._frames.last()

    def fail(self, problem: OpsError) -> bytes | None:
        call = self._call
        writer = client_of(call.dialect).writer(call.rid, call.model, call.fields)
        return writer.fail(problem, self._outcome.usage)

    def end(self) -> bytes:
        return b""


class Translated:
    """Event by event from the provider's dialect to the client's."""

    def __init__(self, reply: Reply, call: Call, outcome: Outcome) -> None:
        adapter, limit = reply.adapter, reply.settings.event_max_bytes
        assert adapter.speech is not None
        self._secret = reply.deployment.secret
        self.count = Count()
        self._call, self._outcome, self._limit = call, outcome, limit
        self._reader: Reader = adapter.speech.reader()
        self._writer: Writer = client_of(call.dialect).writer(call.rid, call.model, call.fields)
        self._by_lines = adapter.speech.framing == "lines"
        self._splitter = sse.Splitter(limit)
        self._line = bytearray()
        self._usage: Usage | None = None
        self._is_whole = self._finished = False
        self._unsent = b""  # what came before an error, in the same piece

    @property
    def events(self) -> int:
        return self.count.events

    def take(self, piece: bytes) -> bytes:
        feed = self._reader.feed
        parts = self._lines(piece) if self._by_lines else self._events(piece)
        return self._say(event for data in parts if data for event in feed(data))

    def rest(self) -> bytes:
        rest = bytes(self._line).strip() or sse.data(self._splitter.rest())
        if len(rest) > self._limit:
            raise too_long(self._call, self._limit)
        out = self._say(self._reader.feed(rest)) if rest else b""
        return out + self._say(self._reader.end())

    def ending(self) -> str:
        if not self._finished:
            raise UpstreamBroken(model=self._call.model, why=CUT)
        return self._usage.reason if self._usage is not None else NO_USAGE.reason

    def used(self) -> Usage:
        if self._usage is None:
            return so_far(self._call, self.count)
        # broken off: what had been counted may lag behind what went out
        if self._finished or self._is_whole:
            return self._usage
        return so_far(self._call, self.count)

    def last(self) -> bytes:
        return self._writer.cut(self.used())

    def fail(self, problem: OpsError) -> bytes | None:
        return self._unsent + self._writer.fail(problem, self._outcome.usage)

    def end(self) -> bytes:
        return self._writer.end(self._outcome.usage)

    def _say(self, events: Iterable[Event]) -> bytes:
        said: list[Event] = []
        try:
            for event in events:
                self.count.events += 1
                if isinstance(event, PIECES):
                    self.count.content_bytes += len(event.text.encode())
                elif isinstance(event, Counted):
                    self._counted(event)
                elif isinstance(event, Finished):
                    self._finished = True
                elif isinstance(event, Failed):
                    self._unsent = self._writer.feed(said)
                    raise self._broken_off(event)
                said.append(event)
        except ValueError:  # a reader's
            self._unsent = self._writer.feed(said)
            why = "an event is not what it should be"
            raise UpstreamBroken(model=self._call.model, why=why) from None
        return self._writer.feed(said) if said else b""

    def _broken_off(self, event: Failed) -> OpsError:
        return ErrorInStream(model=self._call.model, message=told(event, self._secret))

    def _counted(self, event: Counted) -> None:
        self._usage, self._is_whole = event.usage, not event.partial
        tokens = event.usage.tokens
        self.count.told = {n: c for n, c in tokens.items() if SIDES.get(n) == "input"}

    def _events(self, piece: bytes) -> Iterable[bytes]:
        try:
            return map(sse.data, sse.events(self._splitter.feed(piece)))
        except sse.EventTooLong:
            raise too_long(self._call, self._limit) from None

    def _lines(self, piece: bytes) -> Iterable[bytes]:
        self._line += piece
        *whole, rest = self._line.split(b"\n")
        if len(rest) > self._limit or any(len(line) > self._limit for line in whole):
            raise too_long(self._call, self._limit)
        self._line = rest
        return [bytes(line).strip() for line in whole]


def way_of(reply: Reply, call: Call, outcome: Outcome, price: Price) -> Way:
    if not reply.is_native:
        return Translated(reply, call, outcome)
    if not reply.is_events:
        return Bare(call, price)
    return Untouched(reply, call, outcome, price)


class Bare:
    """Bytes that are no text, such as sound."""

    def __init__(self, call: Call, price: Price) -> None:
        self.count, self.events = Count(), 0
        self._call, self._price = call, price

    def take(self, piece: bytes) -> bytes:
        self.events += 1
        if self._call.kind in billed.COUNTED:
            self.count.content_bytes += len(piece)  # of a text that does not say that it is one
        return piece

    def rest(self) -> bytes:
        return b""

    def ending(self) -> str:
        return self.used().reason

    def used(self) -> Usage:
        return billed.streamed(self._call, self._price, None, self.count)

    def last(self) -> bytes:
        return b""

    def fail(self, problem: OpsError) -> bytes | None:
        return None

    def end(self) -> bytes:
        return b""


def told(event: Failed, secret: str) -> str:
    """The provider's words, without what must not be seen."""
    return mask(event.message, secret)[:ERROR_TEXT_MAX] or event.kind or "no message"


def too_long(call: Call, limit: int) -> UpstreamBroken:
    return UpstreamBroken(model=call.model, why=f"an event is longer than {limit} bytes")
