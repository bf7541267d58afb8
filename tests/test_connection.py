"""One answer as it comes: framing, deadlines, back-pressure, and every way to break off."""

import asyncio
import gc
from collections.abc import Callable

import pytest

from proxy.reach.connection import Connection
from proxy.reach.http1 import Client
from proxy.reach.incoming import (
    HEADER_BYTES_MAX,
    HEADERS_MAX,
    Answer,
    Broken,
    Stale,
    TooLate,
    Unreachable,
)
from proxy.reach.parser import Parser
from tests.http_stage import (
    CHUNKED,
    OK,
    UNTIL_CLOSE,
    Peer,
    Server,
    becomes,
    client,
    fetch,
    post,
    saying,
    serving,
    silent,
    whole,
)

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n"


async def broken(made: Client, url: str) -> str:
    with pytest.raises(Broken) as caught:
        await fetch(made, url)
    return str(caught.value)


# Framing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pieces", "status", "body"),
    [
        ((OK,), 200, b"{}"),
        ((b"HTTP/1.1 404 Nope\r\ncontent-length: 2\r\n\r\n", b"n", b"o"), 404, b"no"),
        ((CHUNKED, b"5\r\nhello\r\n", b"6\r\n world\r\n0\r\n\r\n"), 200, b"hello world"),
        ((CHUNKED + b"5;a=b\r\nhello\r\n0\r\nx-t: 1\r\n\r\n",), 200, b"hello"),
        ((b"HTTP/1.1 204 No\r\n\r\n",), 204, b""),
        ((b"HTTP/1.1 304 No\r\n\r\n",), 304, b""),
        ((b"HTTP/1.1 100 Continue\r\nx: 1\r\n\r\n", OK), 200, b"{}"),
        ((b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 102 P\r\n\r\n" + OK,), 200, b"{}"),
    ],
)
async def test_a_body_ends_where_its_head_says(
    pieces: tuple[bytes, ...], status: int, body: bytes
) -> None:
    async with serving(saying(*pieces)) as server, client() as made:
        answer = await post(made, server.url)
        assert (answer.status, await whole(answer)) == (status, body)
        assert await answer.read() is None


async def test_an_answer_that_comes_byte_by_byte_is_the_same() -> None:
    pieces = [bytes([byte]) for byte in CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"]
    async with serving(saying(*pieces)) as server, client() as made:
        assert await fetch(made, server.url) == (200, b"hello")


async def test_a_body_without_a_length_ends_with_its_connection() -> None:
    async with (
        serving(saying(UNTIL_CLOSE, b"all ", b"of it", then=Peer.hang_up)) as server,
        client() as made,
    ):
        assert await fetch(made, server.url) == (200, b"all of it")
        assert await fetch(made, server.url) == (200, b"all of it")
        assert server.connections == 2


async def test_the_headers_are_those_of_the_answer_and_in_lower_case() -> None:
    """Not those of an early hint, nor what follows the body."""
    early = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    late = b"HTTP/1.1 200 OK\r\nX-One: 1\r\ntransfer-encoding: chunked\r\nX-Two:\r\n\r\n"
    trailer = b"1\r\na\r\n0\r\nX-Late: 1\r\n\r\n"
    async with serving(saying(early, late + trailer)) as server, client() as made:
        answer = await post(made, server.url)
        assert await whole(answer) == b"a"
        assert answer.headers == [
            (b"x-one", b"1"),
            (b"transfer-encoding", b"chunked"),
            (b"x-two", b""),
        ]


# Answers that break off, or are none -------------------------------------------------------


@pytest.mark.parametrize(
    "pieces",
    [
        (HEAD,),
        (HEAD, b"x" * 1000),
        (CHUNKED,),
        (CHUNKED, b"5\r\nhel"),
        (CHUNKED, b"5\r\nhello\r\n"),
        (CHUNKED, b"5\r\nhello\r\n0\r\n"),
    ],
)
@pytest.mark.parametrize("end", [Peer.hang_up, Peer.reset])
async def test_a_body_that_breaks_off_is_never_taken_for_whole(
    pieces: tuple[bytes, ...], end: Callable[[Peer], None]
) -> None:
    """Neither by a polite end of the connection nor by a reset."""
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*pieces)
        await go.wait()
        end(peer)

    async with serving(script) as server, client() as made:
        answer = await post(made, server.url)
        go.set()
        with pytest.raises(Broken, match="it ended inside the answer"):
            await whole(answer)


async def test_what_came_before_the_break_is_read_first() -> None:
    """It was delivered, so it is charged."""
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED, b"5\r\nhello\r\n")
        await go.wait()

    async with serving(script) as server, client() as made:
        answer = await post(made, server.url)
        go.set()
        assert await server.has_ended() == 0
        assert await answer.read() == b"hello"
        for _ in range(2):
            with pytest.raises(Broken):
                await answer.read()


