"""What a well-behaved client of the door may expect of HTTP/1.1."""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from tests.serve_stage import HOST, Served, becomes, served


@pytest.fixture
async def stage() -> AsyncIterator[Served]:
    async with served() as made:
        yield made


async def test_a_connection_serves_one_request_after_another(stage: Served) -> None:
    wire = await stage.connect()
    for number in range(3):
        wire.get(f"/{number}")
        reply = await wire.reply()
        assert (reply.status, reply.body) == (200, b"/%d" % number)
    assert stage.connections == 1


async def test_an_answer_says_who_gave_it_and_when(stage: Served) -> None:
    wire = await stage.connect()
    wire.get("/")
    headers = (await wire.reply()).headers
    assert headers["server"] == "opscenter"
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", headers["date"])
    assert "connection" not in headers


async def test_head_and_body_of_an_answer_go_out_together(stage: Served) -> None:
    wire = await stage.connect()
    wire.post(b"hello")
    assert (await wire.reader.read(65536)).endswith(b"\r\n\r\nhello")


async def test_requests_sent_ahead_are_answered_in_order(stage: Served) -> None:
    """The first is the slowest, and the others wait for it."""
    wire = await stage.connect()
    for path in ("/wait", "/stream", "/2"):
        wire.get(path)
    wire.post(b"body", "/3")
    await becomes(lambda: stage.seen)
    stage.open("/wait")
    bodies = [(await wire.reply()).body for _ in range(4)]
    assert bodies == [b"/wait", b"onetwo", b"/2", b"body"]


async def test_a_request_may_come_byte_by_byte(stage: Served) -> None:
    wire = await stage.connect()
    for byte in b"POST /slow HTTP/1.1\r\n" + HOST + b"content-length: 3\r\n\r\nabc":
        wire.send(bytes([byte]))
        await asyncio.sleep(0)
    assert (await wire.reply()).body == b"abc"


