"""The pools of connections to providers: kept, bounded, in turn, and only where they should be."""

import asyncio
import contextlib
import gc
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from proxy.metrics import Metrics, in_memory
from proxy.reach import dial, incoming
from proxy.reach.http1 import Client, Exhausted, TooLate, Unreachable, taken_apart
from proxy.reach.incoming import Answer
from tests.http_stage import (
    CHUNKED,
    OK,
    PATIENCE_S,
    UNTIL_CLOSE,
    Peer,
    Script,
    Server,
    becomes,
    certificate,
    client,
    fetch,
    post,
    saying,
    serving,
    silent,
    whole,
)

EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
HALF = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{"


async def hangs_up(peer: Peer) -> None:
    await peer.request()


async def answers_once(peer: Peer) -> None:
    """Then reads the next request, and hangs up without a word, as an idle server does."""
    await peer.request()
    await peer.send(OK)
    await peer.request()


async def unreachable(made: Client, url: str) -> str:
    with pytest.raises(Unreachable) as caught:
        await post(made, url)
    return str(caught.value)


# Requests -----------------------------------------------------------------------------


async def test_a_request_is_sent_as_it_was_given() -> None:
    seen = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.send(OK)

    async with serving(script) as server, client() as made:
        answer = await post(made, server.url + "?a=b", b'{"x": "\xc3\xa9"}')
        assert await whole(answer) == b"{}"
    authority = server.url.split("/")[2].encode()
    head = b"POST /v1/chat?a=b HTTP/1.1\r\nhost: " + authority
    assert seen == [(head + b"\r\nx-test: 1\r\ncontent-length: 11\r\n\r\n", b'{"x": "\xc3\xa9"}')]


@pytest.mark.parametrize("value", [b"a\r\nx-evil: 1", b"a\nb", b"a\r", b"\n"])
async def test_a_line_break_in_a_header_is_never_sent(value: bytes) -> None:
    """A provider's key that was pasted with its line end must not become a header of its own."""
    async with serving(saying(OK)) as server, client() as made:
        with pytest.raises(Unreachable, match="line break"):
            await made.post(server.url, ((b"authorization", value),), b"")
        assert server.connections == 0


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "target", "authority"),
    [
        ("http://h", "h", 80, False, b"/", b"h"),
        ("https://H.example/v1", "h.example", 443, True, b"/v1", b"h.example"),
        ("https://h:8443/a?b=c&d", "h", 8443, True, b"/a?b=c&d", b"h:8443"),
        ("http://h:443/", "h", 443, False, b"/", b"h:443"),
        ("http://[::1]:80/x", "::1", 80, False, b"/x", b"[::1]"),
        ("http://[::1]:81/x", "::1", 81, False, b"/x", b"[::1]:81"),
        ("http://h/a b\u00e9", "h", 80, False, b"/a%20b%C3%A9", b"h"),
        ("http://h/a%20b", "h", 80, False, b"/a%20b", b"h"),
        ("http://h/a\r\nx: 1", "h", 80, False, b"/ax:%201", b"h"),
        ("http://user:pw@h/a#b", "h", 80, False, b"/a", b"h"),
        ("http://bücher.example/", "xn--bcher-kva.example", 80, False, b"/", None),
    ],
)
def test_a_url_is_an_origin_and_a_target(
    url: str, host: str, port: int, tls: bool, target: bytes, authority: bytes | None
) -> None:
    origin, found = taken_apart(url)
    assert (origin.host, origin.port, origin.tls, found) == (host, port, tls, target)
    assert origin.authority == authority or authority is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h/v1",
        "ftp://h",
        "file:///etc/passwd",
        "unix:///run/x.sock",
        "http://",
        "http:///x",
        "http://h:x/",
        "http://h:99999/",
        "http://[::1",
        "http://" + "a" * 70 + "/",
    ],
)
async def test_what_is_no_address_of_a_provider_is_out_of_reach(url: str) -> None:
    """A wrong base URL is a refusal in words, like a provider that is down."""
    async with client() as made:
        assert "http" in await unreachable(made, url)


