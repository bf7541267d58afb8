"""One connection to Redis: commands out in one write per turn of the loop, replies in, in order.
A late answer ends it; it never comes back by itself.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis

Reply = Any  # what Redis answered: bytes, int, None or a list of these
Left = Callable[[Reply], None]  # hears the reply to a call whose caller has been cancelled
NOTHING = object()  # no whole reply has come yet


class RedisDown(Exception):
    """Redis cannot be reached, answers too late, or has too much waiting. Nothing was decided."""


class Link(asyncio.Protocol):
    """One connection: commands out, replies in, in order."""

    def __init__(self, lost: Callable[["Link"], None]) -> None:
        self.lost = lost  # told at once, so that nothing is sent to where nobody answers
        self.reader = hiredis.Reader(notEnoughData=NOTHING)
        self.waiting: deque[tuple[float, asyncio.Future[Reply], Left | None]] = deque()
        self.transport: asyncio.Transport | None = None
        self.loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self.loop.create_future()
        self.problem = "the connection to Redis ended"
        self._out: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by class

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.lost(self)
        while self.waiting:
            future = self.waiting.popleft()[1]
            if not future.done():
                future.set_exception(RedisDown(self.problem))
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        try:
            self._answer_waiting()
        except hiredis.ProtocolError:
            self.fail("what answers at Redis' address is not Redis")

    def _answer_waiting(self) -> None:
        while (reply := self.reader.gets()) is not NOTHING:
            if not self.waiting:
                return self.fail("Redis answered what nobody asked")
            _, future, left = self.waiting.popleft()
            if future.done():
                if left is not None and not isinstance(reply, hiredis.ReplyError):
                    left(reply)
            elif isinstance(reply, hiredis.ReplyError):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    @property
    def collects(self) -> bool:
        """Commands wait for the end of this round of the loop."""
        return bool(self._out)

    def send(
        self, command: bytes, deadline: float, left: Left | None = None
    ) -> "asyncio.Future[Reply]":
        future: asyncio.Future[Reply] = self.loop.create_future()
        self.waiting.append((deadline, future, left))
        if not self._out:
            self.loop.call_soon(self._flush)
        self._out.append(command)
        return future

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self.transport is not None:
            self.transport.write(out[0] if len(out) == 1 else b"".join(out))

    def expire(self, now: float) -> None:
        """A late answer condemns the connection: the ones behind it would be later still."""
        if self.waiting and self.waiting[0][0] < now:
            self.fail("Redis did not answer in time")

    def fail(self, problem: str = "") -> None:
        self.problem = problem or self.problem
        if self.transport is not None:
            self.transport.abort()