async def test_a_body_in_chunks_is_joined(stage: Served) -> None:
    wire = await stage.connect()
    wire.send(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: Chunked\r\n\r\n")
    wire.send(b"3;name=value\r\nabc\r\n2\r\nde\r\n0\r\nx-trailer: 1\r\n\r\n")
    assert (await wire.reply()).body == b"abcde"
    assert b"x-trailer" not in stage.seen[0].headers
    wire.get("/next")
    assert (await wire.reply()).body == b"/next"


async def test_a_client_who_asks_before_his_body_is_told_to_send_it(stage: Served) -> None:
    wire = await stage.connect()
    wire.send(b"POST / HTTP/1.1\r\n" + HOST + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n")
    assert (await wire.head())[0] == 100
    wire.send(b"ok")
    assert (await wire.reply()).body == b"ok"


async def test_the_invitation_comes_after_the_answers_before_it(stage: Served) -> None:
    wire = await stage.connect()
    wire.get("/wait")
    wire.send(b"POST / HTTP/1.1\r\n" + HOST + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n")
    await becomes(lambda: stage.checked["/"])
    stage.open("/wait")
    assert (await wire.reply()).body == b"/wait"
    assert (await wire.head())[0] == 100
    wire.send(b"ok")
    assert (await wire.reply()).body == b"ok"


async def test_what_is_refused_by_its_head_need_not_come(stage: Served) -> None:
    wire = await stage.connect()
    wire.send(b"POST /refused HTTP/1.1\r\n" + HOST)
    wire.send(b"expect: 100-continue\r\ncontent-length: 99999999\r\n\r\n")
    reply = await wire.reply()
    assert (reply.status, reply.code) == (413, "body_too_large")
    assert reply.headers["connection"] == "close"
    assert await wire.ended() == b""
    assert stage.seen == []


async def test_who_still_sends_can_read_why_he_was_refused(stage: Served) -> None:
    """Closed at once, the connection would be reset and the answer lost on the way."""
    wire = await stage.connect()
    wire.send(b"POST /refused HTTP/1.1\r\n" + HOST + b"content-length: 4000000\r\n\r\n")
    for _ in range(40):
        wire.send(b"x" * 100_000)
        await wire.writer.drain()
    assert (await wire.reply()).code == "body_too_large"
    assert await wire.ended() == b""


async def test_head_has_the_headers_and_no_body(stage: Served) -> None:
    wire = await stage.connect()
    for path in ("/plain", "/stream"):
        wire.send(b"HEAD %b HTTP/1.1\r\n%b\r\n" % (path.encode(), HOST))
        reply = await wire.reply(of_head=True)
        assert reply.status == 200
        assert ("content-length" in reply.headers) == (path == "/plain")


async def test_an_old_client_gets_no_chunks(stage: Served) -> None:
    wire = await stage.connect()
    wire.send(b"GET /stream HTTP/1.0\r\n\r\n")
    status, headers = await wire.head()
    assert (status, headers["connection"]) == (200, "close")
    assert "transfer-encoding" not in headers
    assert await wire.ended() == b"onetwo"


async def test_close_is_kept(stage: Served) -> None:
    wire = await stage.connect()
    wire.get("/", b"connection: close")
    assert (await wire.reply()).headers["connection"] == "close"
    assert await wire.ended() == b""


async def test_another_protocol_is_not_taken_up(stage: Served) -> None:
    """Whoever offers one is served in this one, with his body and what follows it."""
    wire = await stage.connect()
    offer = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
    wire.send(b"POST / HTTP/1.1\r\n" + HOST + offer + b"content-length: 4\r\n\r\nbo")
    await asyncio.sleep(0)
    wire.send(b"dyGET /next HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (await wire.reply()).body == b"body"
    assert (await wire.reply()).body == b"/next"
    wire.send(b"GET /3 HTTP/1.1\r\n" + HOST + offer + b"\r\n")
    assert (await wire.reply()).body == b"/3"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a?b=c", "/a"),
        ("/a%2Fb", "/a/b"),
        ("http://localhost/a", "/a"),
        ("HTTP://LOCALHOST", "/"),
        ("http://localhost?x", "/"),
        ("//a", "//a"),
        ("/./a", "/./a"),
        ("*", "*"),
    ],
)
async def test_the_path_is_the_targets_alone(stage: Served, target: str, path: str) -> None:
    """S-20: nothing is resolved, and no header decides it."""
    wire = await stage.connect()
    wire.get(target)
    assert (await wire.reply()).status == 200
    assert stage.seen[0].path == path


async def test_a_mistake_of_ours_is_an_answer(
    stage: Served, caplog: pytest.LogCaptureFixture
) -> None:
    wire = await stage.connect()
    wire.get("/broken")
    reply = await wire.reply()
    assert (reply.status, reply.code) == (500, "internal_error")
    wire.get("/split")
    reply = await wire.reply()
    assert (reply.status, "x-evil" in reply.headers) == (500, False)
    assert "failed" in caplog.text


async def test_a_stream_that_breaks_does_not_look_whole(stage: Served) -> None:
    wire = await stage.connect()
    wire.get("/stream/torn")
    assert (await wire.head())[0] == 200
    assert await wire.ended() == b""


async def test_a_client_that_leaves_ends_what_runs_for_him(stage: Served) -> None:
    """Also one who has not yet been served, and one who sent more ahead."""
    wires = [await stage.connect() for _ in range(3)]
    wires[0].get("/wait")
    wires[1].get("/stream/wait")
    wires[2].get("/wait")
    wires[2].get("/never")
    await becomes(lambda: len(stage.seen) == 3)
    wires[0].leave()
    wires[1].writer.close()
    wires[2].writer.write_eof()
    await becomes(lambda: len(stage.cut) == 3)
    await becomes(lambda: not stage.connections)
    assert "/never" not in {request.path for request in stage.seen}


async def test_lists_in_several_headers_are_joined(stage: Served) -> None:
    wire = await stage.connect()
    wire.get("/", b"accept: a", b"Accept: b")
    await wire.reply()
    assert stage.seen[0].headers[b"accept"] == b"a, b"
