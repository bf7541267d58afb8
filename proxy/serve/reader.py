"""The bytes of one client as requests, each whole and within limits of size. Waits for nothing and
answers nothing: what cannot be a request is raised.
"""

from typing import Protocol

import httptools

from proxy.errors import BodyTooLarge, HttpInvalid, OpsError
from proxy.serve import request as heads
from proxy.serve.request import HEAD_BYTES_MAX, HEADERS_MAX, Request


class Sink(Protocol):
    """Who is told what has come; what it raises is what `feed` raises."""

    def began(self) -> None:
        """The first byte of a request."""

    def has_head(self, request: Request) -> None:
        """Its head; the body may follow."""

    def has_piece(self, size: int) -> None:
        """So many bytes of its body."""

    def has_request(self, request: Request) -> None:
        """All of it."""


class Reader:
    """httptools with bounds; it keeps nothing of a request that is whole."""

    __slots__ = (
        *("begun", "request", "size"),
        *("_bare", "_chunk", "_fields", "_limit", "_parser", "_pieces", "_problem", "_sink"),
        *("_target", "_upgrade"),
    )

    def __init__(self, sink: Sink, body_max_bytes: int) -> None:
        self.begun = False  # a request is coming
        self.request: Request | None = None  # its head, once that is there
        self.size = 0  # of its body so far
        self._sink = sink
        self._limit = body_max_bytes
        self._parser = httptools.HttpRequestParser(self)
        self._fields: list[tuple[bytes, bytes]] = []
        self._target = b""
        self._pieces: list[bytes] = []
        self._bare = 0  # bytes since the request began, or since the last one of its body
        self._chunk = 0  # bytes that are being parsed
        self._upgrade = False
        self._problem: OpsError | None = None  # found while parsing

    def feed(self, data: bytes) -> None:
        if self.begun:
            self._bare += len(data)
        self._chunk = len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as seen:
            self._ignore_upgrade(data[seen.args[0] :])
        except httptools.HttpParserError as seen:
            raise self._found(seen) from None
        if self.begun and self._bare > HEAD_BYTES_MAX:  # also what only looks like a body
            raise heads.head_too_large()

    def drop(self) -> int:
        """Forgets what has come of a body; how many bytes that was. A connection that has ended is
        garbage that may be collected late, and a body is large.
        """
        size, self.size, self._pieces = self.size, 0, []
        return size

    def end(self) -> None:
        """Nothing comes any more. The parser knows its reader, and the reader its connection: what
        of them lives on until the collector comes is more than all that a worker needs.
        """
        del self._parser, self._sink

    # httptools' side

    def on_message_begin(self) -> None:
        if not self._upgrade:
            self._bare = 0
            self._fields = []
            self._target = b""
            self._tell_began()
            self.begun = True

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.request is None:  # what follows a body is of no use to anybody
            self._fields.append((name.lower(), value))
            if len(self._fields) > HEADERS_MAX:
                self._problem = heads.head_too_large()
                raise self._problem

    def on_headers_complete(self) -> None:
        parser = self._parser
        if parser.should_upgrade():
            self._upgrade = True
            return
        try:
            if self._bare or self._chunk > HEAD_BYTES_MAX:
                heads.check_size(self._fields, self._target)
            self.request = heads.read(
                parser.get_method(),
                self._target,
                self._fields,
                parser.get_http_version(),
                parser.should_keep_alive(),
            )
            self._sink.has_head(self.request)
        except OpsError as problem:
            self._problem = problem
            raise

    def on_body(self, data: bytes) -> None:
        self._bare = 0
        try:
            if self.size + len(data) > self._limit:
                raise BodyTooLarge(limit=self._limit)
            self.size += len(data)
            self._pieces.append(data)
            self._sink.has_piece(len(data))
        except OpsError as problem:
            self._problem = problem
            raise

    def on_message_complete(self) -> None:
        if self._upgrade:
            return
        request = self.request
        assert request is not None
        if self.size:
            pieces = self._pieces
            request.body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._pieces = []
            self.size = 0
        self.request = None
        self.begun = False
        self._sink.has_request(request)

    # its own

    def _found(self, seen: Exception) -> OpsError:
        problem, self._problem = self._problem, None
        return problem or HttpInvalid(why=_words(seen))

    def _tell_began(self) -> None:
        try:
            self._sink.began()
        except OpsError as problem:
            self._problem = problem
            raise

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Whoever offers another protocol is served in this one, so the request is read again
        without the offer; this parser skips its body.
        """
        if self._parser.get_method() == b"CONNECT":
            raise HttpInvalid(why="this is no proxy")
        dropped = (b"connection", b"upgrade", b"http2-settings")
        kept = [b"%b: %b\r\n" % field for field in self._fields if field[0] not in dropped]
        version = self._parser.get_http_version().encode()
        start = b"%b %b HTTP/%b\r\n" % (self._parser.get_method(), self._target, version)
        self._parser = httptools.HttpRequestParser(self)
        self._upgrade = self.begun = False
        self._bare = 0
        self.feed(start + b"".join(kept) + b"\r\n" + rest)


def _words(problem: Exception) -> str:
    """What the parser says, without what the client sent."""
    text = str(problem)
    return text[:1].lower() + text[1:] if text.isascii() and len(text) < 80 else "it is garbled"
