"""The door's socket and all of its connections: who may come in, whose time is over, and what
happens when the worker stops. Knows nothing of what is served.
"""

import asyncio
import contextlib
import logging
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from proxy.errors import ConnectionsCrowded, OpsError
from proxy.machine.listen import BACKLOG
from proxy.metrics import Metrics
from proxy.serve.connection import Connection
from proxy.serve.gate import Gate
from proxy.serve.line import Line
from proxy.serve.request import Request
from proxy.serve.turn import Handler
from proxy.serve.watch import Watch
from proxy.settings import Settings

log = logging.getLogger("opscenter.proxy.serve.server")

LOOK_S: Final = 0.25  # how exactly deadlines are kept
LATE_AT_ONCE, LATE_PAUSE_S = 16, 0.005  # so that a crowd that is late delays nobody else
ACCEPTED_AT_ONCE, ACCEPTED_A_SECOND = 32, 4_000  # beside the one of each round
TOLD_A_LOOK: Final = 64  # of those that are refused; the others end without a word
REST_S: Final = 1.0  # a refused client is not read for so long
LINGER_S: Final = 2.0  # to read why, for one who is still sending
GOODBYE_S: Final = 1.0  # in which idle connections may still ask, when the worker stops
LEAVE_S: Final = 1.0  # for requests that are cut at the end of the drain
FILES_KEPT: Final = 256  # descriptors for everything but clients, providers aside


