"""S-22: what two programs could read in two ways is refused by the door, and the connection ends.

Each of these was, in one server or another, the way to hide a request inside of another.
"""

from collections.abc import AsyncIterator

import pytest

from proxy.serve import connection
from proxy.serve.request import HEAD_BYTES_MAX, HEADERS_MAX, TARGET_BYTES_MAX
from tests.serve_stage import HOST, Served, Wire, becomes, served

POST = b"POST / HTTP/1.1\r\n" + HOST
GET = b"GET / HTTP/1.1\r\n" + HOST
CHUNKED = b"transfer-encoding: chunked\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.fixture
async def stage() -> AsyncIterator[Served]:
    async with served() as made:
        yield made


INVALID = {
    # the length in two ways
    "length and chunks": POST + b"content-length: 6\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "chunks and length": POST + CHUNKED + b"content-length: 6\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    "the same length twice": POST + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello",
    "a list of lengths": POST + b"content-length: 5, 5\r\n\r\nhello",
    # a length that is none
    "plus": POST + b"content-length: +5\r\n\r\nhello",
    "minus": POST + b"content-length: -5\r\n\r\nhello",
    "hexadecimal": POST + b"content-length: 0x5\r\n\r\nhello",
    "empty": POST + b"content-length:\r\n\r\nhello",
    "a fraction": POST + b"content-length: 5.0\r\n\r\nhello",
    "with a space": POST + b"content-length: 1 0\r\n\r\nhellohello",
    "with an underscore": POST + b"content-length: 1_0\r\n\r\nhellohello",
    "too large for 64 bits": POST + b"content-length: 18446744073709551621\r\n\r\nhello",
    # codings
    "xchunked": POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked before another": POST + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "gzip before chunked": POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "identity": POST + b"transfer-encoding: identity\r\n\r\nhello",
    "empty coding": POST + b"transfer-encoding:\r\n\r\n0\r\n\r\n",
    "a tab in the coding": POST + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "quoted coding": POST + b'transfer-encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "two codings": POST + CHUNKED + b"transfer-encoding: identity\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"POST / HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n0\r\n\r\n",
    "an upgrade with both": POST
    + b"connection: upgrade\r\nupgrade: x\r\ncontent-length: 6\r\n"
    + CHUNKED
    + b"\r\n0\r\n\r\n",
    # chunks
    "chunk size with 0x": POST + CHUNKED + b"\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "chunk size minus": POST + CHUNKED + b"\r\n-3\r\nabc\r\n0\r\n\r\n",
    "chunk size plus": POST + CHUNKED + b"\r\n+3\r\nabc\r\n0\r\n\r\n",
    "chunk size empty": POST + CHUNKED + b"\r\n\r\nabc\r\n0\r\n\r\n",
    "chunk size with a space": POST + CHUNKED + b"\r\n3 \r\nabc\r\n0\r\n\r\n",
    "chunk size too large": POST + CHUNKED + b"\r\n10000000000000003\r\nabc\r\n0\r\n\r\n",
    "chunk size behind LF alone": POST + CHUNKED + b"\r\n3\nabc\r\n0\r\n\r\n",
    "chunk longer than told": POST + CHUNKED + b"\r\n3\r\nabcd\r\n0\r\n\r\n",
    "chunk behind LF alone": POST + CHUNKED + b"\r\n3\r\nabc\n0\r\n\r\n",
    "extension with LF": POST + CHUNKED + b"\r\n3;a\nb\r\nabc\r\n0\r\n\r\n",
    "trailer with a NUL": POST + CHUNKED + b"\r\n0\r\nx: \0\r\n\r\n",
    # lines
    "LF alone": b"GET / HTTP/1.1\nhost: localhost\n\n",
    "LF in a header": GET + b"x: a\ny: b\r\n\r\n",
    "CR in a header": GET + b"x: a\ry: b\r\n\r\n",
    "CR before CRLF": GET + b"x: a\r\r\n\r\n",
    "a folded header": GET + b"x: a\r\n b\r\n\r\n",
    "a folded length": POST + b"content-length:\r\n 5\r\n\r\nhello",
    "a folded first header": b"GET / HTTP/1.1\r\n x: a\r\n" + HOST + b"\r\n",
    # names
    "space before the colon": POST + b"content-length : 5\r\n\r\nhello",
    "tab before the colon": POST + b"content-length\t: 5\r\n\r\nhello",
    "space in a name": GET + b"x y: a\r\n\r\n",
    "underscore in a name": POST + b"content_length: 5\r\n\r\nhello",
    "no name": GET + b": a\r\n\r\n",
    "no colon": GET + b"hello\r\n\r\n",
    "a letter beyond ASCII in a name": GET + b"x\xe9: a\r\n\r\n",
    "NUL in a name": GET + b"x\0: a\r\n\r\n",
    "bracket in a name": GET + b"x[0]: a\r\n\r\n",
    # values
    "NUL in a value": GET + b"x: a\0b\r\n\r\n",
    "a control character in a value": GET + b"x: a\x01b\r\n\r\n",
    "DEL in a value": GET + b"x: a\x7fb\r\n\r\n",
    # who is meant
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "empty host": b"GET / HTTP/1.1\r\nhost:\r\n\r\n",
    "two hosts": GET + b"host: other\r\n\r\n",
    "host with a path": b"GET / HTTP/1.1\r\nhost: a/?x=\r\n\r\n",
    "host with a fragment": b"GET / HTTP/1.1\r\nhost: h/#\r\n\r\n",
    "host with a user": b"GET / HTTP/1.1\r\nhost: a@b\r\n\r\n",
    "host with a list": b"GET / HTTP/1.1\r\nhost: a, b\r\n\r\n",
    "host with a space": b"GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
    "another host in the target": b"GET http://other/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "a user in the target": b"GET http://a@localhost/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "another scheme": b"GET ftp://localhost/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "two keys": GET + b"authorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n",
    # request lines
    "no version": b"GET /\r\n" + HOST + b"\r\n",
    "version 0.9": b"GET / HTTP/0.9\r\n" + HOST + b"\r\n",
    "version 1.2": b"GET / HTTP/1.2\r\n" + HOST + b"\r\n",
    "version 2.0": b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
    "HTTP/2's first words": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "small letters in the version": b"GET / http/1.1\r\n" + HOST + b"\r\n",
    "space behind the version": b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n",
    "tab for a space": b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "space in the target": b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
    "a letter beyond ASCII in the target": b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n",
    "NUL in the target": b"GET /\0 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target that is no path": b"GET a HTTP/1.1\r\n" + HOST + b"\r\n",
    "an unknown method": b"FOO / HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method in small letters": b"get / HTTP/1.1\r\n" + HOST + b"\r\n",
    "a tunnel": b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "words": b"hello\r\n\r\n",
}


