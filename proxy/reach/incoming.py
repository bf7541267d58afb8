"""One answer of a provider as it comes: framing, bounds, deadlines, back-pressure.

Knows neither sockets nor providers, and holds nothing that belongs to another request.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import httptools

from proxy.reach.parser import Parser, joined
from proxy.settings import Settings

HEADER_BYTES_MAX = 64 * 1024
HEADERS_MAX = 200
STALE_S = 1.0  # a kept connection that the server had closed shows it within a round trip


Waits = Callable[[], Awaitable[None]] | None  # what has to be awaited before the next piece
Step = Callable[[bytes], Waits]


class Unreachable(Exception):
    """No connection to the server, or it ended before an answer."""


class Stale(Unreachable):
    """A kept connection had been closed by the server before our request could arrive."""


class TooLate(Exception):
    """A phase took longer than its deadline: `connect`, `first byte`, `idle` or `total`."""


class Broken(Exception):
    """The server sent what is no HTTP, or ended inside an answer."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an answer may take, in seconds and bytes."""

    first_byte_s: float
    idle_s: float
    total_s: float
    buffer_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> "Bounds":
        return cls(
            settings.first_byte_timeout_ms / 1000,
            settings.idle_timeout_ms / 1000,
            settings.total_timeout_ms / 1000,
            settings.stream_buffer_bytes,
        )

    @property
    def shortest_s(self) -> float:
        return min(self.first_byte_s, self.idle_s, self.total_s)


class Line(Protocol):
    """The connection on which an answer comes."""

    loop: asyncio.AbstractEventLoop
    bounds: Bounds
    served: int  # answers before this one

    def pause(self) -> bool:
        """Stops reading; False where there is nothing left to read from."""

    def resume(self) -> None:
        """Reads on."""

    def close(self) -> None:
        """Ends it at once."""

    def done(self, keep: bool) -> None:
        """The answer has come whole."""


