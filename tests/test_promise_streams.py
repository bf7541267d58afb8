"""P21, P39, P40 through a whole door: streams are honest, who leaves stops the provider at once,
and a pool that is full says so.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httptools
import orjson
import pytest

from bench.upstream import FakeUpstream
from tests.door_stage import HELLO, DoorStage, door, until
from tests.http_stage import Peer, Server, serving

AT_ONCE_S = 0.2
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    narrow = {"OPSCENTER_UPSTREAM_CONNECTIONS": "2", "OPSCENTER_UPSTREAM_WAITERS_MAX": "0"}
    async with door(home, redis_url, database_url, **narrow) as stage:
        yield stage


@pytest.fixture
async def fake(stage: DoorStage, tmp_path: Path) -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream(ledger=tmp_path / "bills") as upstream:
        await stage.add_provider(upstream.url + "/v1")
        yield upstream


def event(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return b"data: " + orjson.dumps({"id": "c", "choices": [choice]}) + b"\n\n"


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Wire:
    """A client of the door that sees when each piece of the body comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._parser = httptools.HttpResponseParser(self)
        self.body = b""

    def on_body(self, data: bytes) -> None:
        self.body += data

    async def until(self, wanted: bytes) -> None:
        async with asyncio.timeout(10):
            while wanted not in self.body:
                data = await self._reader.read(2**16)
                assert data, self.body
                self._parser.feed_data(data)

    def leave(self) -> None:
        self._writer.transport.abort()


@asynccontextmanager
async def asking(stage: DoorStage, model: str, **fields: Any) -> AsyncIterator[Wire]:
    """A request that has been sent."""
    port = int(stage.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = orjson.dumps({**HELLO, "model": model, **fields})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {stage.key}"
    writer.write(f"{head}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


# P21 ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", ["truncate@3", "close@3", "reset@3", "nodone", "bigline", "garbage@3"]
)
async def test_p21_stream_faults(stage: DoorStage, fake: FakeUpstream, fault: str) -> None:
    """Whatever breaks, the client reads an error with the usage so far, never a finish of ours."""
    model = await stage.add_model("mock/breaks", f"mock/{fault}")
    answer = await stage.chat({**HELLO, "model": model, "stream": True})
    last = [e for e in answer.text.split("\n\n") if e.startswith("data: ")][-1]
    assert answer.status_code == 200
    await stage.quiesce()
    [row] = await stage.usage()
    if fault == "garbage@3":  # it ended as a stream does
        assert row["reason"] == "no_usage_frame"
        return
    told = orjson.loads(last.removeprefix("data: "))
    assert told["error"]["code"] == row["reason"] == "upstream_broken"
    tokens = row["tokens"]
    assert told["usage"]["prompt_tokens"] == tokens["input"]
    assert told["usage"]["completion_tokens"] == tokens["output"]
    assert told["usage"]["estimated"] == (row["usage_source"] == "estimated")
    assert "[DONE]" not in answer.text
    if fault != "nodone":  # whose provider had said it
        assert '"finish_reason":"stop"' not in answer.text


async def test_p21_chunk_latency(stage: DoorStage) -> None:
    """In lockstep: the provider says the next word only when the client has read the last one.

    So no word waits for another one, for a timer, or for a buffer that is full.
    """
    read = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(SSE)
        for nth in range(100):
            await peer.send(chunked(event(f"word-{nth};")))
            await read.wait()
            read.clear()
        await peer.send(chunked(DONE) + b"0\r\n\r\n")

    async with serving(script) as server:
        model = await raw_model(stage, server)
        delays = []
        async with asking(stage, model, stream=True) as wire:
            for nth in range(100):
                started = time.perf_counter()
                await wire.until(b"word-%d;" % nth)
                delays.append(time.perf_counter() - started)
                read.set()
            await wire.until(DONE)
    assert sorted(delays)[50] < 0.02  # both hops, client and provider; one timer would be 100 of it


async def test_half_an_event_waits_for_its_other_half_alone(stage: DoorStage) -> None:
    """An event cut by the network goes out whole, and what came before it at once."""
    go = asyncio.Event()
    second = event("second")

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(SSE, chunked(event("first") + second[:20]))
        await go.wait()
        await peer.send(chunked(second[20:]), chunked(DONE), b"0\r\n\r\n")

    async with serving(script) as server:
        model = await raw_model(stage, server)
        async with asking(stage, model, stream=True) as wire:
            await wire.until(event("first"))
            assert wire.body == event("first")
            go.set()
            await wire.until(DONE)
            assert wire.body.startswith(event("first") + second + DONE)


async def raw_model(stage: DoorStage, server: Server) -> str:
    await stage.add_provider(server.url.removesuffix("/chat"), name="raw")
    return await stage.add_model("raw/words", provider="raw")


def more_than(fake: FakeUpstream, seen: int) -> bool:
    return len(fake.requests) > seen


# P39 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
async def test_p39_cancel(stage: DoorStage, fake: FakeUpstream, stream: bool) -> None:
    """From the client's leaving to the end of the provider's connection; the best of three, because
    the machine has other work too."""
    model = await stage.add_model("mock/long", "mock/hang@3" if stream else "mock/hang")
    took = []
    for _ in range(3):
        seen = len(fake.requests)
        async with asking(stage, model, stream=stream) as wire:
            await until(partial(more_than, fake, seen))
            if stream:
                await wire.until(b"\n\n")
            wire.leave()
            started = time.perf_counter()
            await until(lambda: not fake.connections)
            took.append(time.perf_counter() - started)
    assert min(took) < AT_ONCE_S
    await until(lambda: not stage.worker.flow.settler.running)
    await stage.quiesce()
    assert {row["reason"] for row in await stage.usage()} == {"client_gone"}
    assert (await stage.pool_in_redis())["h"] == 0


# P40 ------------------------------------------------------------------------------------


async def test_p40_pool(stage: DoorStage, fake: FakeUpstream) -> None:
    """The third of two connections is refused with the numbers, and gauges tell the same."""
    metrics = stage.worker.metrics
    model = await stage.add_model("mock/hang")
    async with asking(stage, model), asking(stage, model):
        await until(lambda: len(fake.requests) == 2)
        answer = await stage.chat({**HELLO, "model": model})
        assert metrics.cells[metrics.upstream_in_use] == 2
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    error = answer.json()["error"]
    assert error["code"] == "upstream_pool_exhausted"
    assert "All 2 connections" in error["message"]
    assert "0 requests wait" in error["message"]
    await until(lambda: not metrics.cells[metrics.upstream_in_use])


async def test_p40_no_new_connection_in_steady_state(stage: DoorStage, fake: FakeUpstream) -> None:
    metrics = stage.worker.metrics
    model = await stage.add_model("mock/ok")
    for stream in (False, True):
        for _ in range(10):
            answer = await stage.chat({**HELLO, "model": model, "stream": stream})
            assert answer.status_code == 200
    assert metrics.cells[metrics.connects] == 1
    assert metrics.cells[metrics.upstream_open] == 1
    assert metrics.cells[metrics.upstream_in_use] == 0
