"""What a request's head may be: a client without a key must not fill memory or hold a place."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvicorn
from uvicorn.server import ServerState

from control import head
from control.head import HEAD_BYTES_MAX, HEADERS_MAX, BoundedHead

WAIT_S = 10
START = b"GET / HTTP/1.1\r\nhost: localhost\r\n"

Open = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


async def answers_ok(scope: object, receive: object, send: Callable[..., Awaitable[None]]) -> None:
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
    )
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
async def connect() -> AsyncIterator[Open]:
    config = uvicorn.Config(answers_ok, ws="none", lifespan="off", log_config=None)
    config.load()
    state, loop = ServerState(), asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: BoundedHead(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    opened: list[asyncio.StreamWriter] = []

    async def open_one() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        opened.append(writer)
        return reader, writer

    yield open_one
    for writer in opened:
        writer.close()
    server.close()


async def answer(reader: asyncio.StreamReader) -> tuple[int, str]:
    """The status, and the code where there is one."""
    async with asyncio.timeout(WAIT_S):
        start = await reader.readuntil(b"\r\n\r\n")
        length = int(start.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
    return int(start.split(b" ")[1]), json.loads(body)["error"]["code"] if body else ""


async def test_a_usual_head_is_served_again_and_again(connect: Open) -> None:
    reader, writer = await connect()
    for _ in range(3):
        writer.write(START + b"x: " + b"a" * (HEAD_BYTES_MAX // 2) + b"\r\n\r\n")
        assert await answer(reader) == (200, "")


async def test_a_header_without_end_is_cut_off_at_the_limit(connect: Open) -> None:
    _, writer = await connect()
    writer.write(START + b"x: ")
    with pytest.raises(ConnectionError):
        await pour(writer, 100 * HEAD_BYTES_MAX)


async def pour(writer: asyncio.StreamWriter, size: int) -> None:
    for _ in range(size // 4096):
        writer.write(b"a" * 4096)
        await writer.drain()
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    "headers",
    [
        b"x: " + b"a" * (HEAD_BYTES_MAX + 1) + b"\r\n",
        b"".join(b"x%d: 1\r\n" % number for number in range(HEADERS_MAX + 1)),
    ],
    ids=["bytes", "number"],
)
async def test_a_head_over_a_limit_is_told(connect: Open, headers: bytes) -> None:
    reader, writer = await connect()
    writer.write(START + headers + b"\r\n")
    assert await answer(reader) == (431, "head_too_large")
    assert await reader.read() == b""


async def test_what_is_no_http_is_told(connect: Open) -> None:
    reader, writer = await connect()
    writer.write(b"\x16\x03\x01 hello\r\n\r\n")
    assert await answer(reader) == (400, "http_invalid")


@pytest.mark.parametrize("sent", [b"", START], ids=["nothing", "half"])
async def test_a_head_that_does_not_come_frees_its_place(
    connect: Open, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "HEAD_SECONDS_MAX", 0.05)
    reader, writer = await connect()
    writer.write(sent)
    assert await answer(reader) == (408, "head_too_late")


async def test_a_long_answer_is_not_a_late_head(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between requests only the keep-alive counts."""
    monkeypatch.setattr(head, "HEAD_SECONDS_MAX", 0.05)
    reader, writer = await connect()
    writer.write(START + b"\r\n")
    assert await answer(reader) == (200, "")
    await asyncio.sleep(0.15)
    writer.write(START + b"\r\n")
    assert await answer(reader) == (200, "")
