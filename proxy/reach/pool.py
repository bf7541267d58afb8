"""Connections to one origin: bounded, kept, last used first.

A place is the right to one open connection. Who ends with a connection hands it, or its place, to
whoever has waited longest; nobody who comes later can take it from him.
"""

import asyncio
import random
import socket
import ssl
from collections import deque
from dataclasses import dataclass, replace

from proxy.metrics import Metrics
from proxy.reach import dial
from proxy.reach.connection import Connection
from proxy.reach.egress import Hop
from proxy.reach.incoming import Bounds, TooLate, Unreachable
from proxy.reach.networks import Forbidden, Judge, is_possible
from proxy.settings import Settings

SWEEP_GRACE_S = 0.005  # timers ring a little early
AGE_SPREAD = 0.1  # so that connections made in one moment do not end in one


class Exhausted(Exception):
    """All connections are in use and no more requests may wait for one."""


@dataclass(frozen=True, slots=True)
class Origin:
    host: str
    port: int
    tls: bool

    @property
    def authority(self) -> bytes:
        """As the header `host` and the target of a request name it: without a usual port."""
        usual = self.port == (443 if self.tls else 80)
        return self.name if usual else b"%b:%d" % (self.name, self.port)

    @property
    def name(self) -> bytes:
        return (f"[{self.host}]" if ":" in self.host else self.host).encode()


class Pool:
    """The connections to one origin."""

    def __init__(
        self,
        origin: Origin,
        hop: Hop | None,
        settings: Settings,
        metrics: Metrics,
        tls: ssl.SSLContext,
        judge: Judge = is_possible,
    ) -> None:
        """`judge` tells at every connection whether the server may lie where its name leads."""
        self.origin = origin
        self.bounds = Bounds.of(settings)
        self._hop = hop
        self._judge = judge
        self._settings = settings
        self._metrics = metrics
        self._tls = tls if origin.tls else None
        self._loop = asyncio.get_running_loop()
        self._idle_s = settings.upstream_idle_ms / 1000
        self._places = 0  # in use: open connections, and those being opened
        self._open: set[Connection] = set()
        self._idle: deque[Connection] = deque()  # the longest unused first
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def in_use(self) -> bool:
        """Whether a connection is open or wanted."""
        return bool(self._places or self._waiters)

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    def kept(self) -> Connection | None:
        """The connection that was used last, if it can serve again."""
        cells, in_use = self._metrics.cells, self._metrics.upstream_in_use
        while self._idle:
            connection = self._idle.pop()
            cells[in_use] += 1
            if self._is_young(connection):
                return connection
            connection.close()
        return None

    async def take(self, fresh: bool = False) -> Connection:
        """A connection for one request; `fresh` when a kept one has just disappointed."""
        give_up_at = self._loop.time() + self._settings.upstream_wait_ms / 1000
        while True:
            if not fresh and (found := self.kept()):
                return found
            if self._places >= self._settings.upstream_connections and self._idle:
                self._idle[0].close()
            if self._places < self._settings.upstream_connections:
                self._places += 1
                self._count_places(1)
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
        now = connection.idle_since = self._loop.time()
        if now >= connection.kept_until:
            connection.close()
        elif not self._waiters or not self._hand_over(connection):
            self._idle.append(connection)
            self._metrics.cells[self._metrics.upstream_in_use] -= 1
            if self._sweeper is None:
                self._sweep()

    def forget(self, connection: Connection) -> None:
        if connection in self._open:
            self._open.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)
                self._metrics.add(self._metrics.upstream_in_use)
            self._free_place()

    def close(self) -> None:
        for connection in list(self._open):
            connection.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def _is_young(self, connection: Connection) -> bool:
        now = self._loop.time()
        unused_s = now - connection.idle_since
        return connection.usable and unused_s <= self._idle_s and now < connection.kept_until

    async def _connect(self) -> Connection:
        """Opens a connection on a place that has been taken; gives the place back if it cannot."""
        self._metrics.add(self._metrics.connects)
        try:
            async with asyncio.timeout(self._settings.connect_timeout_ms / 1000):
                connection = await self._dial()
        except BaseException as problem:
            self._free_place()
            if isinstance(problem, TimeoutError):
                raise TooLate("connect") from None
            if isinstance(problem, OSError | UnicodeError):
                at = "the HTTP proxy on the way: " if self._hop else ""
                raise Unreachable(at + dial.words(problem)) from None
            raise
        self._open.add(connection)
        age_s = self._settings.upstream_age_ms / 1000 * (1 - AGE_SPREAD * random.random())  # noqa: S311
        connection.kept_until = self._loop.time() + age_s
        if connection.transport is None:  # it ended before anybody could use it
            connection.close()
            raise Unreachable("it hung up")
        return connection

    async def _dial(self) -> Connection:
        if self._hop is None:
            sock = await dial.connect(self.origin.host, self.origin.port, self._judge)
        else:
            sock = await self._through(self._hop)
        try:
            _, connection = await self._loop.create_connection(
                lambda: Connection(self),
                sock=sock,
                ssl=self._tls,
                server_hostname=self.origin.host if self._tls else None,
            )
        except BaseException:
            sock.close()
            raise
        return connection

    async def _through(self, hop: Hop) -> socket.socket:
        """By the HTTP proxy on the way. It is told a name and looks it up itself; where that is not
        to be trusted, it is told the address that was judged."""
        target = self.origin
        if self._judge is not is_possible:
            if self._tls is None:
                raise Forbidden(f"{target.host} is not reached by https")
            found = await dial.judged(target.host, target.port, self._judge)
            target = replace(target, host=found[0][4][0])
        sock = await dial.connect(hop.host, hop.port)
        try:
            if self._tls is not None:
                await dial.tunnel(sock, b"%b:%d" % (target.name, target.port), hop)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _turn(self, give_up_at: float) -> Connection | None:
        """A kept connection, or None for the place of one that has ended."""
        if len(self._waiters) >= self._settings.upstream_waiters_max:
            raise Exhausted
        waiter: asyncio.Future[Connection | None] = self._loop.create_future()
        self._waiters.append(waiter)
        self._metrics.add(self._metrics.upstream_waiting)
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
        finally:
            self._metrics.add(self._metrics.upstream_waiting, -1)

    def _return(self, handed: Connection | None) -> None:
        if handed is None:
            self._free_place()
        elif handed in self._open:
            self.give_back(handed)

    def _free_place(self) -> None:
        if not self._hand_over(None):
            self._places -= 1
            self._count_places(-1)

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
            self._idle[0].close()
        if self._idle:
            due = self._idle[0].idle_since + self._idle_s
            self._sweeper = self._loop.call_at(due + SWEEP_GRACE_S, self._sweep)

    def _count_places(self, by: int) -> None:
        """A place is taken to be used at once, and given back by whoever used it."""
        self._metrics.add(self._metrics.upstream_open, by)
        self._metrics.add(self._metrics.upstream_in_use, by)