@pytest.mark.parametrize("data", INVALID.values(), ids=INVALID.keys())
async def test_what_is_ambiguous_is_refused_and_the_connection_ends(
    stage: Served, data: bytes
) -> None:
    """One answer, no request served, and what follows is never read as one."""
    wire = await stage.connect()
    wire.send(data + HIDDEN)
    reply = await wire.reply()
    assert (reply.status, reply.code) == (400, "http_invalid"), reply.body
    assert reply.headers["connection"] == "close"
    assert await wire.ended() == b""
    assert stage.seen == []


async def test_what_is_cut_anywhere_is_read_the_same(stage: Served) -> None:
    """No decision hangs on where packets end."""
    for data in (INVALID["length and chunks"], INVALID["CR in a header"], INVALID["two hosts"]):
        for cut in range(1, len(data), 7):
            wire = await stage.connect()
            wire.send(data[:cut])
            await wire.writer.drain()
            wire.send(data[cut:] + HIDDEN)
            assert (await wire.reply()).status == 400
            assert await wire.ended() == b""
    assert stage.seen == []


LARGE = {
    "bytes": (GET + b"x: " + b"a" * HEAD_BYTES_MAX + b"\r\n\r\n", 431, "head_too_large"),
    "bytes of a head without end": (GET + b"x: " + b"a" * 500_000, 431, "head_too_large"),
    "headers": (GET + b"x: 1\r\n" * HEADERS_MAX + b"\r\n", 431, "head_too_large"),
    "target": (
        b"GET /%b HTTP/1.1\r\n%b\r\n" % (b"a" * TARGET_BYTES_MAX, HOST),
        414,
        "target_too_long",
    ),
    "trailers": (
        POST + CHUNKED + b"\r\n0\r\n" + b"x: 1\r\n" * 100_000,
        431,
        "head_too_large",
    ),
    "a chunk's extension": (POST + CHUNKED + b"\r\n3;" + b"a" * 500_000, 431, "head_too_large"),
    "expectation": (POST + b"expect: tea\r\n\r\n", 417, "expectation_unknown"),
}


@pytest.mark.parametrize(("data", "status", "code"), LARGE.values(), ids=LARGE.keys())
async def test_what_is_too_large_is_told(
    stage: Served, data: bytes, status: int, code: str
) -> None:
    wire = await stage.connect()
    wire.send(data)
    reply = await wire.reply()
    assert (reply.status, reply.code) == (status, code)
    wire.leave()
    assert stage.seen == []


async def test_a_large_head_within_the_limit_is_served(stage: Served) -> None:
    wire = await stage.connect()
    for _ in range(3):
        wire.send(GET + b"x: " + b"a" * (HEAD_BYTES_MAX // 2) + b"\r\n\r\n")
        assert (await wire.reply()).status == 200


async def test_a_head_without_end_is_cut_off(stage: Served) -> None:
    """Told once, then thrown away for a while, then the connection is gone."""
    wire = await stage.connect()
    wire.send(GET + b"x: ")
    with pytest.raises(ConnectionError):
        await pour(wire, 4000)


async def pour(wire: Wire, pieces: int) -> None:
    for _ in range(pieces):
        wire.send(b"a" * 4096)
        await wire.writer.drain()


async def test_the_number_of_requests_sent_ahead_is_bounded(stage: Served) -> None:
    """Those within it are answered, then the refusal comes."""
    wire = await stage.connect()
    first = b"GET /wait HTTP/1.1\r\n" + HOST + b"\r\n"
    wire.send(first + (GET + b"\r\n") * (connection.PIPELINED_MAX + 10))
    await becomes(lambda: stage.seen)
    stage.open("/wait")
    statuses = [(await wire.reply()).status for _ in range(connection.PIPELINED_MAX + 2)]
    assert statuses == [200] * (connection.PIPELINED_MAX + 1) + [400]
    assert await wire.ended() == b""


async def test_a_refusal_waits_for_the_answers_before_it(stage: Served) -> None:
    wire = await stage.connect()
    wire.get("/wait")
    wire.send(INVALID["two lengths"])
    stage.open("/wait")
    assert (await wire.reply()).body == b"/wait"
    assert (await wire.reply()).code == "http_invalid"
    assert await wire.ended() == b""


async def test_nothing_is_heard_behind_a_last_request(stage: Served) -> None:
    wire = await stage.connect()
    wire.send(b"GET /last HTTP/1.1\r\n" + HOST + b"connection: close\r\n\r\n" + HIDDEN)
    assert (await wire.reply()).body == b"/last"
    assert await wire.ended() == b""
    assert [request.path for request in stage.seen] == ["/last"]
