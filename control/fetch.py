"""One small document from an address that an administrator has set; nothing else is followed.

Goes out as the data plane does: by the environment's HTTP proxy, trusting the same authorities.
"""

import asyncio
import os
import ssl
from collections.abc import Sequence

import httptools

from proxy import dial
from proxy.egress import Egress
from proxy.http1 import taken_apart
from proxy.incoming import Unreachable

WHOLE_S = 10.0  # longest from the first step to the last byte
READ_BYTES = 64 * 1024
HEAD_MAX = 64 * 1024  # bytes


class FetchError(Exception):
    """The document cannot be had; says why, in words for an administrator."""


Fields = Sequence[tuple[str, str]]


async def fetch(url: str, tls: ssl.SSLContext, bytes_max: int, headers: Fields = ()) -> bytes:
    """The body of an answer with status 200, whole; every other status is a failure."""
    try:
        async with asyncio.timeout(WHOLE_S):
            document = await _fetched(url, tls, bytes_max, headers)
    except TimeoutError:
        raise FetchError(f"it has not answered within {WHOLE_S:.0f} seconds") from None
    except (OSError, ValueError) as problem:
        raise FetchError(dial.words(problem)) from None
    except (Unreachable, httptools.HttpParserError) as problem:
        raise FetchError(str(problem)) from None
    if document.status != 200:
        raise FetchError(f"it answers with status {document.status} instead of 200")
    return bytes(document.body)


class _Document:
    """What httptools tells of an answer."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.body = bytearray()
        self.status = 0
        self.whole = False

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.whole = True


async def _fetched(url: str, tls: ssl.SSLContext, bytes_max: int, headers: Fields) -> _Document:
    origin, target = taken_apart(url)
    hop = Egress.of(os.environ).hop(origin.host, origin.port, origin.tls)
    to = hop or origin
    sock = await dial.connect(to.host, to.port)
    try:
        if hop is not None:
            await dial.tunnel(sock, b"%b:%d" % (origin.name, origin.port), hop)
        reader, writer = await asyncio.open_connection(
            sock=sock,
            ssl=tls if origin.tls else None,
            server_hostname=origin.host if origin.tls else None,
        )
    except BaseException:
        sock.close()
        raise
    try:
        fields = [("accept", "application/json"), ("connection", "close"), *headers]
        lines = b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in fields)
        writer.write(b"GET %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (target, origin.authority, lines))
        return await _read(reader, bytes_max)
    finally:
        writer.transport.abort()


async def _read(reader: asyncio.StreamReader, bytes_max: int) -> _Document:
    document, left = _Document(), bytes_max + HEAD_MAX
    while not document.whole:
        data = await reader.read(READ_BYTES)
        left -= len(data)
        if left < 0 or len(document.body) > bytes_max:
            raise FetchError(f"it answers with more than {bytes_max} bytes")
        if not data:
            if document.status:  # it told no length
                break
            raise FetchError("it ended without an answer")
        document.parser.feed_data(data)
    return document
