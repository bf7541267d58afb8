"""One client's connection to the fake provider: keep-alive, pipelining, back-pressure.

Plays plans, decides nothing. A plan without waits is one write, in the callback that read it.
"""

import asyncio
import socket
import struct
from collections import deque
from dataclasses import dataclass
from itertools import cycle
from time import monotonic
from typing import cast

import httptools

from bench.openai_wire import error_body
from bench.plan import Finale, Plan, json_plan
from bench.provider import Provider, Seen

BODY_BYTES_MAX = 64 * 1024 * 1024
HEADERS_MAX = 200
PIPELINE_MAX = 64  # requests that wait on one connection before reading from it pauses
_RST_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Due:
    """A request whose turn has not come."""

    request: Seen
    keep_alive: bool


class Connection(asyncio.Protocol):
    """Answers in the order of the requests, one at a time."""

    def __init__(self, provider: Provider, open_connections: set["Connection"]) -> None:
        self._provider = provider
        self._open = open_connections
        self._parser = httptools.HttpRequestParser(self)
        self._due: deque[Due] = deque()
        self._player: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost = asyncio.Event()
        # of the request that is being read
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._expects_continue = False
        # of the answer that takes time
        self._produced = 0

    # asyncio's side ---------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._refuse(f"This is not a request as it should be: {error}")
            return
        self._answer_due()
        if len(self._due) > PIPELINE_MAX:
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._due.clear()
        self._writable.set()
        if self._player is None or self._player.done():
            self._open.discard(self)
        else:  # it still has to write its bill
            self._player.add_done_callback(lambda _: self._open.discard(self))
            self._player.cancel()
        self._lost.set()

    async def drop(self) -> None:
        """Ends the connection at once; returns when it and its player are gone."""
        self._transport.abort()
        await self._lost.wait()
        if self._player is not None:
            await asyncio.wait([self._player])

    # the parser's side ------------------------------------------------------

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers, self._body, self._body_bytes = [], [], 0
        self._expects_continue = False

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self._headers) >= HEADERS_MAX:
            raise ValueError(f"more than {HEADERS_MAX} headers")
        self._headers.append((name, value))
        if name.lower() == b"expect":
            self._expects_continue = True

    def on_headers_complete(self) -> None:
        if self._expects_continue and self._player is None and not self._due:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > BODY_BYTES_MAX:
            raise ValueError(f"a body of more than {BODY_BYTES_MAX} bytes")
        self._body.append(body)

    def on_message_complete(self) -> None:
        parser = self._parser
        path, _, query = self._url.decode("latin-1").partition("?")
        method, body = parser.get_method().decode(), b"".join(self._body)
        request = Seen(method, path, tuple(self._headers), body, query)
        self._due.append(Due(request, parser.should_keep_alive()))

    # answers ----------------------------------------------------------------

    def _answer_due(self) -> None:
        """Answers what waits, up to the first answer that takes time."""
        while self._due and self._player is None and not self._transport.is_closing():
            due = self._due.popleft()
            plan = self._provider.plan(due.request)
            if plan.at_once:
                self._send_whole(plan, due)
            else:
                self._player = asyncio.ensure_future(self._play(plan, due))
        if not self._due:
            self._transport.resume_reading()

    def _send_whole(self, plan: Plan, due: Due) -> None:
        """Bills and sends; in this order, so that what a client has is never unbilled."""
        self._provider.bill_end(plan, due.request.request_id, len(plan.pieces))
        self._transport.write(_head(plan, due.request.request_id) + plan.body)
        if not due.keep_alive:
            self._transport.close()

    async def _play(self, plan: Plan, due: Due) -> None:
        """A plan that takes time; cancelled when the client goes, billed for what it produced."""
        self._produced = 0
        try:
            await asyncio.sleep(plan.latency_s)
            if plan.in_one_piece:
                self._send_whole(plan, due)
            else:
                await self._send_by_pieces(plan, due)
        except asyncio.CancelledError:
            self._provider.bill_abort(plan, due.request.request_id, self._produced)
            raise
        except OSError:
            self._transport.abort()
            raise
        self._player = None
        self._answer_due()

    async def _send_by_pieces(self, plan: Plan, due: Due) -> None:
        if plan.head:
            self._transport.write(_head(plan, due.request.request_id) + plan.opening)
        await self._send_pieces(plan)
        if plan.finale is Finale.HANG:
            await self._lost.wait()
        self._provider.bill_end(plan, due.request.request_id, self._produced)
        self._transport.write(plan.ending)
        if plan.finale is Finale.RESET:
            _make_close_a_reset(self._transport)
            self._transport.abort()
        elif plan.finale is Finale.CLOSE or not due.keep_alive:
            self._transport.close()

    async def _send_pieces(self, plan: Plan) -> None:
        """Each piece at its own time, counted from the first, so that no delay adds up."""
        start = monotonic()
        pieces = cycle(plan.pieces) if plan.finale is Finale.ENDLESS else plan.pieces
        for number, piece in enumerate(pieces):
            if number and (plan.piece_s or plan.finale is Finale.ENDLESS):
                await asyncio.sleep(start + number * plan.piece_s - monotonic())
            await self._writable.wait()
            self._transport.write(piece)
            self._produced = number + 1

    def _refuse(self, why: str) -> None:
        body = error_body(why, "invalid_request_error", None, None)
        plan = json_plan(400, body, ("connection", "close"))
        self._transport.write(_head(plan, "") + plan.body)
        self._transport.close()


def _head(plan: Plan, request_id: str) -> bytes:
    return b"%bx-request-id: %b\r\n\r\n" % (plan.head, (request_id or "req_mock").encode("latin-1"))


def _make_close_a_reset(transport: asyncio.Transport) -> None:
    transport.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE
    )
