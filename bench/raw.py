"""A raw client for tests: bytes out, and what came over the wire, whole, cut or reset."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import httptools
import orjson

KEY = "sk-upstream-0123456789"
WAIT_S = 10.0
SILENCE_S = 0.1  # how long nothing must come before a silence counts as one


class Listening(Protocol):
    """What has a port on loopback: a fake upstream, a door."""

    @property
    def port(self) -> int: ...


@dataclass
class Reply:
    """What came over the wire, dechunked; `whole` when HTTP's own framing ended it."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False
    reset: bool = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.whole = True

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def events(self) -> list[bytes]:
        """Whole events, without their `data: `."""
        return [event.removeprefix(b"data: ") for event in self.body.split(b"\n\n")[:-1]]

    @property
    def chunks(self) -> list[Any]:
        return [orjson.loads(event) for event in self.events if event != b"[DONE]"]

    @property
    def text(self) -> str:
        """The content of the first choice, plain or streamed."""
        if "event-stream" not in self.headers["content-type"]:
            return str(self.json["choices"][0]["message"]["content"])
        deltas = [chunk["choices"][0]["delta"] for chunk in self.chunks if chunk["choices"]]
        return "".join(delta.get("content") or "" for delta in deltas)


def request(model: str, rid: str = "r1", fields: Mapping[str, object] | None = None) -> bytes:
    """A whole chat completion; `fields` come into its body, over what is there."""
    messages = [{"role": "user", "content": "hi"}]
    body = orjson.dumps({"model": model, "messages": messages, **(fields or {})})
    head = f"authorization: Bearer {KEY}\r\nX-Request-Id: {rid}\r\ncontent-length: {len(body)}\r\n"
    return f"POST /v1/chat/completions HTTP/1.1\r\nhost: mock\r\n{head}\r\n".encode() + body


def streamed(model: str, rid: str = "r1", fields: Mapping[str, object] | None = None) -> bytes:
    """The same as a stream that tells its usage."""
    options = {"stream": True, "stream_options": {"include_usage": True}}
    return request(model, rid, {**options, **(fields or {})})


class RawClient:
    """One connection of a raw client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(
        self, data: bytes, until: Callable[[Reply], bool] = lambda reply: reply.whole
    ) -> Reply:
        """Sends; reads until the answer is whole, or `until` holds, or the connection ends."""
        self._writer.write(data)
        reply = Reply()
        parser = httptools.HttpResponseParser(reply)
        async with asyncio.timeout(WAIT_S):
            while not until(reply):
                try:
                    received = await self._reader.read(65_536)
                except ConnectionResetError:
                    reply.reset = True
                    break
                if not received:
                    break
                parser.feed_data(received)
                reply.status = parser.get_status_code()
        return reply

    async def is_silent(self) -> bool:
        """Nothing more comes, not even an end."""
        try:
            async with asyncio.timeout(SILENCE_S):
                await self._reader.read(1)
        except TimeoutError:
            return True
        return False

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            pass


@asynccontextmanager
async def connected(
    upstream: Listening, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawClient]:
    """A connection that is closed at the block's end, if not before."""
    client = RawClient(*await asyncio.open_connection("127.0.0.1", upstream.port, ssl=tls))
    try:
        yield client
    finally:
        await client.close()


async def ask(upstream: Listening, data: bytes) -> Reply:
    """One request on a connection of its own."""
    async with connected(upstream) as client:
        return await client.ask(data)


async def eventually(holds: Callable[[], object]) -> None:
    """Returns as soon as `holds` does; a TimeoutError when that takes too long."""
    async with asyncio.timeout(WAIT_S):
        while not holds():  # noqa: ASYNC110 -- what is waited for happens in another process or task
            await asyncio.sleep(0.002)
