"""The load generator's raw HTTP/1.1 client: bytes out, one Answer in. Never tries again."""

import asyncio
import ssl
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter
from typing import cast
from urllib.parse import urlsplit

import httptools

from bench.pace import Read

ANSWER_BYTES_MAX = 64 * 1024 * 1024
CONNECT_S = 5.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go."""

    host: str
    port: int
    path: str
    tls: ssl.SSLContext | None

    @staticmethod
    def of(url: str) -> "Target":
        """From a base URL such as http://127.0.0.1:8084 or https://host/v1."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no URL such as http://127.0.0.1:8084")
        path = parts.path.rstrip("/").removesuffix("/chat/completions")
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        port = parts.port or (443 if tls else 80)
        return Target(parts.hostname, port, f"{path or '/v1'}/chat/completions", tls)

    def request(self, key: str, body: bytes) -> bytes:
        """A whole request; equal for all, so it is built once."""
        lines = (
            f"POST {self.path} HTTP/1.1",
            f"host: {self.host}:{self.port}",
            *((f"authorization: Bearer {key}",) if key else ()),
            "content-type: application/json",
            f"content-length: {len(body)}",
        )
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass(slots=True)
class Answer:
    """What came back; `reads`: when since the sending, and bytes of the body by then."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    total_s: float = 0.0
    reads: list[Read] = field(default_factory=list)

    @property
    def first_byte_s(self) -> float:
        return self.reads[0][0] if self.reads else 0.0

    @property
    def gaps_s(self) -> list[float]:
        """Between two reads."""
        return [later - sooner for (sooner, _), (later, _) in pairwise(self.reads)]


class Failure(Exception):
    """No whole answer came; the message is the kind that the report counts."""


class Client(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._new_future = asyncio.get_running_loop().create_future
        self._waiting: asyncio.Future[Answer] | None = None
        self.usable = True

    async def call(self, request: bytes, timeout_s: float) -> Answer:
        """Sends and waits for the whole answer; raises Failure."""
        self._answer, self._parser = Answer(), httptools.HttpResponseParser(self)
        self._waiting = self._new_future()
        self._started = perf_counter()
        self._transport.write(request)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._waiting
        except TimeoutError:
            raise Failure("timeout") from None
        finally:
            self._waiting = None

    def close(self) -> None:
        self.usable = False
        self._transport.abort()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance

    def data_received(self, data: bytes) -> None:
        if self._waiting is None or self._waiting.done():
            self.close()  # bytes that nobody asked for
            return
        answer, since = self._answer, perf_counter() - self._started
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail("answer is not HTTP")
        answer.reads.append((since, len(answer.body)))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("connection reset" if exc else "connection closed")

    def _fail(self, kind: str) -> None:
        self.close()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(Failure(kind))

    # the parser's side

    def on_header(self, name: bytes, value: bytes) -> None:
        self._answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        if len(self._answer.body) + len(body) > ANSWER_BYTES_MAX:
            self._fail("answer too large")
            return
        self._answer.body += body

    def on_message_complete(self) -> None:
        answer, parser = self._answer, self._parser
        answer.status = parser.get_status_code()
        answer.total_s = perf_counter() - self._started
        self.usable = self.usable and parser.should_keep_alive()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer)


async def connect(target: Target) -> Client:
    """A new connection; raises Failure."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_S):
            _, client = await loop.create_connection(
                Client, target.host, target.port, ssl=target.tls
            )
    except (OSError, TimeoutError):
        raise Failure("no connection") from None
    return client