# Kept connections ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        (OK,),
        (EMPTY,),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",),
        (CHUNKED, b"2\r\n{}\r\n", b"0\r\n\r\n"),
        (CHUNKED + b"2;x=y\r\n{}\r\n0\r\nx-trailer: 1\r\n\r\n",),
        (b"HTTP/1.1 100 Continue\r\n\r\n", OK),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\n{}",),
        (b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\n{}",),
    ],
)
async def test_a_connection_serves_one_request_after_the_other(answer: tuple[bytes, ...]) -> None:
    async with serving(saying(*answer)) as server, client() as made:
        first = await fetch(made, server.url)
        for _ in range(5):
            assert await fetch(made, server.url) == first
        assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        OK + b"x",
        OK + OK,
        OK + b"HTTP/1.1 400 Bad\r\n",
    ],
)
async def test_a_connection_that_the_server_will_not_keep_serves_once(answer: bytes) -> None:
    """Neither does one on which more came than was asked for: it might be taken for the next
    answer, or be glued to this one."""
    async with serving(saying(answer)) as server, client() as made:
        assert await fetch(made, server.url) == (200, b"{}")
        assert await server.has_ended() == 0
        assert await fetch(made, server.url) == (200, b"{}")
        assert server.connections == 2


async def test_an_answer_keeps_its_head_after_its_connection_has_gone_to_another() -> None:
    """Status and headers are read when the whole body is there, and by then others run on it."""
    other = OK.replace(b"200 OK", b"429 No").replace(b"json", b"text")

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        await peer.send(other)
        await peer.closed()

    async with serving(script) as server, client() as made:
        first = await post(made, server.url)
        assert await whole(first) == b"{}"
        second = await post(made, server.url)
        first.close()
        assert await whole(second) == b"{}"
        assert (first.status, second.status) == (200, 429)
        assert dict(first.headers)[b"content-type"] == b"application/json"
        assert dict(second.headers)[b"content-type"] == b"application/text"
        assert server.connections == 1


async def test_the_last_used_connection_is_taken_first_and_unused_ones_are_closed() -> None:
    """Nothing stays open longer than it may, also when no request comes any more."""
    async with serving(saying(OK)) as server, client(upstream_idle_ms=400) as made:
        held = [await post(made, server.url) for _ in range(3)]
        assert server.connections == 1  # an answer that has come whole frees its connection
        assert [await whole(answer) for answer in held] == [b"{}"] * 3
        assert await server.has_ended() == 0
        assert await fetch(made, server.url) == (200, b"{}")
        assert server.connections == 2


async def test_a_word_on_an_unused_connection_ends_it() -> None:
    """Servers say 408 before they close; nobody may take that for the answer to a new request."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await asked.wait()
        await peer.send(b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\r\n")
        await peer.closed()

    asked = asyncio.Event()
    async with serving(script, saying(OK)) as server, client() as made:
        assert await fetch(made, server.url) == (200, b"{}")
        asked.set()
        assert await server.has_ended() == 0
        assert await fetch(made, server.url) == (200, b"{}")


async def test_an_old_connection_is_closed_instead_of_kept() -> None:
    """Its server's name may lead elsewhere by now, and only a new connection asks."""
    async with serving(saying(OK)) as server, client(upstream_age_ms=60) as made:
        assert await fetch(made, server.url) == (200, b"{}")
        await asyncio.sleep(0.07)
        assert await fetch(made, server.url) == (200, b"{}")
        assert await server.has_ended() == 0
        assert server.connections == 2


async def test_a_connection_that_grew_old_under_an_answer_is_not_kept() -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await go.wait()
        await peer.send(OK)
        await peer.closed()

    async with serving(script) as server, client(upstream_age_ms=20) as made:
        task = asyncio.create_task(fetch(made, server.url))
        await becomes(lambda: server.connections)
        asyncio.get_running_loop().call_later(0.03, go.set)
        assert await task == (200, b"{}")
        assert await server.has_ended() == 0


