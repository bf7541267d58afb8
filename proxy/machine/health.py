"""Tells health and metrics of this machine's proxies over HTTP: three paths, GET and HEAD.

Answers one request per connection, within limits, and never anything about a caller or a key.
"""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

CONNECTIONS_MAX: Final = 64
HEAD_BYTES_MAX: Final = 8192
REQUEST_SECONDS_MAX: Final = 5.0

TEXT: Final = "text/plain; charset=utf-8"
METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    kind: str = TEXT
    allow: str = ""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the answers come from."""

    not_ready: Callable[[], str]  # the reason, empty when all can serve
    metrics: Callable[[], bytes]


class Health:
    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._open = 0
        self._server: asyncio.Server | None = None

    async def start(self, listening: socket.socket) -> None:
        self._server = await asyncio.start_server(self._serve, sock=listening, limit=HEAD_BYTES_MAX)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            async with asyncio.timeout(REQUEST_SECONDS_MAX):
                if self._open > CONNECTIONS_MAX:
                    head_only, answer = False, Answer(503, b"too many connections\n")
                else:
                    head_only, answer = await self._read(reader)
                writer.write(render(answer, head_only))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass  # a client that is slow or gone gets nothing
        finally:
            self._open -= 1
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> tuple[bool, Answer]:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return False, Answer(431, b"the head of the request is too long\n")
        line = head.partition(b"\r\n")[0].split(b" ")
        if len(line) != 3 or not line[2].startswith(b"HTTP/1."):
            return False, Answer(400, b"not an HTTP/1.1 request\n")
        method, target = line[0], line[1].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return False, Answer(405, b"only GET and HEAD\n", allow="GET, HEAD")
        return method == b"HEAD", self._answer(target)

    def _answer(self, target: bytes) -> Answer:
        if target == b"/healthz":
            return Answer(200, b"ok\n")
        if target == b"/readyz":
            reason = self._sources.not_ready()
            return Answer(503, f"{reason}\n".encode()) if reason else Answer(200, b"ready\n")
        if target == b"/metrics":
            return Answer(200, self._sources.metrics(), METRICS)
        return Answer(404, b"here are /healthz, /readyz and /metrics\n")


def render(answer: Answer, head_only: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
        f"content-type: {answer.kind}",
        f"content-length: {len(answer.body)}",
        "cache-control: no-store",
        "connection: close",
    ]
    if answer.allow:
        lines.append(f"allow: {answer.allow}")
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    return head if head_only else head + answer.body