class Server:
    """HTTP/1.1 on one listening socket, which it never closes."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        handler: Handler,
        check: Callable[[Request], None],
    ) -> None:
        self.settings = settings
        self.handler = handler
        self.check = check
        self.draining = False
        self._metrics = metrics
        self.now = time.monotonic
        self.gate = Gate(settings, self.now)
        self._connections: set[Connection] = set()
        self._by_address: Counter[str] = Counter()
        self._connections_max = min(settings.connections_max, _files(settings))
        self._stopped = asyncio.Event()
        self._empty = asyncio.Event()
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Server | None = None
        self._entering: set[asyncio.Task[Any]] = set()
        self._told = 0  # why they were refused, since the last look
        self._entered_at = 0.0  # when a connection was accepted last

        def watch(seconds: float, ring: Callable[[Connection], None]) -> Watch[Connection]:
            return Watch(seconds, ring, self.now)

        self.silent = watch(settings.head_timeout_ms / 1000, Connection.head_late)
        self.idle = watch(settings.keep_alive_ms / 1000, Connection.close)
        self.uploads = watch(settings.body_idle_timeout_ms / 1000, Connection.upload_late)
        stall_s = settings.stall_timeout_ms / 1000
        self.unread: Watch[Line] = Watch(stall_s, Line.unread_late, self.now)
        self.resting = watch(REST_S, Connection.rested)
        self.lingering = watch(LINGER_S, Connection.abort)

    async def serve(self, listener: socket.socket) -> None:
        """Until `stop`; returns when all that runs has ended, or its time is over."""
        self._listener = listener
        listener.setblocking(False)
        looking = asyncio.create_task(self._look())
        try:
            await self._stopped.wait()
            await self._drain()
        finally:
            looking.cancel()
            self._close_door()

    def stop(self) -> None:
        self._stopped.set()

    # a connection's side

    def joined(self, one: Connection) -> None:
        self._connections.add(one)
        self._by_address[one.address] += 1
        self._metrics.add(self._metrics.connections)
        if self._by_address[one.address] > self.settings.address_connections_max:
            one.refuse(ConnectionsCrowded(limit=self.settings.address_connections_max))
        elif len(self._connections) >= self._connections_max:
            self._make_room()

    def left(self, one: Connection) -> None:
        self._connections.discard(one)
        self._metrics.add(self._metrics.connections, -1)
        self._by_address[one.address] -= 1
        if not self._by_address[one.address]:
            del self._by_address[one.address]
        if not self._connections:
            self._empty.set()

    def count(self, problem: OpsError) -> None:
        self._metrics.error(problem.code)

    def may_tell(self) -> bool:
        """Whether there is time to tell one more why he is refused: who comes again at once would
        have that from us for nothing.
        """
        self._told += 1
        return self._told <= TOLD_A_LOOK

    # all connections

    async def _look(self) -> None:
        """What is due, four times a second."""
        ours = (self.silent, self.idle, self.uploads, self.resting, self.lingering)
        watches = (*ours, self.unread, self.gate.waiting, self.gate.paused)
        while True:
            self._told = 0
            try:
                await self._open_or_close_door()
                for watch in watches:
                    while watch.look(LATE_AT_ONCE):  # noqa: ASYNC110
                        await asyncio.sleep(LATE_PAUSE_S)
            except Exception:  # without this look nobody would come in and nothing would end
                log.exception("a look at the door's connections failed")
            await asyncio.sleep(LOOK_S)

    async def _open_or_close_door(self) -> None:
        """Who cannot be served waits in the socket's queue, where he costs nothing."""
        crowded = self.gate.is_full or len(self._connections) >= self._connections_max
        if crowded or self._stopped.is_set():
            self._close_door()
        elif self._accepting is None and self._listener is not None:
            self._accepting = await asyncio.get_running_loop().create_server(
                self._enter, sock=self._listener.dup(), backlog=BACKLOG
            )

    def _enter(self) -> Connection:
        """The loop accepts one connection a round, so that in a rush the queue would overflow: who
        waits behind this one comes in with it, at a pace that leaves time for those who are in.
        """
        now = self.now()
        paced = int((now - self._entered_at) * ACCEPTED_A_SECOND)
        self._entered_at = now
        with contextlib.suppress(OSError):  # nobody waits, or there is no descriptor for him
            for _ in range(min(paced, ACCEPTED_AT_ONCE)):
                self._accept()
        return Connection(self)

    def _accept(self) -> None:
        """One more; who comes in a rush from an address that has too many is told nothing."""
        assert self._listener is not None
        accepted, peer = self._listener.accept()
        if self._by_address[str(peer[0])] >= self.settings.address_connections_max:
            accepted.close()
            self._metrics.error(ConnectionsCrowded.code)
            return
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.connect_accepted_socket(lambda: Connection(self), accepted))
        self._entering.add(task)
        task.add_done_callback(self._entered)

    def _entered(self, task: "asyncio.Task[Any]") -> None:
        self._entering.discard(task)
        if not task.cancelled():
            task.exception()  # who left at the door is no news

    def _close_door(self) -> None:
        if self._accepting is not None:
            self._accepting.close()
            self._accepting = None

    def _make_room(self) -> None:
        """The connection that has been idle for the shortest time goes: in a flood of them that is
        one of the flood.
        """
        newest = self.idle.last()
        if newest is not None:
            newest.close()
        else:
            self._close_door()

    async def _drain(self) -> None:
        """Requests that run may end; idle connections may ask once more, and are told to close."""
        self._close_door()
        self.draining = True
        ends = self.now() + self.settings.drain_ms / 1000
        if not await self._emptied(min(self.now() + GOODBYE_S, ends)):
            for one in list(self._connections):
                if one.is_idle:
                    one.close()
        if await self._emptied(ends):
            return
        log.warning("%d connections are cut at the end of the drain", len(self._connections))
        for one in list(self._connections):
            one.cut()
        if not await self._emptied(self.now() + LEAVE_S):
            for one in list(self._connections):
                one.abort()

    async def _emptied(self, until: float) -> bool:
        self._empty.clear()
        if not self._connections:
            return True
        try:
            async with asyncio.timeout(until - self.now()):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True


def _files(settings: Settings) -> int:
    """Connections for which there are descriptors; half of them at least."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return settings.connections_max
    free = max(soft - FILES_KEPT - settings.upstream_connections, soft // 2)
    if free < settings.connections_max:
        log.warning("%d connections at most: the system allows %d open files", free, soft)
    return free