async def test_the_way_out_is_asked_for_its_name_by_new_connections_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No look-up and no handshake per request."""
    asked, resolved = [], dial.resolved

    async def counting(host: str, port: int) -> Sequence[dial.AddressInfo]:
        asked.append(host)
        return await resolved(host, port)

    monkeypatch.setattr(dial, "resolved", counting)
    async with serving(saying(OK)) as server, client() as made:
        for _ in range(5):
            await fetch(made, server.url)
    assert asked == ["127.0.0.1"]


# An answer before its request has gone out ----------------------------------------------------

BIG = b"x" * (16 * 2**20)
EARLY = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{}"


async def test_an_early_answer_is_read_and_its_connection_not_kept() -> None:
    """What is left of the request would be taken for the beginning of the next one."""

    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.send(EARLY)
        await over.wait()

    over = asyncio.Event()
    async with serving(script, saying(OK)) as server, client() as made:
        answer = await post(made, server.url, BIG)
        assert (answer.status, await whole(answer)) == (413, b"{}")
        assert await fetch(made, server.url) == (200, b"{}")
        assert server.connections == 2
        over.set()


async def test_an_early_answer_is_read_although_the_server_resets_behind_it() -> None:
    """It closes with most of the request unread, which the system tells as a reset."""

    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.send(EARLY)
        peer.reset()

    async with serving(script) as server, client() as made:
        answer = await post(made, server.url, BIG)
        assert (answer.status, await whole(answer)) == (413, b"{}")


async def test_a_large_request_arrives_whole() -> None:
    async def script(peer: Peer) -> None:
        _, body = await peer.request()
        assert body == BIG
        await peer.send(OK)

    async with serving(script) as server, client() as made:
        answer = await post(made, server.url, BIG)
        assert (answer.status, await whole(answer)) == (200, b"{}")


# A connection that ends ---------------------------------------------------------------------


class Count:
    """What counts how often a request was sent."""

    attempts = 1


@pytest.mark.parametrize(("second", "attempts"), [(saying(OK), 2), (hangs_up, 2)])
async def test_a_second_sending_is_recorded_as_an_attempt(second: Script, attempts: int) -> None:
    """Whether it goes well or not."""
    count, metrics = Count(), in_memory()
    async with serving(answers_once, second) as server, client(metrics=metrics) as made:
        first = await made.post(server.url, (), b"", count)
        assert (await whole(first), count.attempts) == (b"{}", 1)
        with contextlib.suppress(Unreachable):
            await made.post(server.url, (), b"", count)
    assert count.attempts == attempts
    assert metrics.cells[metrics.attempts] == attempts - 1  # the first is counted by who asks
    assert metrics.cells[metrics.connects] == 2


async def test_a_kept_connection_that_the_server_had_closed_is_replaced_once() -> None:
    async with serving(answers_once, saying(OK)) as server, client() as made:
        assert await fetch(made, server.url) == (200, b"{}")
        assert await fetch(made, server.url) == (200, b"{}")
        assert server.connections == 2


async def test_the_replacement_is_new_and_is_not_replaced() -> None:
    """Else a server that hangs up would be asked as often as there are kept connections."""
    async with serving(answers_once, hangs_up) as server, client() as made:
        assert await fetch(made, server.url) == (200, b"{}")
        assert await unreachable(made, server.url) == "it hung up"
        assert server.connections == 2


async def test_a_new_connection_that_ends_is_not_tried_again() -> None:
    """The server had our request: it may have begun to work on it."""
    async with serving(hangs_up) as server, client() as made:
        assert await unreachable(made, server.url) == "it hung up"
        assert server.connections == 1


async def test_a_kept_connection_that_ends_late_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who hangs up after a second had our request: asked twice, the provider bills twice."""
    monkeypatch.setattr(incoming, "STALE_S", 0.0)
    async with serving(answers_once, saying(OK)) as server, client() as made:
        assert await fetch(made, server.url) == (200, b"{}")
        assert await unreachable(made, server.url) == "it hung up"
        assert server.connections == 1


async def test_nobody_listening_is_told_in_the_systems_words() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = "http://{}:{}/".format(*bound.getsockname())
        async with client(upstream_connections=1) as made:
            for _ in range(3):  # a place that was not used is free again
                assert await unreachable(made, url) == "connection refused"


async def test_the_wait_for_a_connection_has_its_deadline() -> None:
    """A TLS handshake that never ends belongs to it."""
    stuck = asyncio.Event()

    async def script(peer: Peer) -> None:
        await stuck.wait()

    settings = {"connect_timeout_ms": 80, "upstream_connections": 1}
    async with serving(script) as server, client(**settings) as made:
        for _ in range(2):
            with pytest.raises(TooLate, match=r"^connect$"):
                await post(made, server.url.replace("http:", "https:"))
        stuck.set()


