"""What one client, or many, can take from a worker of the door: time, memory, places."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from proxy.serve import server
from tests.serve_stage import HOST, PATIENCE_S, Served, becomes, served

POST = b"POST / HTTP/1.1\r\n" + HOST
SOON_MS = 60
SOON = {"head_timeout_ms": SOON_MS, "body_idle_timeout_ms": SOON_MS, "stall_timeout_ms": SOON_MS}


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LOOK_S", 0.01)
    monkeypatch.setattr(server, "REST_S", 0.05)


@pytest.fixture
async def soon() -> AsyncIterator[Served]:
    async with served(**SOON) as made:
        yield made


# Time ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\n" + HOST])
async def test_a_head_that_does_not_come_frees_its_place(soon: Served, sent: bytes) -> None:
    wire = await soon.connect()
    wire.send(sent)
    reply = await wire.reply()
    assert (reply.status, reply.code) == (408, "head_too_late")
    assert await wire.ended() == b""


async def test_a_head_that_drips_is_late_all_the_same(soon: Served) -> None:
    """Slow-loris: each byte in time, the whole never."""
    wire = await soon.connect()
    sending = asyncio.create_task(_drip(wire.send, b"GET / HTTP/1.1\r\n" + HOST * 1000))
    assert (await wire.reply()).code == "head_too_late"
    sending.cancel()


async def _drip(send: object, data: bytes, pause_s: float = 0.005) -> None:
    assert callable(send)
    for byte in data:
        send(bytes([byte]))
        await asyncio.sleep(pause_s)


async def test_a_body_that_pauses_is_given_up(soon: Served) -> None:
    wire = await soon.connect()
    wire.send(POST + b"content-length: 10\r\n\r\nhalf")
    reply = await wire.reply()
    assert (reply.status, reply.code) == (408, "body_too_late")
    assert soon.seen == []


async def test_a_body_that_drips_has_an_end_too() -> None:
    async with served(body_idle_timeout_ms=2_000, body_timeout_ms=SOON_MS) as stage:
        wire = await stage.connect()
        wire.send(POST + b"content-length: 100000\r\n\r\n")
        sending = asyncio.create_task(_drip(wire.send, b"x" * 10_000))
        assert (await wire.reply()).code == "body_too_late"
        sending.cancel()


async def test_a_body_that_comes_on_has_its_time(soon: Served) -> None:
    """Longer than the pause that is allowed, but without one."""
    wire = await soon.connect()
    wire.send(POST + b"content-length: 40\r\n\r\n")
    await _drip(wire.send, b"x" * 40)
    assert (await wire.reply()).body == b"x" * 40


async def test_an_unused_connection_is_closed() -> None:
    async with served(keep_alive_ms=SOON_MS) as stage:
        wire = await stage.connect()
        wire.get("/")
        assert (await wire.reply()).status == 200
        assert await wire.ended() == b""


async def test_between_two_requests_only_the_keep_alive_counts(soon: Served) -> None:
    wire = await soon.connect()
    wire.get("/wait")
    await becomes(lambda: soon.seen)
    await asyncio.sleep(2 * SOON_MS / 1000)
    soon.open("/wait")
    assert (await wire.reply()).status == 200
    await asyncio.sleep(2 * SOON_MS / 1000)
    wire.get("/")
    assert (await wire.reply()).status == 200


async def test_a_client_that_does_not_read_is_cut_off(soon: Served) -> None:
    """F27: what runs for him is cancelled; until then no more was made than the buffers hold."""
    wire = await soon.connect(receive_buffer=4096)
    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    wire.get("/stream/flood")
    await becomes(lambda: soon.cut == ["/stream/flood"])
    await becomes(lambda: not soon.connections)


async def test_a_client_that_reads_slowly_is_served_to_the_end() -> None:
    async with served(stall_timeout_ms=1_000) as stage:
        wire = await stage.connect(receive_buffer=4096)
        wire.get("/stream/flood")
        await wire.head()
        for _ in range(200):
            assert await wire.chunk() == b"x" * 65536
            await asyncio.sleep(0)
        assert stage.cut == []


async def test_an_answer_that_is_never_fetched_does_not_stay(soon: Served) -> None:
    """The request is over, its connection waits for nobody."""
    wire = await soon.connect(receive_buffer=4096)
    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    wire.post(b"x" * 8_000_000)
    await becomes(lambda: soon.seen)
    await becomes(lambda: not soon.connections)


# Places ---------------------------------------------------------------------------------


async def test_beyond_the_requests_at_one_time_a_few_wait() -> None:
    async with served(requests_max=1, requests_waiting_max=1, overload_wait_ms=5_000) as stage:
        first, second, third = [await stage.connect() for _ in range(3)]
        first.get("/wait")
        await becomes(lambda: stage.seen)
        second.get("/second")
        await becomes(lambda: len(stage.server.gate.waiting))
        third.get("/third")
        reply = await third.reply()
        assert (reply.status, reply.code) == (503, "overloaded")
        assert reply.headers["retry-after"] == "1"
        stage.open("/wait")
        assert (await second.reply()).body == b"/second"
        third.get("/third")
        assert (await third.reply()).body == b"/third"


async def test_who_waits_too_long_is_told_to_come_again() -> None:
    async with served(requests_max=1, overload_wait_ms=30) as stage:
        first, second = await stage.connect(), await stage.connect()
        first.get("/wait")
        await becomes(lambda: stage.seen)
        second.get("/second")
        assert (await second.reply()).code == "overloaded"
        stage.open("/wait")


async def test_who_leaves_while_he_waits_takes_no_place() -> None:
    async with served(requests_max=1, overload_wait_ms=60_000) as stage:
        first, second, third = [await stage.connect() for _ in range(3)]
        first.get("/wait")
        await becomes(lambda: stage.seen)
        second.get("/second")
        await becomes(lambda: len(stage.server.gate.waiting) == 1)
        second.leave()
        await becomes(lambda: not len(stage.server.gate.waiting))
        third.get("/third")
        stage.open("/wait")
        assert (await third.reply()).body == b"/third"
        assert [request.path for request in stage.seen] == ["/wait", "/third"]


async def test_a_refused_client_is_not_read_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal costs CPU too: who asks again at once gets one answer in a while."""
    monkeypatch.setattr(server, "REST_S", 0.3)
    async with served(requests_max=1, requests_waiting_max=0) as stage:
        first, second = await stage.connect(), await stage.connect()
        first.get("/wait")
        await becomes(lambda: stage.seen)
        started = asyncio.get_running_loop().time()
        for _ in range(2):
            second.get("/")
            assert (await second.reply()).code == "overloaded"
        assert asyncio.get_running_loop().time() - started >= 0.3
        stage.open("/wait")