async def test_a_head_that_breaks_off_is_not_asked_for_again() -> None:
    """The server had begun to answer: a second request would be billed too."""
    half = b"HTTP/1.1 200 OK\r\ncontent-le"

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        await peer.send(half)

    async with serving(script, saying(OK)) as server, client() as made:
        assert await fetch(made, server.url) == (200, b"{}")
        assert await broken(made, server.url) == "it ended inside the head of its answer"
        assert server.connections == 1


@pytest.mark.parametrize(
    "junk",
    [
        b"\x00\x01\x02\x03",
        b"garbage\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nna me: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"fffffffffffffffffffffff\r\n",
        CHUNKED + b"2\r\nabc\r\n",
    ],
)
async def test_what_is_not_http_is_told_and_its_connection_ended(junk: bytes) -> None:
    async with serving(saying(junk)) as server, client() as made:
        assert await broken(made, server.url) == "it sent what is not HTTP"
        assert await server.has_ended() == 0


async def test_a_change_of_protocol_is_refused() -> None:
    head = b"HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
    async with serving(saying(head)) as server, client() as made:
        assert await broken(made, server.url) == "it wants to change the protocol"


def headers(count: int) -> bytes:
    return b"".join(b"x-%d: y\r\n" % nth for nth in range(count))


@pytest.mark.parametrize(
    ("head", "taken"),
    [
        (headers(HEADERS_MAX - 1), True),
        (headers(HEADERS_MAX), False),
        (b"x: " + b"y" * (HEADER_BYTES_MAX - 100) + b"\r\n", True),
        (b"x: " + b"y" * (HEADER_BYTES_MAX + 1) + b"\r\n", False),
        (b"".join(b"x: " + b"y" * 1_000 + b"\r\n" for _ in range(66)), False),
    ],
    ids=["many", "too many", "long", "too long", "many and long"],
)
async def test_a_head_has_its_limits(head: bytes, taken: bool) -> None:
    answer = b"HTTP/1.1 200 OK\r\n" + head + b"content-length: 2\r\n\r\n{}"
    async with serving(saying(answer)) as server, client() as made:
        if taken:
            assert await fetch(made, server.url) == (200, b"{}")
        else:
            assert await broken(made, server.url) == "its head is too large"