# Bounds ---------------------------------------------------------------------------------------


async def held(made: Client, server: Server, count: int) -> list[Answer]:
    """Requests whose answers have begun and do not end."""
    return [await post(made, server.url) for _ in range(count)]


async def queued(made: Client, server: Server, count: int) -> list["asyncio.Task[Answer]"]:
    """Requests that wait for a connection, in this order."""
    return [await waits(made, server, nth) for nth in range(count)]


async def waits(made: Client, server: Server, nth: int) -> "asyncio.Task[Answer]":
    task = asyncio.create_task(made.post(server.url, (), b"%d" % nth))
    await becomes(lambda: made.waiting(server.url) > nth)
    return task


async def test_no_more_connections_and_waiters_than_are_allowed() -> None:
    settings = {
        "upstream_connections": 2,
        "upstream_waiters_max": 1,
        "upstream_wait_ms": 5_000,
    }
    async with serving(saying(HALF)) as server, client(**settings) as made:
        running = await held(made, server, 2)
        (waiting,) = await queued(made, server, 1)
        with pytest.raises(Exhausted):
            await post(made, server.url)
        assert server.connections == 2
        running[0].close()
        assert (await waiting).status == 200
        assert server.connections == 3


async def test_the_wait_for_a_connection_in_use_ends() -> None:
    settings = {"upstream_connections": 1, "upstream_wait_ms": 60}
    async with serving(saying(HALF)) as server, client(**settings) as made:
        (running,) = await held(made, server, 1)
        with pytest.raises(Exhausted):
            await post(made, server.url)
        assert made.waiting(server.url) == 0
        running.close()
        (again,) = await held(made, server, 1)
        assert again.status == 200


async def test_who_waits_longest_is_served_first_on_the_same_connection() -> None:
    order: list[bytes] = []
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            order.append((await peer.request())[1])
            await go.wait()
            await peer.send(OK)

    async with serving(script) as server, client(upstream_connections=1) as made:
        first = asyncio.create_task(made.post(server.url, (), b"first"))
        await becomes(lambda: order)
        tasks = await queued(made, server, 5)
        go.set()
        assert [await whole(answer) for answer in await asyncio.gather(first, *tasks)] == [
            b"{}"
        ] * 6
        assert order == [b"first", b"0", b"1", b"2", b"3", b"4"]
        assert server.connections == 1


async def test_a_connection_handed_to_a_caller_who_leaves_goes_to_the_next() -> None:
    """At whatever moment he leaves: before, in the moment of, or after the hand-over."""
    async with serving(saying(HALF)) as server, client(upstream_connections=1) as made:
        (running,) = await held(made, server, 1)
        tasks = await queued(made, server, 3)
        tasks[0].cancel()
        running.close()  # hands its place to the second, who leaves in the same moment
        tasks[1].cancel()
        third = await asyncio.wait_for(tasks[2], PATIENCE_S)
        assert third.status == 200
        third.close()
        assert made.waiting(server.url) == 0
        (again,) = await held(made, server, 1)
        again.close()


async def test_every_place_comes_back_however_its_request_ends() -> None:
    """Answers read, closed, broken and cancelled: after all of them the pool is as it was."""
    settings = {"upstream_connections": 2, "upstream_waiters_max": 0}
    scripts = (saying(OK), saying(HALF), hangs_up, silent, saying(HALF, then=Peer.hang_up))
    metrics = in_memory()
    async with client(metrics=metrics, **settings) as made:
        for script in scripts:
            async with serving(script) as server:
                for _ in range(5):
                    task = asyncio.create_task(made.post(server.url, (), b""))
                    done, _ = await asyncio.wait([task], timeout=0.05 if script is silent else 5)
                    if not done:
                        task.cancel()
                    with_answer = (await asyncio.gather(task, return_exceptions=True))[0]
                    if isinstance(with_answer, Answer):
                        with_answer.close()
                pool = next(p for p in made._pools.values() if str(p.origin.port) in server.url)
                assert pool._places == len(pool._open) == len(pool._idle)
                assert gauges(metrics)["waiting"] == gauges(metrics)["in use"] == 0