async def test_a_full_worker_accepts_nobody_until_it_has_room() -> None:
    """Who comes meanwhile waits in the socket's queue and is served then."""
    async with served(requests_max=1, requests_waiting_max=0) as stage:
        first = await stage.connect()
        first.get("/wait")
        await becomes(lambda: stage.seen and stage.server._accepting is None)
        late = await stage.connect()
        late.get("/late")
        await asyncio.sleep(0.05)
        assert stage.connections == 1
        stage.open("/wait")
        assert (await late.reply()).body == b"/late"


@pytest.mark.parametrize("pace", [0, 10**9])
async def test_a_rush_of_connections_is_let_in_at_a_pace(
    pace: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in a round of the loop would be too slow beside other work: the queue would overflow.
    All at once would leave no time for that work.
    """
    monkeypatch.setattr(server, "ACCEPTED_A_SECOND", pace)
    async with served() as stage:
        await becomes(lambda: stage.server._accepting)
        rush = [socket.socket() for _ in range(200)]
        for one in rush:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", stage.port))
        rounds = 0
        while stage.connections < len(rush):
            rounds += 1
            await asyncio.sleep(0)
        assert (rounds < 50) == (pace > 0)
        for one in rush:
            one.close()
        await becomes(lambda: not stage.connections)


async def test_beyond_the_connections_the_newest_idle_one_goes() -> None:
    """F28: in a flood of idle connections it is one of the flood."""
    async with served(connections_max=3) as stage:
        old, new = await stage.connect(), await stage.connect()
        for wire in (old, new):
            wire.get("/")
            await wire.reply()
        third = await stage.connect()
        assert await new.ended() == b""
        for wire in (old, third):
            wire.get("/")
            assert (await wire.reply()).status == 200


async def test_one_address_cannot_take_all_connections() -> None:
    async with served(address_connections_max=2) as stage:
        wires = [await stage.connect() for _ in range(3)]
        reply = await wires[2].reply()
        assert (reply.status, reply.code) == (429, "connections_crowded")
        assert await wires[2].ended() == b""
        wires[0].get("/")
        assert (await wires[0].reply()).status == 200


async def test_a_rush_from_a_crowded_address_is_closed_without_a_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To tell each of them why would cost as much as to serve them."""
    monkeypatch.setattr(server, "ACCEPTED_A_SECOND", 10**9)
    async with served(address_connections_max=2) as stage:
        wires = [await stage.connect() for _ in range(2)]
        await becomes(lambda: stage.connections == 2)
        counted = list[str]()
        monkeypatch.setattr(stage.metrics, "error", counted.append)
        rush = [socket.create_connection(("127.0.0.1", stage.port)) for _ in range(20)]
        told = [await ended(one) for one in rush]
        assert [b"connections_crowded" in answer for answer in told] == [True, *[False] * 19]
        assert told[1:] == [b""] * 19
        assert counted == ["connections_crowded"] * 20
        wires[0].get("/")
        assert (await wires[0].reply()).status == 200


async def test_of_many_that_are_refused_some_are_told_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "LOOK_S", 60.0)
    monkeypatch.setattr(server, "TOLD_A_LOOK", 3)
    async with served() as stage:
        await becomes(lambda: stage.server._accepting)
        answers = []
        for _ in range(5):
            wire = await stage.connect()
            wire.send(b"no request\r\n\r\n")
            answers.append(await wire.ended())
        assert [b"http_invalid" in answer for answer in answers] == [True] * 3 + [False] * 2
        assert answers[3:] == [b""] * 2


