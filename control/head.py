"""HTTP/1.1 as uvicorn reads it, with limits on a request's head: bytes, number of headers, time.

What is refused here has no request yet: the answer is written and the connection closed.
"""

import asyncio
import json
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from proxy.errors import HeadTooLarge, HeadTooLate, HttpInvalid, OpsError
from proxy.ids import request_id

HEAD_BYTES_MAX: Final = 64 * 1024
HEADERS_MAX: Final = 200
HEAD_SECONDS_MAX: Final = 30.0
REASONS: Final = {
    400: "Bad Request",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
}


class BoundedHead(HttpToolsProtocol):
    """One connection of a client; given to uvicorn as its `http`."""

    _timer: asyncio.TimerHandle | None = None  # runs while a head is awaited
    _arrived = 0  # bytes of data since the head began
    _read = 0  # bytes of the headers that are whole
    _too_large = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_ended()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._timer is None:
            return
        self._arrived += len(data)
        if self._arrived > HEAD_BYTES_MAX:
            self._refuse(HeadTooLarge(limit=HEAD_BYTES_MAX))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._read = 0
        if self._timer is None:
            self._await_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._read += len(name) + len(value)
        if self._read > HEAD_BYTES_MAX or len(self.headers) > HEADERS_MAX:
            self._too_large = True
            raise ValueError("the head is too large")  # which ends the parser

    def on_headers_complete(self) -> None:
        self._head_ended()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(
            HeadTooLarge(limit=HEAD_BYTES_MAX)
            if self._too_large
            else HttpInvalid(why="it cannot be read")
        )

    def _await_head(self) -> None:
        self._arrived = 0
        self._timer = self.loop.call_later(
            HEAD_SECONDS_MAX, self._refuse, HeadTooLate(limit=HEAD_SECONDS_MAX)
        )

    def _head_ended(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, error: OpsError) -> None:
        self._head_ended()
        if not self.transport.is_closing():
            self.transport.write(_answer(error))
            self.transport.close()


def _answer(error: OpsError) -> bytes:
    body = json.dumps({"error": error.shape(request_id())}).encode()
    head = (
        f"HTTP/1.1 {error.status} {REASONS[error.status]}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