class Answer:
    """An answer as it comes: its head, then its body in pieces, kept within bounds.

    A piece is there for its reader as soon as it has come; it holds whole parts of the body.
    """

    status = 0
    _started = False  # the head has come
    _complete = False
    _keep = False  # the server lets the connection live
    _heard = 0.0  # when a byte came last; 0: not one has come
    _bare_bytes = 0  # since the last byte of a body
    _waiting_bytes = 0
    _paused = False
    _problem: Exception | None = None
    _waiter: "asyncio.Future[Waits] | None" = None
    _step: Step | None = None  # takes each piece in the moment in which it comes

    def __init__(self, line: Line, parser: Parser) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self._line: Line | None = line  # until the answer is complete
        self._bounds = line.bounds
        self._loop = line.loop
        self._born = self._loop.time()
        self._parser = parser
        self._pieces: deque[bytes] = deque()
        parser.answer = self

    # the caller's side

    def begun(self) -> "asyncio.Future[Waits] | None":
        """What to wait for until the head has come; None: it has."""
        return None if self._started else self._more()

    async def read(self) -> bytes | None:
        """The next piece of the body as it came, or None at its end."""
        while not self._pieces:
            if self._complete:
                return None
            await self._more()
        return self._next()

    async def pour(self, step: Step) -> None:
        """Each piece of the body to `step` in the moment in which it comes, without waking anybody;
        where `step` has to wait for something, that comes before the next one.
        """
        while self._pieces or not self._complete:
            if self._pieces:
                waits = step(self._next())
            else:
                self._step = step
                try:
                    waits = await self._more()
                finally:
                    self._step = None
            if waits is not None:
                await waits()

    def _next(self) -> bytes:
        piece = self._pieces.popleft()
        self._waiting_bytes -= len(piece)
        if self._paused and not self._waiting_bytes:
            self._resume()
        return piece

    def close(self) -> None:
        """Stops the server, unless its answer is complete; safe at any time."""
        line, self._line = self._line, None
        if line is not None:
            line.close()

    def _more(self) -> "asyncio.Future[Waits]":
        if self._problem is not None:
            # a new one: what has been raised holds its frames, and those hold a request's body
            raise type(self._problem)(*self._problem.args)
        self._waiter = self._loop.create_future()
        return self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # the connection's side

    def feed(self, data: bytes) -> None:
        self._heard = self._loop.time()
        self._bare_bytes += len(data)
        problem = None
        try:
            self._parser.feed(data)
        except httptools.HttpParserUpgrade:
            problem = Broken("it wants to change the protocol")
        except httptools.HttpParserError:
            problem = Broken("it sent what is not HTTP")
        if self._parser.read:
            self._take()
            if self._step is not None:
                self._hand_on(self._step)
        if problem is not None:
            self._fail(problem)
        elif self._complete:
            self._finish()
        elif self._bare_bytes > HEADER_BYTES_MAX:
            self._fail(Broken("its head is too large"))
        elif self._started and self._step is None:
            self._wake()

    def eof(self) -> None:
        """An answer without a length ends with its connection."""
        framed = {name for name, _ in self.headers} & {b"content-length", b"transfer-encoding"}
        if self._started and not self._complete and not framed:
            self._complete = True
            self._finish()

    def lost(self) -> None:
        if self._started:
            self._fail(Broken("it ended inside the answer"))
        elif self._heard:
            self._fail(Broken("it ended inside the head of its answer"))
        else:
            kept = self._line is not None and self._line.served > 0
            quick = self._loop.time() - self._born < STALE_S
            self._fail((Stale if kept and quick else Unreachable)("it hung up"))

    def due(self) -> float:
        """When it will have taken too long, if nothing more comes."""
        if self._paused:  # we do not read: it is not the server's fault
            self._heard = self._loop.time()
        bounds = self._bounds
        due = self._heard + bounds.idle_s if self._started else self._born + bounds.first_byte_s
        return min(due, self._born + bounds.total_s)

    def too_late(self) -> None:
        if self._loop.time() >= self._born + self._bounds.total_s:
            phase = "total"
        else:
            phase = "idle" if self._started else "first byte"
        self._fail(TooLate(phase))

    def _take(self) -> None:
        """Hands on what one read brought; pauses the server where too much waits."""
        parts, self._parser.read = self._parser.read, []
        size = sum(map(len, parts)) if len(parts) > 1 else len(parts[0])
        self._pieces.extend(parts if len(parts) == 1 else joined(parts, size))
        self._bare_bytes = 0
        self._waiting_bytes += size
        if self._waiting_bytes > self._bounds.buffer_bytes:
            self._pause()

    def _hand_on(self, step: Step) -> None:
        """While nobody has to wait, and whoever waits for this answer has not been cancelled."""
        waiter = self._waiter
        while self._pieces and waiter is not None and not waiter.done():
            try:
                waits = step(self._next())
            except Exception as problem:
                waiter.set_exception(problem)
                self._waiter = waiter = None  # it knows this frame, which would know it
            else:
                if waits is not None:
                    waiter.set_result(waits)

    def _finish(self) -> None:
        if self._paused:
            self._resume()
        line, self._line = self._line, None
        if line is not None:
            line.done(self._keep)
        self._wake()

    def _fail(self, problem: Exception) -> None:
        if not self._complete and self._problem is None:
            self._problem = problem
        self.close()
        self._wake()

    def _pause(self) -> None:
        if not self._paused and self._line is not None:
            self._paused = self._line.pause()

    def _resume(self) -> None:
        self._paused = False
        self._heard = self._loop.time()
        if self._line is not None:
            self._line.resume()

    # the parser's side

    def begins(self) -> None:
        if self._complete:
            raise ValueError("more than the answer")

    def has_head(self, status: int, raw: list[tuple[bytes, bytes]]) -> None:
        # fewer bytes have come than a head may have: no need to count
        if len(raw) > HEADERS_MAX or (
            self._bare_bytes > HEADER_BYTES_MAX
            and sum(len(name) + len(value) for name, value in raw) > HEADER_BYTES_MAX
        ):
            self._problem = Broken("its head is too large")
            raise ValueError("head too large")
        self.headers = [(name.lower(), value) for name, value in raw]
        self.status = status
        self._started = status >= 200

    def is_whole(self, keep: bool) -> None:
        if self.status < 200:  # 100 Continue, 103 Early Hints: the answer is still to come
            return
        self._complete = True
        self._keep = keep
