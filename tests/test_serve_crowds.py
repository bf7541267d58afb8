"""What clients leave behind, and what must go on whatever they do."""

import errno
import gc
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.serve import server
from proxy.serve.connection import Connection
from proxy.serve.reader import Reader
from tests.serve_stage import HOST, becomes, served

PART = 100_000


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LOOK_S", 0.01)
    monkeypatch.setattr(server, "REST_S", 0.05)


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.freeze()  # what is there already is not looked through
    gc.disable()
    yield
    gc.unfreeze()
    gc.enable()


def remembered() -> list[object]:
    """Everything of connections that is still in memory."""
    return [one for one in gc.get_objects() if isinstance(one, Connection | Reader)]


@pytest.mark.usefixtures("uncollected")
async def test_a_connection_that_has_ended_leaves_nothing_for_the_collector() -> None:
    """It comes too seldom: a worker would carry thousands of them along."""
    async with served() as stage:
        idle, sending, waiting, refused = [await stage.connect() for _ in range(4)]
        idle.get()
        await idle.reply()
        sending.send(b"POST / HTTP/1.1\r\n" + HOST + b"content-length: %d\r\n\r\n" % (2 * PART))
        sending.send(b"x" * PART)
        await becomes(lambda: stage.server.gate.bytes == PART)
        waiting.get("/wait")
        waiting.send(b"no request\r\n\r\n")
        await becomes(lambda: len(stage.seen) == 2)
        refused.send(b"no request\r\n\r\n")
        assert (await refused.reply()).code == "http_invalid"
        for wire in (idle, sending, waiting, refused):
            wire.leave()
        await becomes(lambda: not stage.connections)
        assert not stage.server.gate.bytes
        await becomes(lambda: not remembered())


async def test_a_system_out_of_descriptors_stops_no_deadline(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(head_timeout_ms=60) as stage:
        wire = await stage.connect()
        await becomes(lambda: stage.connections)
        failed = []

        async def none_left(*_: Any) -> None:
            failed.append(1)
            raise OSError(errno.EMFILE, "no descriptors")

        monkeypatch.setattr(stage.server, "_open_or_close_door", none_left)
        await becomes(lambda: failed)
        monkeypatch.undo()
        wire.send(b"GET ")
        assert (await wire.reply()).code == "head_too_late"
    assert "a look at the door's connections failed" in caplog.text


async def test_who_rests_with_half_a_request_is_heard_afterwards() -> None:
    async with served(requests_max=1, requests_waiting_max=0) as stage:
        first, second = await stage.connect(), await stage.connect()
        first.get("/wait")
        await becomes(lambda: stage.seen)
        second.send(b"GET /a HTTP/1.1\r\n" + HOST + b"\r\nGET /b HTT")
        assert (await second.reply()).code == "overloaded"
        stage.open("/wait")
        await first.reply()
        second.send(b"P/1.1\r\n" + HOST + b"\r\n")
        assert (await second.reply()).body == b"/b"


@pytest.mark.parametrize("offer", [b"", b"connection: upgrade\r\nupgrade: x\r\n"])
async def test_chunks_of_an_old_client_are_refused_with_any_offer(offer: bytes) -> None:
    """HTTP/1.0 knows no chunks, so whoever stands before us may see another end of the body."""
    async with served() as stage:
        wire = await stage.connect()
        coding = b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n"
        wire.send(b"POST / HTTP/1.0\r\n" + HOST + offer + coding)
        assert (await wire.reply()).code == "http_invalid"
        assert not stage.seen