@pytest.mark.parametrize(
    "endless",
    [
        (b"HTTP/1.1 200 OK\r\nx: ", b"y"),
        (b"HTTP/1.1 200 OK\r\n", b"y"),
        (b"HTTP/1.1 200 ", b"y"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (CHUNKED + b"1;", b"y"),
        (CHUNKED + b"0\r\nx: ", b"y"),
        (CHUNKED + b"0\r\n", b"x: y\r\n"),
    ],
    ids=["value", "name", "reason", "continues", "chunk extension", "trailer", "trailers"],
)
async def test_what_is_no_body_cannot_go_on_for_ever(endless: tuple[bytes, bytes]) -> None:
    """Nothing that never becomes a body fills our memory or keeps a request alive."""
    begin, more = endless

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(begin)
        while True:
            await peer.send(more * (4_096 // len(more)))

    async with serving(script) as server, client() as made:
        with pytest.raises(Broken):
            await fetch(made, server.url)
        assert await server.has_ended() == 0


# Deadlines -------------------------------------------------------------------------------


async def test_the_first_byte_has_its_deadline() -> None:
    async with serving(silent) as server, client(first_byte_timeout_ms=60) as made:
        with pytest.raises(TooLate, match=r"^first byte$"):
            await post(made, server.url)
        assert await server.has_ended() == 0


async def test_a_head_that_drips_is_a_first_byte_that_does_not_come() -> None:
    """Else a byte a minute would hold a request for half an hour."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nx: ")
        while True:
            await peer.send(b"y")
            await asyncio.sleep(0.01)

    async with serving(script) as server, client(first_byte_timeout_ms=100) as made:
        with pytest.raises(TooLate, match=r"^first byte$"):
            await post(made, server.url)


@pytest.mark.parametrize("begin", [HEAD, HEAD + b"x", CHUNKED + b"1\r\nx\r\n"])
async def test_a_pause_in_a_body_has_its_own_deadline(begin: bytes) -> None:
    """Also where the first byte was allowed to take much longer."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(begin)
        await peer.closed()

    settings = {"first_byte_timeout_ms": 60_000, "idle_timeout_ms": 60}
    async with serving(script) as server, client(**settings) as made:
        answer = await post(made, server.url)
        with pytest.raises(TooLate, match=r"^idle$"):
            await whole(answer)
        assert await server.has_ended() == 0


async def test_an_answer_that_goes_on_and_on_ends_at_its_total() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        while True:
            await peer.send(b"1\r\nx\r\n")
            await asyncio.sleep(0.01)

    settings = {"idle_timeout_ms": 5_000, "total_timeout_ms": 1_000}
    async with serving(script) as server, client(**settings) as made:
        answer = await post(made, server.url)
        with pytest.raises(TooLate, match=r"^total$"):
            await whole(answer)
        assert await server.has_ended() == 0


async def test_a_body_whose_pauses_are_short_may_take_longer_than_one_pause() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        for _ in range(20):
            await asyncio.sleep(0.03)
            await peer.send(b"1\r\nx\r\n")
        await peer.send(b"0\r\n\r\n")

    async with serving(script) as server, client(idle_timeout_ms=500) as made:
        assert await fetch(made, server.url) == (200, b"x" * 20)


async def test_an_answer_that_is_read_late_is_still_there() -> None:
    """Once it has come whole, no deadline touches it."""
    async with serving(saying(OK)) as server, client(idle_timeout_ms=20) as made:
        answer = await post(made, server.url)
        await asyncio.sleep(0.08)
        assert await whole(answer) == b"{}"
        assert await fetch(made, server.url) == (200, b"{}")
        assert server.connections == 1


# Back-pressure -----------------------------------------------------------------------------

LARGE = 24 * 2**20
ONE_READ = 2**18  # what a loop reads at once


async def large(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % LARGE)
    for _ in range(LARGE // 2**16):
        await peer.send(b"x" * 2**16)
    await peer.closed()


async def test_a_reader_who_does_not_read_stops_the_server() -> None:
    """Memory is bounded by the buffer and one read more, however much the server would send."""
    limit = 2**17
    async with serving(large) as server, client(stream_buffer_bytes=limit) as made:
        answer = await post(made, server.url)
        await becomes(lambda: answer._paused)
        most = answer._waiting_bytes
        assert limit < most <= limit + ONE_READ
        received = 0
        while (piece := await answer.read()) is not None:
            received += len(piece)
            most = max(most, answer._waiting_bytes)
        assert received == LARGE
        assert most <= limit + ONE_READ


async def test_a_slow_reader_is_not_the_servers_fault() -> None:
    """While we do not read, the server's pause is ours; afterwards it has its whole time again."""
    settings = {"stream_buffer_bytes": 2**16, "idle_timeout_ms": 300}
    async with serving(large) as server, client(**settings) as made:
        answer = await post(made, server.url)
        await becomes(lambda: answer._paused)
        await asyncio.sleep(0.5)
        assert len(await whole(answer)) == LARGE


async def test_a_reader_who_never_comes_back_is_cut_at_the_total() -> None:
    settings = {"stream_buffer_bytes": 2**16, "total_timeout_ms": 400}
    async with serving(large) as server, client(**settings) as made:
        answer = await post(made, server.url)
        assert await server.has_ended() == 0
        with pytest.raises(TooLate, match=r"^total$"):
            await whole(answer)


# Leaving -----------------------------------------------------------------------------------


@pytest.mark.parametrize("begin", [HEAD, HEAD + b"x" * 1_000, CHUNKED + b"1\r\nx\r\n"])
async def test_closing_an_answer_ends_the_servers_work_at_once(begin: bytes) -> None:
    """The client left: every further token would be paid for nothing."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(begin)
        await peer.closed()

    async with serving(script) as server, client() as made:
        answer = await post(made, server.url)
        answer.close()
        assert await server.has_ended() == 0
        answer.close()


async def test_closing_a_paused_answer_ends_the_servers_work_at_once() -> None:
    async with serving(large) as server, client(stream_buffer_bytes=2**12) as made:
        answer = await post(made, server.url)
        await becomes(lambda: answer._paused)
        answer.close()
        assert await server.has_ended() == 0


async def test_a_caller_who_leaves_while_he_waits_ends_the_servers_work() -> None:
    async with serving(silent) as server, client() as made:
        task = asyncio.create_task(made.post(server.url, (), b""))
        await becomes(lambda: server.connections)
        task.cancel()
        assert await server.has_ended() == 0
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_caller_who_leaves_inside_a_body_can_still_close_it() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD)
        await peer.closed()

    async with serving(script) as server, client() as made:
        answer = await post(made, server.url)
        reading = asyncio.create_task(answer.read())
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        answer.close()
        assert await server.has_ended() == 0


@pytest.mark.parametrize("begin", [b"", HEAD, CHUNKED + b"1\r\nx\r\n", b"no http"])
async def test_a_connection_that_has_ended_leaves_nothing_for_the_collector(begin: bytes) -> None:
    """It comes too seldom: a worker would carry thousands of them along."""

    asked = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.send(begin)
        await peer.closed()

    async def ask_and_leave(made: Client, server: Server) -> None:
        asking = asyncio.create_task(post(made, server.url))
        if begin:
            await asyncio.wait([asking])
        await asked.wait()
        asking.cancel()
        [answer] = await asyncio.gather(asking, return_exceptions=True)
        if isinstance(answer, Answer):
            answer.close()

    gc.collect()
    gc.freeze()  # what is there already is not looked through
    gc.disable()
    try:
        async with serving(script) as server, client() as made:
            await ask_and_leave(made, server)
            assert await server.has_ended() == 0
            await becomes(lambda: not remembered())
    finally:
        gc.unfreeze()
        gc.enable()


def remembered() -> list[object]:
    """Everything of connections that is still in memory."""
    return [one for one in gc.get_objects() if isinstance(one, Connection | Parser | Answer)]


def test_a_stale_connection_is_one_out_of_reach() -> None:
    """Who handles the one handles the other."""
    assert issubclass(Stale, Unreachable)
