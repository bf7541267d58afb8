"""One client: his requests in order, each within its time, and his answers' way out.

A request is served when it is whole. Requests that come before their turn wait, a bounded number of
them. What cannot be a request is answered once, and the connection ends. A client that closes his
side has left: what runs for him is cut at once.
"""

import asyncio
from typing import TYPE_CHECKING, Final, cast

from proxy.errors import (
    BodyTooLate,
    ConnectionsCrowded,
    HeadTooLate,
    HttpInvalid,
    OpsError,
    Overloaded,
)
from proxy.serve import wire
from proxy.serve.line import Line
from proxy.serve.reader import Reader
from proxy.serve.request import Request
from proxy.serve.turn import Turn
from proxy.serve.watch import Watch

if TYPE_CHECKING:
    from proxy.serve.server import Server

PIPELINED_MAX: Final = 64  # requests that may wait behind the one that runs
NO_REQUEST: Final = (ConnectionsCrowded, HeadTooLate, HttpInvalid)  # of which not all are told
LINGER_BYTES_MAX: Final = 256 * 1024  # thrown away beyond a body, so that a client can read why


class Connection(Line):
    """What the loop calls with bytes, the gate and turns with what may follow."""

    __slots__ = (
        *("_deaf", "_discarded", "_due", "_last_words", "_queue", "_reader", "_turn"),
        *("_upload_ends", "_will_close", "address"),
    )

    def __init__(self, owner: "Server") -> None:
        super().__init__(owner)
        self.address = ""
        self._reader = Reader(self, owner.settings.body_max_bytes)
        self._turn: Turn | None = None
        self._queue: list[Request] = []
        self._due: Watch[Connection] | None = None  # where this connection is waited for
        self._upload_ends = 0.0
        self._will_close = False  # the last request that came is the last
        self._deaf = False  # nothing that comes matters any more
        self._discarded = 0
        self._last_words: OpsError | None = None  # said when all answers have gone out

    @property
    def is_idle(self) -> bool:
        return self._turn is None and not self._reader.begun and not self._deaf

    @property
    def is_last(self) -> bool:
        """No request will be served after the one that runs."""
        return self._owner.draining

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else ""
        self.transport.set_write_buffer_limits(high=self._owner.settings.stream_buffer_bytes)
        self._await(self._owner.silent)
        self._owner.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        owner, self.transport = self._owner, None
        self._await(None)
        owner.gate.paused.stop(self)
        Line.resume_writing(self)  # whoever waits for room need not
        self._drop()
        self._reader.end()
        self._last_words = None  # an error knows the frames that it came through
        if self._turn is not None:
            self._turn.cut()
        owner.left(self)

    def eof_received(self) -> None:
        """One who closed his half cannot be told from one who left."""
        if self._turn is not None and self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return self._discard(len(data))
        try:
            self._reader.feed(data)
        except OpsError as problem:
            return self.refuse(problem)
        if self._reader.begun:
            self._expect_more()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._turn is None:
            self._next()

    # the reader's side

    def began(self) -> None:
        if len(self._queue) >= PIPELINED_MAX:
            raise HttpInvalid(why=f"more than {PIPELINED_MAX} requests came before their turn")

    def has_head(self, request: Request) -> None:
        request.peer = self.address
        if request.has_body:
            self._owner.check(request)
            self._upload_ends = self._owner.now() + self._owner.settings.body_timeout_ms / 1000
            self._invite()

    def has_piece(self, size: int) -> None:
        gate = self._owner.gate
        gate.bytes += size
        if gate.is_bursting():
            raise Overloaded

    def has_request(self, request: Request) -> None:
        self._await(None)
        self._will_close = not request.keep
        if self._turn is None and self.room is None:
            self._serve(request)
        else:
            self._queue.append(request)

    # a request's way

    def _serve(self, request: Request) -> None:
        turn = self._turn = Turn(self, request, self._owner.handler)
        self._owner.gate.enter(turn)

    def over(self, turn: Turn) -> None:
        owner, self._turn = self._owner, None
        if turn.entered:
            owner.gate.leave()
        else:
            owner.gate.waiting.stop(turn)
        if turn.request.body:
            owner.gate.give_back(len(turn.request.body))
        if self.transport is None:
            return
        if not turn.ended:  # its length was told, or its end mark is missing
            self.transport.abort()
        elif turn.keeps:
            if not turn.entered and not self._queue:
                self._rest()
            self._next()
        else:
            self.close()

    def _next(self) -> None:
        """What is due when an answer has gone out."""
        if self._queue:
            if self.room is None:
                self._serve(self._queue.pop(0))
        elif self._last_words is not None:
            self._say(self._last_words)
        elif not self._reader.begun:
            if self._due is None:
                self._await(self._owner.idle)
        else:
            self._invite()

    def _invite(self) -> None:
        """Tells a client who waits with his body that it may come, when it is his turn."""
        request = self._reader.request
        if request is None or not request.waits or self._reader.size or self.transport is None:
            return
        if self._turn is None and not self._queue:
            del request.headers[b"expect"]
            self.transport.write(wire.CONTINUE)

    # an end

    def refuse(self, problem: OpsError) -> None:
        """What came is no request, or came too late: the connection ends, after what is due."""
        self._deaf = True
        if self._reader.request is not None:  # all of its body may still come
            self._discarded = -self._owner.settings.body_max_bytes
        self._owner.gate.give_back(self._reader.drop())
        if self._will_close:
            return  # it was said already that nothing more is heard
        if self._turn is None and not self._queue:
            self._say(problem)
        else:
            self._await(None)
            self._last_words = problem

    def close(self) -> None:
        """When all that was written has gone out."""
        self._deaf = True
        self._await(None)
        self._drop()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()
            self.watch_reading()

    def cut(self) -> None:
        """Now; the flow still says so where an answer has begun."""
        self._deaf = True
        self._drop()
        if self._turn is not None:
            self._turn.cut()
        else:
            self.close()

    def _drop(self) -> None:
        """What has come and will not be served."""
        waiting = sum(len(request.body) for request in self._queue)
        self._owner.gate.give_back(self._reader.drop() + waiting)
        self._queue.clear()

    def _say(self, problem: OpsError) -> None:
        """The client may still be sending; ended at once, he could not read why."""
        self._last_words = None
        if self.transport is None or self.transport.is_closing():
            return
        self._owner.count(problem)
        if isinstance(problem, NO_REQUEST) and not self._owner.may_tell():
            return self.close()
        farewell = Request(b"GET", "", {}, keep=False, plain=False)
        Turn(self, farewell, self._owner.handler).fail(problem)
        if isinstance(problem, HeadTooLate):
            return self.close()  # who sends so little has sent it already
        self.transport.write_eof()
        self.resume_reading()
        self._await(self._owner.lingering)

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > LINGER_BYTES_MAX:
            self.abort()

    # deadlines

    def _await(self, watch: "Watch[Connection] | None") -> None:
        if self._due is not None:
            self._due.stop(self)
        self._due = watch
        if watch is not None:
            watch.start(self)

    def _expect_more(self) -> None:
        """A part of a request is here; the rest has its time."""
        owner = self._owner
        if self._due is owner.resting:
            return  # not read, and looked at again when he has rested
        if self._reader.request is None:
            if self._due is not owner.silent:
                self._await(owner.silent)
        elif owner.now() > self._upload_ends:
            self.upload_late()
        elif owner.gate.has_room():
            self._await(owner.uploads)
        else:
            self._await(None)
            self.pause_reading()
            owner.gate.paused.start(self)

    def head_late(self) -> None:
        self._due = None
        self.refuse(HeadTooLate(limit=f"{self._owner.settings.head_timeout_ms / 1000:g}"))

    def upload_late(self) -> None:
        self._due = None
        settings = self._owner.settings
        pause, all_ms = settings.body_idle_timeout_ms / 1000, settings.body_timeout_ms
        why = f"it paused for {pause:g} seconds, or took more than {all_ms / 1000:g} in all"
        self.refuse(BodyTooLate(why=why))

    def rested(self) -> None:
        self._due = None
        self.resume_reading()
        self._next()
        if self._reader.begun and not self._deaf:
            self._expect_more()

    def _rest(self) -> None:
        """Told to come later, and made to: a refusal costs CPU too."""
        self.pause_reading()
        self._await(self._owner.resting)

    # the gate's side

    def resume(self) -> None:
        self.resume_reading()
        self._await(self._owner.uploads)

    def crowded_out(self) -> None:
        self.refuse(Overloaded())