@pytest.mark.parametrize(
    "script",
    [saying(OK), hangs_up, answers_once, saying(b"junk\r\n\r\n"), silent, saying(HALF)],
    ids=["ok", "hangs up", "once", "junk", "silent", "half"],
)
async def test_no_body_waits_for_the_collector(script: Script) -> None:
    """A failure that holds its own frames would keep 10 MB until some later collection."""
    body = bytes(1_000)
    gc.collect()
    gc.disable()
    try:
        async with serving(script) as server, client(first_byte_timeout_ms=60) as made:
            before = sys.getrefcount(body)
            for _ in range(3):
                with contextlib.suppress(Unreachable, TooLate, incoming.Broken):
                    answer = await post(made, server.url, body)
                    reading = asyncio.create_task(whole(answer))
                    await asyncio.sleep(0)
                    reading.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await reading
                    answer.close()
                    del answer, reading
            await asyncio.sleep(0)
            assert sys.getrefcount(body) == before
    finally:
        gc.enable()


def gauges(metrics: Metrics) -> dict[str, int]:
    cells = (metrics.upstream_open, metrics.upstream_in_use, metrics.upstream_waiting)
    names = ("open", "in use", "waiting")
    return {name: metrics.cells[cell] for name, cell in zip(names, cells, strict=True)}


async def test_p40_gauges_tell_what_is_open_in_use_and_waiting() -> None:
    metrics = in_memory()
    settings = {"upstream_connections": 2, "upstream_wait_ms": 5_000}
    async with serving(saying(HALF)) as server, client(metrics=metrics, **settings) as made:
        running = await held(made, server, 2)
        waiting = await queued(made, server, 3)
        assert gauges(metrics) == {"open": 2, "in use": 2, "waiting": 3}
        waiting[0].cancel()
        running[0].close()
        last = await waiting[1]
        assert gauges(metrics) == {"open": 2, "in use": 2, "waiting": 1}
        waiting[2].cancel()
        await becomes(lambda: not metrics.cells[metrics.upstream_waiting])
        server.scripts = (saying(OK),)
        last.close()
        assert await fetch(made, server.url) == (200, b"{}")
        assert gauges(metrics) == {"open": 2, "in use": 1, "waiting": 0}
        running[1].close()
        assert gauges(metrics) == {"open": 1, "in use": 0, "waiting": 0}
    assert gauges(metrics) == {"open": 0, "in use": 0, "waiting": 0}


async def test_the_client_ends_what_still_runs_when_it_closes() -> None:
    async with serving(saying(HALF)) as server, client() as made:
        (running,) = await held(made, server, 1)
        assert await running.read() == b"{"
        reading = asyncio.create_task(running.read())
        await asyncio.sleep(0)
        made.close()
        with pytest.raises(incoming.Broken):
            await asyncio.wait_for(reading, PATIENCE_S)
        assert await server.has_ended() == 0


# Where it connects to ------------------------------------------------------------------------


async def test_an_address_of_version_6_is_reached() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with serving(saying(OK), host="::1") as server, client() as made:
        assert await fetch(made, server.url) == (200, b"{}")


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    tls = certificate(tmp_path, "127.0.0.1")
    async with serving(saying(OK), tls=tls) as server, client() as made:
        why = await unreachable(made, server.url)
        assert why.startswith("its certificate is not trusted (self")


async def test_a_trusted_certificate_is_taken_for_its_own_name_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The authorities of a private network come by OpenSSL's own SSL_CERT_FILE."""
    tls = certificate(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    async with serving(saying(OK), tls=tls) as server, client() as made:
        assert await fetch(made, server.url) == (200, b"{}")
        assert await fetch(made, server.url) == (200, b"{}")
        assert server.connections == 1
        why = await unreachable(made, server.url.replace("127.0.0.1", "localhost"))
        assert "not trusted (hostname mismatch" in why.lower()


async def test_a_server_without_tls_is_told_as_such() -> None:
    async with serving(saying(UNTIL_CLOSE)) as server, client() as made:

        async def script(peer: Peer) -> None:
            await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        server.scripts = (script,)
        assert "no TLS" in await unreachable(made, server.url.replace("http:", "https:"))
