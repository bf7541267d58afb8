"""One request being served: what the flow writes its answer to. Frames it, ends it when the client
has left, and never writes into the answer of another request.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from proxy import answers
from proxy.errors import OpsError, Overloaded, Stopping
from proxy.ids import request_id
from proxy.serve import wire
from proxy.serve.request import Request
from proxy.serve.wire import Headers

log = logging.getLogger("opscenter.proxy.serve.turn")

Handler = Callable[[Request, "Turn"], Coroutine[Any, Any, None]]


class Place(Protocol):
    """The connection that a turn belongs to."""

    transport: asyncio.Transport | None
    room: "asyncio.Future[None] | None"  # while the client takes no more

    @property
    def is_last(self) -> bool:
        """No request will be served on it after this one."""

    def over(self, turn: "Turn") -> None:
        """The next one may follow."""


class Turn:
    """The downstream of one request."""

    __slots__ = (
        "_handler",
        "_held",
        "_line",
        "_running",
        "begun",
        "ended",
        "entered",
        "request",
        "task",
    )

    def __init__(self, line: Place, request: Request, handler: Handler) -> None:
        self.request = request
        self.task: asyncio.Task[None] | None = None
        self.begun = self.ended = False  # its answer
        self.entered = False  # it has a place at the gate
        self._line = line
        self._handler = handler
        self._running = False
        self._held = b""  # a head that waits for its first piece

    # the gate's side

    def start(self) -> None:
        self.entered = True
        self.task = asyncio.get_running_loop().create_task(self._serve())

    def refuse(self, problem: Overloaded) -> None:
        self.fail(problem)
        self._line.over(self)

    # the connection's side

    def cut(self) -> None:
        """Ends it now: the client has left, or the worker must go."""
        if self.task is None:  # it still waits at the gate
            self.fail(Stopping())
        else:
            self.task.cancel()
        if not self._running:  # then nothing of it will ever run
            self._line.over(self)

    def fail(self, problem: OpsError) -> None:
        """An error as the whole answer."""
        rid = request_id()
        body = answers.error_body(problem, rid, self.request.path, self.request.headers)
        self._write_whole(problem.status, error_headers(problem, rid), body)

    @property
    def keeps(self) -> bool:
        """The connection lives on after its answer."""
        return self.request.keep and not self._line.is_last

    # the flow's side

    @property
    def gone(self) -> bool:
        """Nobody reads any more."""
        return self._line.transport is None

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        self._write_whole(status, headers, body)

    async def head(self, status: int, headers: Headers) -> None:
        framing = b"" if self.request.plain else wire.CHUNKED
        self._held = wire.head(status, headers, framing, not self.keeps)
        self.begun = True
        # a first piece that is here already goes out with it, by one write
        asyncio.get_running_loop().call_soon(self._release)

    def chunk(self, data: bytes) -> Awaitable[None] | None:
        if data and self.request.method != b"HEAD":
            self._write(data if self.request.plain else wire.chunk(data))
        return self._line.room

    async def end(self, last: bytes) -> None:
        self.ended = True
        if self.request.method == b"HEAD":
            self._release()
        elif self.request.plain:
            self._write(last)
        else:
            self._write(wire.chunk(last) + wire.LAST_CHUNK if last else wire.LAST_CHUNK)

    # its own

    async def _serve(self) -> None:
        self._running = True
        try:
            await self._handler(self.request, self)
        except asyncio.CancelledError:
            pass  # by `cut`, and there is nobody to tell
        except Exception:
            log.exception("%s %.200s failed", self.request.method, self.request.path)
        finally:
            if not self.begun and not self.gone:
                self.fail(OpsError())
            self._release()
            self._line.over(self)

    def _write_whole(self, status: int, headers: Headers, body: bytes) -> None:
        head = wire.head(status, headers, wire.length(len(body)), not self.keeps)
        self.begun = self.ended = True
        self._write(head if self.request.method == b"HEAD" else head + body)

    def _release(self) -> None:
        if self._held:
            self._write(b"")

    def _write(self, data: bytes) -> None:
        if self._held:
            data, self._held = self._held + data, b""
        transport = self._line.transport
        if transport is not None and not transport.is_closing():
            transport.write(data)


def error_headers(problem: OpsError, rid: str) -> Headers:
    ids = [(b"x-ops-request-id", rid.encode()), (b"x-request-id", rid.encode())]
    return [*answers.error_headers(problem), *ids]
