"""One connection to a provider, for one request at a time: the socket's side of an Answer.

Knows nothing of providers, follows no redirect, repeats nothing.
"""

import asyncio
from typing import Protocol, cast

from proxy.reach.incoming import Answer, Bounds, Stale
from proxy.reach.parser import Parser


class Keeper(Protocol):
    """Whoever lends the connection out."""

    bounds: Bounds

    def give_back(self, connection: "Connection") -> None:
        """It may serve again."""

    def forget(self, connection: "Connection") -> None:
        """It is gone."""


class Connection(asyncio.Protocol):
    """A socket that serves one request at a time.

    Its one timer never lies further ahead than the shortest deadline, and looks at the answer of
    the moment when it rings: most answers come and go between two looks.
    """

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self.transport: asyncio.Transport | None = None
        self.served = 0
        self.idle_since = 0.0
        self.kept_until = 0.0  # older ones are not kept: their server's name may lead elsewhere
        self.bounds = keeper.bounds
        self.loop = asyncio.get_running_loop()
        self._parser: Parser  # from when it is connected: who leaves before leaves nothing behind
        self._answer: Answer | None = None  # None while idle
        self._timer: asyncio.TimerHandle | None = None

    @property
    def usable(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    async def request(self, head: bytes, body: bytes) -> Answer:
        """Sends a request and waits for the head of its answer."""
        if self.transport is None:
            raise Stale("it hung up")
        answer = self._answer = Answer(self, self._parser)
        try:
            self.transport.writelines((head, body))
            if self._timer is None:
                self._timer = self.loop.call_later(self.bounds.shortest_s, self._ring)
            while (waits := answer.begun()) is not None:
                await waits
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
        self._answer = self._parser.answer = None
        transport = self.transport
        # an answer that came before the request had gone out leaves the rest of it in the way
        if keep and self.usable and transport and not transport.get_write_buffer_size():
            self.served += 1
            self.keeper.give_back(self)
        else:
            self.close()

    def pause(self) -> bool:
        if self.transport is None:
            return False
        self.transport.pause_reading()
        return True

    def resume(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def _ring(self) -> None:
        self._timer = None
        if self._answer is not None:
            now, due = self.loop.time(), self._answer.due()
            if now >= due:
                self._answer.too_late()
            else:
                due = min(due, now + self.bounds.shortest_s)
                self._timer = self.loop.call_at(due, self._ring)

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self._parser = Parser()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.keeper.forget(self)
        if self._answer is not None:
            self._answer.lost()
            self._answer = None
        self._parser.end()

    def eof_received(self) -> None:
        if self._answer is not None:
            self._answer.eof()

    def data_received(self, data: bytes) -> None:
        if self._answer is not None:
            self._answer.feed(data)
        else:  # nobody asked
            self.close()
