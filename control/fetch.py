"""One small document from an address that somebody has set; nothing else is followed.

Goes out as the data plane does: by the environment's HTTP proxy, trusting the same authorities.
"""

import asyncio
import os
import ssl
from collections.abc import Sequence

import httptools

from proxy.reach import dial
from proxy.reach.egress import Egress
from proxy.reach.http1 import taken_apart
from proxy.reach.incoming import Unreachable
from proxy.reach.networks import Forbidden, Judge, is_possible
from proxy.reach.pool import Origin

WHOLE_S = 10.0  # longest from the first step to the last byte
READ_BYTES = 64 * 1024
HEAD_MAX = 64 * 1024  # bytes


class FetchError(Exception):
    """The document cannot be had; says why, in words for an administrator."""


Fields = Sequence[tuple[str, str]]


async def fetch(url: str, tls: ssl.SSLContext, bytes_max: int, headers: Fields = ()) -> bytes:
    """The body of an answer with status 200, whole; every other status is a failure."""
    try:
        status, body, whole = await ask("GET", url, headers, tls, bytes_max)
    except TimeoutError:
        raise FetchError(f"it has not answered within {WHOLE_S:.0f} seconds") from None
    except (OSError, ValueError) as problem:
        raise FetchError(dial.words(problem)) from None
    except (Unreachable, httptools.HttpParserError) as problem:
        raise FetchError(str(problem)) from None
    if not whole:
        raise FetchError(f"it answers with more than {bytes_max} bytes")
    if status != 200:
        raise FetchError(f"it answers with status {status} instead of 200")
    return body


async def ask(
    method: str,
    url: str,
    headers: Fields,
    tls: ssl.SSLContext,
    bytes_max: int,
    judge: Judge = is_possible,
) -> tuple[int, bytes, bool]:
    """Status and body of the answer, and whether that is all of it; `judge` tells where the place
    may lie. Raises as the network and the parser do, and TimeoutError."""
    async with asyncio.timeout(WHOLE_S):
        origin, target = taken_apart(url)
        reader, writer = await _connected(origin, tls, judge)
        try:
            usual = [("accept", "application/json"), ("connection", "close")]
            if method != "GET":
                usual.append(("content-length", "0"))
            lines = "".join(f"{name}: {value}\r\n" for name, value in [*usual, *headers])
            begin = b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (method.encode(), target, origin.authority)
            writer.write(begin + lines.encode("latin-1") + b"\r\n")
            return await _read(reader, bytes_max)
        finally:
            writer.transport.abort()


async def _connected(
    origin: Origin, tls: ssl.SSLContext, judge: Judge
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    hop = Egress.of(os.environ).hop(origin.host, origin.port, origin.tls)
    if hop is None:
        sock = await dial.connect(origin.host, origin.port, judge)
    elif judge is is_possible:
        sock = await dial.connect(hop.host, hop.port)
    else:  # the proxy on the way would look the name up once more
        raise Forbidden("a place that a tenant has chosen is not asked through an HTTP proxy")
    try:
        if hop is not None:
            await dial.tunnel(sock, b"%b:%d" % (origin.name, origin.port), hop)
        name = origin.host if origin.tls else None
        secure = tls if origin.tls else None
        return await asyncio.open_connection(sock=sock, ssl=secure, server_hostname=name)
    except BaseException:
        sock.close()
        raise


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


async def _read(reader: asyncio.StreamReader, bytes_max: int) -> tuple[int, bytes, bool]:
    document, left = _Document(), bytes_max + HEAD_MAX
    while not document.whole:
        data = await reader.read(READ_BYTES)
        if not data:  # the end, where no length was told
            break
        left -= len(data)
        if left < 0:
            break
        document.parser.feed_data(data)
        if len(document.body) > bytes_max:
            break
    if not document.status:
        raise Unreachable("it ended without an answer")
    within = left >= 0 and len(document.body) <= bytes_max
    return document.status, bytes(document.body), within