async def ended(one: socket.socket) -> bytes:
    with one:
        one.setblocking(False)
        async with asyncio.timeout(PATIENCE_S):
            return await asyncio.get_running_loop().sock_recv(one, 65536)


# Memory -----------------------------------------------------------------------------------


async def test_bodies_beyond_the_limit_wait_for_room() -> None:
    async with served(bodies_max_bytes=1_100_000, overload_wait_ms=5_000) as stage:
        first, second = await stage.connect(), await stage.connect()
        first.post(b"a" * 1_000_000, "/wait")
        await becomes(lambda: stage.seen)
        second.post(b"b" * 900_000)
        await becomes(lambda: len(stage.server.gate.paused) == 1)
        stage.open("/wait")
        assert len((await second.reply()).body) == 900_000
        assert len((await first.reply()).body) == 1_000_000


async def test_who_waits_too_long_for_room_is_told() -> None:
    async with served(bodies_max_bytes=1_100_000, overload_wait_ms=30) as stage:
        first, second = await stage.connect(), await stage.connect()
        first.post(b"a" * 1_000_000, "/wait")
        await becomes(lambda: stage.seen)
        second.post(b"b" * 900_000)
        reply = await second.reply()
        assert (reply.status, reply.code) == (503, "overloaded")
        assert stage.server.gate.bytes == 1_000_000
        stage.open("/wait")


async def test_a_body_that_bursts_the_limit_is_refused_at_once() -> None:
    async with served(bodies_max_bytes=1024) as stage:
        wire = await stage.connect()
        wire.post(b"a" * 1_000_000)
        assert (await wire.reply()).code == "overloaded"


async def test_a_body_over_the_limit_is_refused_wherever_it_ends() -> None:
    async with served(body_max_bytes=1024) as stage:
        wire = await stage.connect()
        wire.send(POST + b"transfer-encoding: chunked\r\n\r\n")
        for _ in range(2):
            wire.send(b"300\r\n" + b"a" * 0x300 + b"\r\n")
        reply = await wire.reply()
        assert (reply.status, reply.code) == (413, "body_too_large")


# The end of a worker ------------------------------------------------------------------------


async def test_a_worker_that_stops_lets_streams_end() -> None:
    async with served() as stage:
        stream, idle = await stage.connect(), await stage.connect()
        stream.get("/stream/wait")
        idle.get("/")
        await idle.reply()
        await stream.head()
        stage.server.stop()
        await becomes(lambda: stage.server.draining)
        idle.get("/once-more")
        reply = await idle.reply()
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert await idle.ended() == b""
        stage.open("/stream/wait")
        assert [await stream.chunk() for _ in range(3)] == [b"one", b"two", None]
        assert await stream.ended() == b""


async def test_idle_connections_are_closed_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "GOODBYE_S", 0.05)
    async with served() as stage:
        idle, fresh, running = [await stage.connect() for _ in range(3)]
        idle.get("/")
        await idle.reply()
        running.get("/wait")
        await becomes(lambda: len(stage.seen) == 2)
        stage.server.stop()
        assert await idle.ended() == b""
        assert await fresh.ended() == b""
        stage.open("/wait")
        assert (await running.reply()).headers["connection"] == "close"


async def test_what_does_not_end_in_time_is_cut() -> None:
    async with served(drain_ms=50) as stage:
        wire = await stage.connect()
        wire.get("/stream/wait")
        await wire.head()
        stage.server.stop()
        await becomes(lambda: stage.cut == ["/stream/wait"])


async def test_the_socket_outlives_the_server() -> None:
    """Who connects meanwhile waits for the next worker."""
    async with served() as stage:
        await becomes(lambda: stage.server._accepting is not None)
        stage.server.stop()
        await becomes(lambda: stage.server._accepting is None)
        wire = await stage.connect()
        wire.get("/")
        assert not wire.reader.at_eof()
