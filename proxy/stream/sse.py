"""Server-sent events by bytes: pieces in at any cut, whole events out. Pure."""

import re
from collections.abc import Iterator


class EventTooLong(ValueError):
    """One event is longer than the limit."""


class Splitter:
    """Cuts a stream at its blank lines; every byte that goes in comes out once.

    An event beyond the limit is an error, but only once all events before it have been given out.
    """

    __slots__ = ("_limit", "waiting")

    def __init__(self, limit: int) -> None:
        self.waiting = bytearray()  # the beginning of an event whose end is still to come
        self._limit = limit

    def feed(self, piece: bytes) -> bytes:
        """All whole events that are there now, end to end; the rest is kept for the next piece."""
        if self.waiting or not piece.endswith(b"\n\n"):
            piece = self._cut(piece)
        if len(piece) > self._limit:
            piece = self._within_limit(piece)
        if not piece and len(self.waiting) > self._limit:
            raise EventTooLong
        return piece

    def rest(self) -> bytes:
        """What came after the last blank line, once the stream has ended."""
        rest = bytes(self.waiting)
        self.waiting.clear()
        return rest

    def _cut(self, piece: bytes) -> bytes:
        # what lay here before has no end in it, so only the seam and the new bytes are searched
        seen = max(len(self.waiting) - _SEAM, 0)
        if len(self.waiting) > self._limit:
            raise EventTooLong
        self.waiting += piece
        cut = _last_end(self.waiting, seen)
        block = bytes(self.waiting[:cut])
        del self.waiting[:cut]
        return block

    def _within_limit(self, block: bytes) -> bytes:
        """The events before the first that is too long, which goes back with all behind it."""
        end = 0
        for event in events(block):
            if len(event) > self._limit:
                self.waiting[:0] = block[end:]
                return block[:end]
            end += len(event)
        return block


def events(block: bytes) -> Iterator[bytes]:
    """The events of a block of whole ones, each with its blank line."""
    only_lf = b"\r" not in block
    start = 0
    while start < len(block):
        end = block.find(b"\n\n", start) + 2 if only_lf else _first_end(block, start)
        if end < 2:
            end = len(block)
        yield block[start:end]
        start = end


def data(event: bytes) -> bytes:
    """The joined data lines of one event; empty for comments."""
    if event.startswith(b"data: ") and event.find(b"\n") >= len(event) - 2 and b"\r" not in event:
        return event[6:].rstrip(b"\n")  # the usual one
    event = event.removeprefix(b"\xef\xbb\xbf")  # a byte order mark may open a stream
    lines = event.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    found = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
    return b"\n".join(found)


# a blank line behind LF, CRLF or CR, also where the two lines end differently
_ENDS = (b"\n\n", b"\n\r\n", b"\r\r")
_SEAM = max(map(len, _ENDS)) - 1
_first = re.compile(b"\n\r?\n|\r\r").search


def _last_end(block: bytearray, start: int) -> int:
    return max((at + len(end) for end in _ENDS if (at := block.rfind(end, start)) >= 0), default=0)


def _first_end(block: bytes, start: int) -> int:
    found = _first(block, start)
    return found.end() if found else len(block)
