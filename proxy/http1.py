"""The thin HTTP/1.1 client of the request path: kept connections, deadlines, back-pressure.

It knows nothing of providers and follows no redirect. Everything that is not on the request path
uses a client of its own.
"""

import asyncio
import errno
import os
import ssl
from collections import deque
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools

from proxy.metrics import Metrics
from proxy.settings import Settings

HEADER_BYTES_MAX = 64 * 1024
HEADERS_MAX = 200

Headers = tuple[tuple[bytes, bytes], ...]


class Unreachable(Exception):
    """No connection to the server, or it ended before an answer."""


class TooLate(Exception):
    """A phase took longer than its deadline: `connect`, `first byte`, `idle` or `total`."""


class Broken(Exception):
    """The server sent what is no HTTP, or ended inside an answer."""


class Exhausted(Exception):
    """All connections are in use and no more requests may wait for one."""


@dataclass(frozen=True, slots=True)
class Origin:
    host: str
    port: int
    tls: bool

    @classmethod
    def of(cls, url: str) -> "tuple[Origin, bytes]":
        """The origin of a URL and the request target on it."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{parts.scheme}://{parts.hostname} is no address of a provider")
        tls = parts.scheme == "https"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.hostname, parts.port or (443 if tls else 80), tls), target.encode()

    @property
    def authority(self) -> bytes:
        name = f"[{self.host}]" if ":" in self.host else self.host
        return (
            name.encode()
            if self.port == (443 if self.tls else 80)
            else f"{name}:{self.port}".encode()
        )


class Connection(asyncio.Protocol):
    """One connection; at most one request runs on it at a time."""

    def __init__(self, pool: "Pool") -> None:
        self.pool = pool
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.served = 0
        self.idle_since = 0.0
        self._begin()

    def _begin(self) -> None:
        # per request
        self.parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.started = False  # the head has come
        self.complete = False
        self.problem: Exception | None = None
        self._header_bytes = 0
        self._chunks: deque[bytes] = deque()
        self._waiting = 0  # bytes in _chunks
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = self._last_deadline = 0.0
        self._phase = ""
        self._timer: asyncio.TimerHandle | None = None

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by class

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if not self.complete and self.problem is None:
            self.problem = (
                Broken("it ended inside the answer") if self.started else Unreachable("it hung up")
            )
        self.pool.forget(self)
        self._wake()

    def eof_received(self) -> bool:
        if self.started and not self.complete:
            # an answer without a length ends with its connection
            framed = {name for name, _ in self.headers} & {b"content-length", b"transfer-encoding"}
            self.complete = not framed
        return False

    def data_received(self, data: bytes) -> None:
        if self.complete:  # nobody asked
            return self.abort(Broken("it sent more than the answer"))
        if self._timer is not None:
            self._await_phase("idle", self.pool.settings.idle_timeout_ms)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.abort(Broken("it wants to change the protocol"))
        except httptools.HttpParserError:
            self.abort(self.problem or Broken("it is not HTTP"))

    # httptools' side

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > HEADER_BYTES_MAX or len(self.headers) >= HEADERS_MAX:
            self.problem = Broken("its head is too large")
            raise ValueError("head too large")
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()
        if self.status >= 200:
            self.started = True
            self._wake()

    def on_body(self, data: bytes) -> None:
        self._chunks.append(data)
        self._waiting += len(data)
        if (
            self._waiting > self.pool.settings.stream_buffer_bytes
            and not self._paused
            and self.transport
        ):
            self._paused = True
            self.transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        if self.status < 200:  # 100 Continue, 103 Early Hints: the answer is still to come
            self.headers.clear()
            return
        self.complete = True
        self._wake()

    # the caller's side

    async def request(self, head: bytes, body: bytes) -> None:
        """Sends a request and waits for the head of its answer."""
        assert self.transport is not None
        settings = self.pool.settings
        self._last_deadline = self.loop.time() + settings.total_timeout_ms / 1000
        self._await_phase("first byte", settings.first_byte_timeout_ms)
        self._arm()
        self.transport.writelines((head, body))
        while not self.started:
            await self._wait()

    async def read(self) -> bytes | None:
        """The next piece of the body as it came, or None at its end."""
        while not self._chunks:
            if self.complete:
                self.release()
                return None
            await self._wait()
        chunk = self._chunks.popleft()
        self._waiting -= len(chunk)
        if self._paused and not self._waiting and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()
        return chunk

    def release(self) -> None:
        """The answer has been read: the connection may serve again, if both sides want it."""
        self._disarm()
        if self.transport is None:
            return
        if self.parser.should_keep_alive() and not self._chunks and not self.transport.is_closing():
            self.served += 1
            self._begin()
            self.complete = True  # until the next request, nothing may come
            self.pool.give_back(self)
        else:
            self.close()

    def close(self) -> None:
        """Ends the connection, and with it whatever the server was still doing for us."""
        self._disarm()
        self.pool.forget(self)
        if self.transport is not None:
            self.transport.abort()

    def abort(self, problem: Exception) -> None:
        self.problem = problem
        self.close()
        self._wake()

    def reopen(self) -> None:
        """A kept connection takes its next request."""
        self._begin()

    async def _wait(self) -> None:
        if self.problem is not None:
            raise self.problem
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if self.problem is not None and not self._chunks and not self.complete:
            raise self.problem

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # deadlines: one timer per request that looks again when it rings too early

    def _await_phase(self, phase: str, milliseconds: int) -> None:
        self._phase = phase
        self._deadline = min(self.loop.time() + milliseconds / 1000, self._last_deadline)

    def _arm(self) -> None:
        self._timer = self.loop.call_at(self._deadline, self._ring)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        now = self.loop.time()
        if (
            self._paused and now < self._last_deadline
        ):  # we do not read: it is not the server's fault
            self._deadline = min(
                now + self.pool.settings.idle_timeout_ms / 1000, self._last_deadline
            )
        if now < self._deadline:
            return self._arm()
        self.abort(TooLate("total" if now >= self._last_deadline else self._phase))


class Pool:
    """Connections to one origin: bounded, kept, last used first."""

    def __init__(
        self, origin: Origin, settings: Settings, metrics: Metrics, tls: ssl.SSLContext
    ) -> None:
        self.origin = origin
        self.settings = settings
        self._metrics = metrics
        self._tls = tls if origin.tls else None
        self._idle: deque[Connection] = deque()
        self._open: set[Connection] = set()
        self._opening = 0
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    async def take(self, fresh: bool = False) -> Connection:
        """A connection for one request; `fresh` when a kept one has just disappointed."""
        loop = asyncio.get_running_loop()
        while True:
            while self._idle and not fresh:
                connection = self._idle.pop()
                idle_s = loop.time() - connection.idle_since
                if connection.transport is None or idle_s > self.settings.upstream_idle_ms / 1000:
                    connection.close()
                    continue
                connection.reopen()
                return connection
            if len(self._open) + self._opening < self.settings.upstream_connections:
                return await self._connect()
            if fresh and self._idle:
                self._idle.popleft().close()
                continue
            await self._wait_for_one()

    def give_back(self, connection: Connection) -> None:
        connection.idle_since = connection.loop.time()
        self._idle.append(connection)
        self._wake_one()

    def forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._wake_one()

    def close(self) -> None:
        for connection in list(self._open):
            connection.close()

    async def _connect(self) -> Connection:
        loop, at = asyncio.get_running_loop(), self.origin
        self._opening += 1
        self._metrics.add(self._metrics.connects)
        try:
            async with asyncio.timeout(self.settings.connect_timeout_ms / 1000):
                _, connection = await loop.create_connection(
                    lambda: Connection(self), at.host, at.port, ssl=self._tls
                )
        except TimeoutError:
            raise TooLate("connect") from None
        except (OSError, ssl.SSLError) as problem:
            raise Unreachable(_words(problem)) from None
        finally:
            self._opening -= 1
        self._open.add(connection)
        return connection

    async def _wait_for_one(self) -> None:
        if len(self._waiters) >= self.settings.upstream_waiters_max:
            raise Exhausted
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(self.settings.upstream_wait_ms / 1000):
                await waiter
        except TimeoutError:
            raise Exhausted from None
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


class Client:
    """The pools of one worker."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._pools: dict[Origin, Pool] = {}
        self._origins: dict[str, tuple[Origin, bytes]] = {}
        self._tls = ssl.create_default_context()

    def waiting(self, url: str) -> int:
        pool = self._pools.get(Origin.of(url)[0])
        return pool.waiting if pool else 0

    async def post(self, url: str, headers: Headers, body: bytes) -> Connection:
        """Sends one request; a kept connection that had already ended is replaced once."""
        origin, target = self._at(url)
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = Pool(origin, self._settings, self._metrics, self._tls)
        head = _head(origin, target, headers, len(body))
        connection = await pool.take()
        try:
            return await _send(connection, head, body)
        except Unreachable:
            if not connection.served:
                raise
        return await _send(await pool.take(fresh=True), head, body)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()

    def _at(self, url: str) -> tuple[Origin, bytes]:
        found = self._origins.get(url)
        if found is None:
            if len(self._origins) > 10_000:
                self._origins.clear()
            found = self._origins[url] = Origin.of(url)
        return found


async def _send(connection: Connection, head: bytes, body: bytes) -> Connection:
    try:
        await connection.request(head, body)
    except BaseException:
        connection.close()
        raise
    return connection


def _head(origin: Origin, target: bytes, headers: Headers, length: int) -> bytes:
    lines = [b"POST ", target, b" HTTP/1.1\r\nhost: ", origin.authority]
    for name, value in headers:
        lines += (b"\r\n", name, b": ", value)
    lines.append(b"\r\ncontent-length: %d\r\n\r\n" % length)
    return b"".join(lines)


def _words(problem: Exception) -> str:
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({problem.verify_message})"
    number = problem.errno if isinstance(problem, OSError) else None
    if number is not None and number in errno.errorcode:
        return os.strerror(number).lower()
    return str(problem).lower() or type(problem).__name__
