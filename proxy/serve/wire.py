"""An answer's head as bytes. Pure, but for the time of day."""

import time
from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}
CHUNKED: Final = b"transfer-encoding: chunked\r\n"
CLOSE: Final = b"connection: close\r\n"

Headers = Sequence[tuple[bytes, bytes]]


_starts: dict[int, bytes] = {}  # of every status in use; they hold for one second
_second = 0


def head(status: int, headers: Headers, framing: bytes, close: bool) -> bytes:
    """Everything before the body; `framing` is the line that says where the body ends."""
    global _second
    second = int(time.time())
    if second != _second:
        _starts.clear()
        _second = second
    end = framing + CLOSE + b"\r\n" if close else framing + b"\r\n"
    start = _starts.get(status) or _start(status)
    made = b"\r\n".join((start, *map(b": ".join, headers), end))
    # status line, server, date, blank line; and a name of a model must not become a header
    lines = len(headers) + 4 + bool(framing) + close
    if made.count(b"\n") != lines or made.count(b"\r") != lines:
        raise ValueError("a header of an answer holds a line break")
    return made


def _start(status: int) -> bytes:
    """Status line, server and date."""
    reason, date = REASONS.get(status, b"Unknown"), formatdate(_second, usegmt=True).encode()
    made = b"HTTP/1.1 %d %b\r\nserver: opscenter\r\ndate: %b" % (status, reason, date)
    _starts[status] = made
    return made


def length(size: int) -> bytes:
    return b"content-length: %d\r\n" % size


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
