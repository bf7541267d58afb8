"""Real supervisors and workers, replaced while clients stream and ask: nobody notices."""

import asyncio
import signal
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from tests.fleet_stage import Fleet, Node, fleet, told, until

CLIENTS = 6
SLOW, QUICK = "mock/slow", "mock/quick"


async def test_a_rolling_restart_is_seen_by_nobody(
    home: Path, redis_url: str, database_url: str
) -> None:
    """Streams that run end whole, kept connections are told to close, new ones are not refused."""
    async with fleet(home, redis_url, database_url, drain_ms="20000") as machines:
        node = machines.nodes[0]
        await machines.model(SLOW, "mock/ok?in=0&out=10&chunks=20&chunk_ms=100", "1")
        await machines.model(QUICK, "mock/ok?in=0&out=10", "1")
        streams = [asyncio.create_task(_stream(machines)) for _ in range(CLIENTS)]
        await until(lambda: _seen(machines, CLIENTS))
        over, told_so = asyncio.Event(), Counter[str]()
        asking = [
            asyncio.create_task(client(machines, node, over, told_so))
            for client in [_ask_again, _ask_anew] * CLIENTS
        ]
        old = set(node.workers())
        node.process.send_signal(signal.SIGHUP)
        await until(lambda: _replaced(machines, node, old))
        over.set()
        await asyncio.gather(*asking)

        assert set(told_so) == {"200"}
        assert told_so.total() > 2 * CLIENTS
        assert [text.count("data: [DONE]") for text in await asyncio.gather(*streams)] == [
            1
        ] * CLIENTS
        report = await machines.verified()
        assert report.ok


async def _seen(machines: Fleet, count: int) -> bool:
    return len(machines.fake.requests) >= count


async def _replaced(machines: Fleet, node: Node, old: set[int]) -> bool:
    ready = (await machines.http.get(node.health + "/readyz")).status_code == 200
    return ready and not old & set(node.workers())


async def _stream(machines: Fleet) -> str:
    async with machines.stream(SLOW) as answer:
        assert answer.status_code == 200
        return "".join([text async for text in answer.aiter_text()])


async def _ask_again(
    machines: Fleet, node: Node, over: asyncio.Event, told_so: "Counter[str]"
) -> None:
    """On kept connections, one request after another."""
    while not over.is_set():
        try:
            told_so[told(await machines.chat(QUICK))] += 1
        except httpx2.TransportError as problem:
            told_so[repr(problem)] += 1


async def _ask_anew(
    machines: Fleet, node: Node, over: asyncio.Event, told_so: "Counter[str]"
) -> None:
    """On a new connection each time, without a second try."""
    at = urlsplit(node.door)
    while not over.is_set():
        try:
            reader, writer = await asyncio.open_connection(at.hostname, at.port)
            writer.write(b"GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
            told_so[answer[9:12].decode() or "cut"] += 1
        except OSError as problem:
            told_so[repr(problem)] += 1
