"""Raw HTTP servers for tests of the client: each byte and each silence is the test's own."""

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from proxy.metrics import in_memory
from proxy.reach.http1 import Client
from proxy.reach.incoming import Answer
from proxy.settings import Settings

PATIENCE_S = 10.0
NO_VARIABLES: Mapping[str, str] = MappingProxyType({})
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nx-a: 1\r\n\r\n"


async def becomes(true: Callable[[], object]) -> None:
    """Waits for what announces nothing by itself."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def request(self) -> tuple[bytes, bytes]:
        """The head and the body of the next request."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return head, await self._reader.readexactly(int(length or 0))

    async def begin(self) -> bytes:
        """The head of the next request alone."""
        return await self._reader.readuntil(b"\r\n\r\n")

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            if self._writer.is_closing():  # the loop would not say it as a ConnectionError
                raise ConnectionResetError
            self._writer.write(piece)
            await self._writer.drain()

    def hang_up(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        self._writer.transport.abort()

    async def closed(self) -> None:
        """Until the client has ended the connection."""
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                while await self._reader.read(2**16):
                    pass


Script = Callable[[Peer], Awaitable[None]]


@dataclass(slots=True)
class Server:
    """Plays the script of the nth connection; the last one for all that follow."""

    scripts: tuple[Script, ...]
    url: str = ""
    connections: int = 0
    ended: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    playing: set["asyncio.Task[object]"] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nth = self.connections
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.playing.add(task)
        task.add_done_callback(self.playing.discard)
        over = (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError)
        with contextlib.suppress(*over):
            await self.scripts[min(nth, len(self.scripts) - 1)](Peer(reader, writer))
        writer.close()
        self.ended.put_nowait(nth)

    async def stop(self) -> None:
        for task in self.playing:
            task.cancel()
        await asyncio.gather(*self.playing, return_exceptions=True)

    async def has_ended(self) -> int:
        """The number of the next connection that is over."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.ended.get()


@asynccontextmanager
async def serving(
    *scripts: Script, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    made = Server(scripts)
    server = await asyncio.start_server(made.serve, host, 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    name = f"[{host}]" if ":" in host else host
    made.url = f"{'https' if tls else 'http'}://{name}:{port}/v1/chat"
    try:
        yield made
    finally:
        server.close()
        await made.stop()


def saying(*pieces: bytes, then: Callable[[Peer], object] | None = None) -> Script:
    """Answers every request of its connection with the same bytes."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(*pieces)
            if then is not None:
                then(peer)

    return script


async def silent(peer: Peer) -> None:
    await peer.request()
    await peer.closed()


@asynccontextmanager
async def client(
    environ: Any = NO_VARIABLES, metrics: Any = None, **settings: int | str
) -> AsyncIterator[Client]:
    """A client that knows no variable of this machine."""
    wanted = Settings(**settings)  # type: ignore[arg-type]
    made = Client(wanted, metrics or in_memory(), environ)
    try:
        yield made
    finally:
        made.close()


async def post(made: Client, url: str, body: bytes = b"{}") -> Answer:
    async with asyncio.timeout(PATIENCE_S):
        return await made.post(url, ((b"x-test", b"1"),), body)


async def whole(answer: Answer) -> bytes:
    pieces = []
    async with asyncio.timeout(PATIENCE_S):
        while (piece := await answer.read()) is not None:
            pieces.append(piece)
    return b"".join(pieces)


async def fetch(made: Client, url: str) -> tuple[int, bytes]:
    answer = await post(made, url)
    return answer.status, await whole(answer)


def certificate(folder: Path, name: str) -> ssl.SSLContext:
    """A server's side of TLS with a certificate that only `folder/cert.pem` vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    alternative: x509.GeneralName = x509.DNSName(name)
    with contextlib.suppress(ValueError):
        alternative = x509.IPAddress(ip_address(name))
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context
