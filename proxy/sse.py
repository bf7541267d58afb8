"""Server-sent events by bytes: pieces in at any cut, whole events out. Pure."""

from collections.abc import Iterator


class EventTooLong(ValueError):
    """One event is longer than the limit."""


class Splitter:
    """Cuts a stream at its blank lines; every byte that goes in comes out once."""

    __slots__ = ("_limit", "_rest")

    def __init__(self, limit: int) -> None:
        self._rest = b""
        self._limit = limit

    def feed(self, piece: bytes) -> bytes:
        """All whole events that are there now, end to end; the rest is kept for the next piece."""
        if not self._rest and piece.endswith(b"\n\n"):
            return piece
        whole = self._rest + piece
        cut = _last_end(whole)
        self._rest = whole[cut:]
        if len(self._rest) > self._limit:
            raise EventTooLong
        return whole[:cut]

    def rest(self) -> bytes:
        """What came after the last blank line, once the stream has ended."""
        rest, self._rest = self._rest, b""
        return rest


def events(block: bytes) -> Iterator[bytes]:
    """The events of a block of whole ones, each with its blank line."""
    start = 0
    while start < len(block):
        end = _first_end(block, start)
        yield block[start:end]
        start = end


def data(event: bytes) -> bytes:
    """The joined data lines of one event; empty for comments."""
    lines = event.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    found = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
    return b"\n".join(found)


_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")


def _last_end(block: bytes) -> int:
    return max((at + len(end) for end in _ENDS if (at := block.rfind(end)) >= 0), default=0)


def _first_end(block: bytes, start: int) -> int:
    found = [at + len(end) for end in _ENDS if (at := block.find(end, start)) >= 0]
    return min(found, default=len(block))
