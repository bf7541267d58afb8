"""One connection to a provider: a request out, its answer in, deadlines, back-pressure.

What belongs to one request lies in its Answer, so nothing of it can reach the next one. Knows
nothing of providers, follows no redirect, repeats nothing.
"""

import asyncio
from collections import deque
from typing import Protocol, cast

import httptools

from proxy.settings import Settings

HEADER_BYTES_MAX = 64 * 1024
HEADERS_MAX = 200
STALE_S = 1.0  # a kept connection that the server had closed shows it within a round trip


class Unreachable(Exception):
    """No connection to the server, or it ended before an answer."""


class Stale(Unreachable):
    """A kept connection had been closed by the server before our request could arrive."""


class TooLate(Exception):
    """A phase took longer than its deadline: `connect`, `first byte`, `idle` or `total`."""


class Broken(Exception):
    """The server sent what is no HTTP, or ended inside an answer."""


class Keeper(Protocol):
    """Whoever lends the connection out."""

    settings: Settings

    def give_back(self, connection: "Connection") -> None:
        """It may serve again."""

    def forget(self, connection: "Connection") -> None:
        """It is gone."""


class Connection(asyncio.Protocol):
    """A socket that serves one request at a time."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self.transport: asyncio.Transport | None = None
        self.served = 0
        self.idle_since = 0.0
        self._answer: Answer | None = None  # None while idle

    @property
    def usable(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    async def request(self, head: bytes, body: bytes) -> "Answer":
        """Sends a request and waits for the head of its answer."""
        answer = self._answer = Answer(self, self.keeper.settings)
        try:
            if self.transport is None:
                raise Stale("it hung up")
            self.transport.writelines((head, body))
            await answer.head()
        except BaseException:
            answer.close()
            raise
        return answer

    def close(self) -> None:
        """Ends the connection at once, and with it whatever the server was doing for us."""
        self.keeper.forget(self)
        if self.transport is not None:
            self.transport.abort()

    def done(self, keep: bool) -> None:
        """The answer has come whole: the next may follow, if both sides want it."""
        self._answer = None
        if keep and self.usable:
            self.served += 1
            self.keeper.give_back(self)
        else:
            self.close()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by class

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.keeper.forget(self)
        if self._answer is not None:
            self._answer.lost()

    def eof_received(self) -> None:
        if self._answer is not None:
            self._answer.eof()

    def data_received(self, data: bytes) -> None:
        if self._answer is not None:
            self._answer.feed(data)
        else:  # nobody asked
            self.close()


class Answer:
    """An answer as it comes: its head, then its body in pieces, kept within bounds."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._connection: Connection | None = connection  # until the answer is complete
        self._settings = settings
        self._parser = httptools.HttpResponseParser(self)
        self._started = False  # the head has come
        self._complete = False
        self._keep = False  # the server lets the connection live
        self._touched = False  # a byte has come
        self._problem: Exception | None = None
        self._header_bytes = 0
        self._bare_bytes = 0  # since the last byte of a body
        self._chunks: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._born = self._loop.time()
        self._last_deadline = self._born + settings.total_timeout_ms / 1000
        self._timer: asyncio.TimerHandle | None = None
        self._begin_phase("first byte", settings.first_byte_timeout_ms)

    # the caller's side

    async def head(self) -> None:
        while not self._started:
            await self._wait()

    async def read(self) -> bytes | None:
        """The next piece of the body as it came, or None at its end."""
        while not self._chunks:
            if self._complete:
                return None
            await self._wait()
        chunk = self._chunks.popleft()
        self._waiting_bytes -= len(chunk)
        if self._paused and not self._waiting_bytes:
            self._resume()
        return chunk

    def close(self) -> None:
        """Stops the server, unless its answer is complete; safe at any time."""
        self._disarm()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def _wait(self) -> None:
        if self._problem is not None:
            raise self._problem
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # the connection's side

    def feed(self, data: bytes) -> None:
        self._touched = True
        self._bare_bytes += len(data)
        if self._started:
            self._await_more()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return self._fail(Broken("it wants to change the protocol"))
        except httptools.HttpParserError:
            return self._fail(Broken("it sent what is not HTTP"))
        if self._complete:
            self._finish()
        elif self._bare_bytes > HEADER_BYTES_MAX:
            self._fail(Broken("its head is too large"))

    def eof(self) -> None:
        """An answer without a length ends with its connection."""
        framed = {name for name, _ in self.headers} & {b"content-length", b"transfer-encoding"}
        if self._started and not self._complete and not framed:
            self._complete = True
            self._finish()

    def lost(self) -> None:
        if self._started:
            self._fail(Broken("it ended inside the answer"))
        elif self._touched:
            self._fail(Broken("it ended inside the head of its answer"))
        else:
            kept = self._connection is not None and self._connection.served > 0
            quick = self._loop.time() - self._born < STALE_S
            self._fail((Stale if kept and quick else Unreachable)("it hung up"))

    def _finish(self) -> None:
        self._disarm()
        if self._paused:
            self._resume()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.done(self._keep)
        self._wake()

    def _fail(self, problem: Exception) -> None:
        if not self._complete and self._problem is None:
            self._problem = problem
        self.close()
        self._wake()

    # httptools' side

    def on_message_begin(self) -> None:
        if self._complete:
            raise ValueError("more than the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > HEADER_BYTES_MAX or len(self.headers) >= HEADERS_MAX:
            self._problem = Broken("its head is too large")
            raise ValueError("head too large")
        if not self._started:  # what follows a body is of no use to anybody
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status >= 200:
            self._started = True
            self._begin_phase("idle", self._settings.idle_timeout_ms)
            self._wake()

    def on_body(self, data: bytes) -> None:
        self._bare_bytes = 0
        self._chunks.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes > self._settings.stream_buffer_bytes:
            self._pause()
        self._wake()

    def on_message_complete(self) -> None:
        if self.status < 200:  # 100 Continue, 103 Early Hints: the answer is still to come
            self.headers.clear()
            return
        self._complete = True
        self._keep = self._parser.should_keep_alive()  # only here it tells the truth

    # back-pressure

    def _pause(self) -> None:
        if not self._paused and self._connection and self._connection.transport:
            self._paused = True
            self._connection.transport.pause_reading()

    def _resume(self) -> None:
        self._paused = False
        self._await_more()
        if self._connection and self._connection.transport and self._connection.usable:
            self._connection.transport.resume_reading()

    # deadlines: one timer per phase that looks again when it rings too early

    def _begin_phase(self, phase: str, milliseconds: int) -> None:
        self._disarm()
        self._phase = phase
        self._deadline = min(self._loop.time() + milliseconds / 1000, self._last_deadline)
        self._timer = self._loop.call_at(self._deadline, self._ring)

    def _await_more(self) -> None:
        idle_s = self._settings.idle_timeout_ms / 1000
        self._deadline = min(self._loop.time() + idle_s, self._last_deadline)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        now = self._loop.time()
        if self._paused:  # we do not read: it is not the server's fault
            self._await_more()
        if now < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._ring)
        else:
            self._fail(TooLate("total" if now >= self._last_deadline else self._phase))
