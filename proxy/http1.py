"""The thin HTTP/1.1 client of the request path: connections to each provider, kept and bounded.

It knows nothing of providers and follows no redirect. Everything that is not on the request path
uses a client of its own.
"""

import asyncio
import errno
import os
import socket
import ssl
from collections import deque
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from proxy.connection import Answer, Broken, Connection, Stale, TooLate, Unreachable
from proxy.metrics import Metrics
from proxy.settings import Settings

__all__ = ["Broken", "Client", "Exhausted", "Origin", "Pool", "Stale", "TooLate", "Unreachable"]

ORIGINS_MAX = 10_000  # URLs that are remembered taken apart
SWEEP_GRACE_S = 0.005  # timers ring a little early
Headers = tuple[tuple[bytes, bytes], ...]


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
        host = parts.hostname.encode("ascii" if ":" in parts.hostname else "idna").decode()
        port = parts.port or (443 if tls else 80)
        return cls(host, port, tls), quote(target, safe="/%:@!$&'()*+,;=~?[]").encode()

    @property
    def authority(self) -> bytes:
        name = f"[{self.host}]" if ":" in self.host else self.host
        return (
            name.encode()
            if self.port == (443 if self.tls else 80)
            else f"{name}:{self.port}".encode()
        )


class Pool:
    """Connections to one origin: bounded, kept, last used first.

    A place is the right to one open connection. Who ends with a connection hands it, or its place,
    to whoever has waited longest; nobody who comes later can take it from him.
    """

    def __init__(
        self, origin: Origin, settings: Settings, metrics: Metrics, tls: ssl.SSLContext
    ) -> None:
        self.origin = origin
        self.settings = settings
        self._metrics = metrics
        self._tls = tls if origin.tls else None
        self._loop = asyncio.get_running_loop()
        self._places = 0  # in use: open connections, and those being opened
        self._open: set[Connection] = set()
        self._idle: deque[Connection] = deque()  # the longest unused first
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    async def take(self, fresh: bool = False) -> Connection:
        """A connection for one request; `fresh` when a kept one has just disappointed."""
        give_up_at = self._loop.time() + self.settings.upstream_wait_ms / 1000
        while True:
            while self._idle and not fresh:
                connection = self._idle.pop()
                if self._is_young(connection):
                    return connection
                connection.close()
            if self._places >= self.settings.upstream_connections and self._idle:
                self._idle.popleft().close()
            if self._places < self.settings.upstream_connections:
                self._places += 1
                return await self._connect()
            handed = await self._turn(give_up_at)
            if handed is None:
                return await self._connect()
            if not fresh and self._is_young(handed):
                return handed
            if handed in self._open:  # its place is ours
                self._open.discard(handed)
                handed.close()
                return await self._connect()

    def give_back(self, connection: Connection) -> None:
        connection.idle_since = self._loop.time()
        if not self._hand_over(connection):
            self._idle.append(connection)
            if self._sweeper is None:
                self._sweep()

    def forget(self, connection: Connection) -> None:
        if connection in self._open:
            self._open.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._free_place()

    def close(self) -> None:
        for connection in list(self._open):
            connection.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def _is_young(self, connection: Connection) -> bool:
        idle_s = self._loop.time() - connection.idle_since
        return connection.usable and idle_s <= self.settings.upstream_idle_ms / 1000

    async def _connect(self) -> Connection:
        """Opens a connection on a place that has been taken; gives the place back if it cannot."""
        at = self.origin
        self._metrics.add(self._metrics.connects)
        try:
            async with asyncio.timeout(self.settings.connect_timeout_ms / 1000):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self), at.host, at.port, ssl=self._tls
                )
        except BaseException as problem:
            self._free_place()
            if isinstance(problem, TimeoutError):
                raise TooLate("connect") from None
            if isinstance(problem, OSError | UnicodeError):
                raise Unreachable(_words(problem)) from None
            raise
        self._open.add(connection)
        if connection.transport is None:  # it ended before anybody could use it
            connection.close()
            raise Unreachable("it hung up")
        return connection

    async def _turn(self, give_up_at: float) -> Connection | None:
        """A kept connection, or None for the place of one that has ended."""
        if len(self._waiters) >= self.settings.upstream_waiters_max:
            raise Exhausted
        waiter: asyncio.Future[Connection | None] = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout_at(give_up_at):
                return await waiter
        except BaseException as problem:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif not waiter.cancelled():  # served and given up in one moment: the next one's luck
                self._return(waiter.result())
            if isinstance(problem, TimeoutError):
                raise Exhausted from None
            raise

    def _return(self, handed: Connection | None) -> None:
        if handed is None:
            self._free_place()
        elif handed in self._open:
            self.give_back(handed)

    def _free_place(self) -> None:
        if not self._hand_over(None):
            self._places -= 1

    def _hand_over(self, what: Connection | None) -> bool:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(what)
                return True
        return False

    def _sweep(self) -> None:
        """Closes what has been unused for too long, and looks again when the next one is due."""
        self._sweeper = None
        while self._idle and not self._is_young(self._idle[0]):
            self._idle.popleft().close()
        if self._idle:
            due = self._idle[0].idle_since + self.settings.upstream_idle_ms / 1000
            self._sweeper = self._loop.call_at(due + SWEEP_GRACE_S, self._sweep)


class Client:
    """The pools of one worker."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._pools: dict[Origin, Pool] = {}
        self._origins: dict[str, tuple[Origin, bytes]] = {}
        self._tls = ssl.create_default_context()

    def waiting(self, url: str) -> int:
        pool = self._pools.get(self._at(url)[0])
        return pool.waiting if pool else 0

    async def post(self, url: str, headers: Headers, body: bytes) -> Answer:
        """Sends one request; a kept connection that had already ended is replaced once."""
        origin, target = self._at(url)
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = Pool(origin, self._settings, self._metrics, self._tls)
        head = _head(origin, target, headers, len(body))
        connection = await pool.take()
        try:
            return await connection.request(head, body)
        except Stale:
            pass
        connection = await pool.take(fresh=True)
        return await connection.request(head, body)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()

    def _at(self, url: str) -> tuple[Origin, bytes]:
        found = self._origins.get(url)
        if found is None:
            if len(self._origins) >= ORIGINS_MAX:
                self._origins.clear()
            try:
                found = self._origins[url] = Origin.of(url)
            except ValueError:
                raise Unreachable("its base URL is no http:// or https:// address") from None
        return found


def _head(origin: Origin, target: bytes, headers: Headers, length: int) -> bytes:
    lines = [b"POST ", target, b" HTTP/1.1\r\nhost: ", origin.authority]
    for name, value in headers:
        lines += (b"\r\n", name, b": ", value)
    if any(b"\r" in value or b"\n" in value for _, value in headers):
        raise Unreachable("its key or a header holds a line break")
    lines.append(b"\r\ncontent-length: %d\r\n\r\n" % length)
    return b"".join(lines)


def _words(problem: Exception) -> str:
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({problem.verify_message})"
    if isinstance(problem, ssl.SSLError) and problem.reason:
        return f"no TLS with it ({problem.reason.lower().replace('_', ' ')})"
    if isinstance(problem, socket.gaierror) and problem.strerror:
        return problem.strerror.lower()
    number = problem.errno if isinstance(problem, OSError) else None
    if number is not None and number in errno.errorcode:
        return os.strerror(number).lower()
    return str(problem).lower() or type(problem).__name__
