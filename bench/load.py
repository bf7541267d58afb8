"""A load generator in one process: closed loop (connections) or open (a rate), plain or streaming.

In an open loop a latency counts from when its request was due: a stall flatters no gateway.

    python -m bench.load --url http://127.0.0.1:8084 --key KEY --model mock/ok --requests 10000
"""

import argparse
import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import orjson
import uvloop

from bench.client import Answer, Client, Failure, Target, connect
from bench.histogram import Histogram
from bench.pace import lateness
from proxy.machine.files import make_room

REQUESTS_MAX = 100_000_000
CONNECTIONS_MAX = 4096
FILES_KEPT = 64  # descriptors for everything but connections
BACKLOG_MAX = 100_000  # requests of an open loop that are due and not yet sent
TIMEOUT_S = 60.0
RETRIES_MAX = 5
RETRY_AFTER_MAX_S = 120.0
RECONNECT_PAUSE_S = 0.05
_TRY_AGAIN = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class Load:
    """What to do; ends with `requests` or a time, whichever is first. A rate: open loop."""

    url: str
    model: str
    key: str = ""
    connections: int = 32
    requests: int = 10_000
    seconds: float = 600.0
    starts_s: float = 600.0  # of a closed loop: no request starts later, but what runs may end
    rate: float | None = None
    stream: bool = False
    prompt: str = "Say something."
    tokens_max: int | None = None
    wait_when_told: bool = False  # obey Retry-After
    piece_s: float = 0.0  # the provider's pause between two pieces: then lateness is told

    def body(self) -> bytes:
        fields: dict[str, object] = {
            "model": self.model,
            "messages": [{"role": "user", "content": self.prompt}],
        }
        if self.stream:
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
        if self.tokens_max is not None:
            fields["max_tokens"] = self.tokens_max
        return orjson.dumps(fields)


@dataclass(slots=True)
class Result:
    """What came of it; latencies are those of good answers."""

    answered: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0  # of the generator itself: near `seconds` it was the bottleneck
    retried: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=Histogram)
    first_byte: Histogram = field(default_factory=Histogram)
    gap: Histogram = field(default_factory=Histogram)
    lateness: Histogram = field(default_factory=Histogram)  # of pieces, see `bench.pace`

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds if self.seconds else 0.0

    def summary(self) -> dict[str, object]:
        return {
            "answered": self.answered,
            "errors": dict(self.errors),
            "retried": self.retried,
            "seconds": round(self.seconds, 3),
            "requests_per_second": round(self.per_second, 1),
            "generator_cpu_us_per_request": round(self.cpu_s / max(self.answered, 1) * 1e6, 1),
            "latency_ms": self.latency.summary(),
            "first_byte_ms": self.first_byte.summary(),
            "gap_ms": self.gap.summary(),
        }


async def run(load: Load) -> Result:
    """Runs a load to its end."""
    make_room(load.connections + FILES_KEPT)
    target = Target.of(load.url)
    drive = _Drive(load, target, target.request(load.key, load.body()))
    cpu, started = os.times(), perf_counter()
    try:
        async with asyncio.timeout(load.seconds):
            await drive.drive()
    except TimeoutError:
        pass  # the time is up: what is under way does not count
    drive.result.seconds = perf_counter() - started
    drive.result.cpu_s = sum(os.times()[:2]) - sum(cpu[:2])
    return drive.result


class _Drive:
    """The connections of one load; each takes the next request that is due."""

    def __init__(self, load: Load, target: Target, request: bytes) -> None:
        self._load, self._target, self._request = load, target, request
        self._left = load.requests
        self._due: asyncio.Queue[float] = asyncio.Queue(BACKLOG_MAX)
        self.result = Result()

    async def drive(self) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._connection()) for _ in range(self._load.connections)]
            if self._load.rate is not None:
                await self._schedule(self._load.rate)
                await self._due.join()
                for task in tasks:
                    task.cancel()

    async def _schedule(self, rate: float) -> None:
        """Makes requests due at their times, however late the answers are."""
        start = perf_counter()
        for number in range(self._load.requests):
            due = start + number / rate
            if due > perf_counter():
                await asyncio.sleep(due - perf_counter())
            try:
                self._due.put_nowait(due)
            except asyncio.QueueFull:
                self.result.errors["not sent: too many were due"] += 1

    async def _starts(self) -> AsyncIterator[float]:
        """When each request of this connection was due."""
        if self._load.rate is None:
            end = perf_counter() + self._load.starts_s
            while self._left > 0 and perf_counter() < end:
                self._left -= 1
                yield perf_counter()
        else:
            while True:
                yield await self._due.get()
                self._due.task_done()

    async def _connection(self) -> None:
        client: Client | None = None
        try:
            async for due in self._starts():
                client = await self._one(client, due)
        finally:
            if client is not None:
                client.close()

    async def _one(self, client: Client | None, due: float) -> Client | None:
        """One request to its end; gives back the connection if it can be used again."""
        for attempt in range(RETRIES_MAX + 1):
            try:
                client = client if client and client.usable else await connect(self._target)
                answer = await client.call(self._request, TIMEOUT_S)
            except Failure as failure:
                self.result.errors[str(failure)] += 1
                if client is not None:
                    client.close()
                await asyncio.sleep(RECONNECT_PAUSE_S)
                return None
            wait = self._told_to_wait(answer)
            if wait is None or attempt == RETRIES_MAX:
                self._note(answer, perf_counter() - due)
                break
            self.result.retried += 1
            await asyncio.sleep(wait)
        return client

    def _told_to_wait(self, answer: Answer) -> float | None:
        told = answer.headers.get("retry-after", "")
        if not self._load.wait_when_told or answer.status not in _TRY_AGAIN or not told.isdigit():
            return None
        return float(told) if float(told) <= RETRY_AFTER_MAX_S else None

    def _note(self, answer: Answer, latency: float) -> None:
        result, wrong = self.result, what_is_wrong(answer, stream=self._load.stream)
        if wrong is not None:
            result.errors[wrong] += 1
            return
        result.answered += 1
        result.latency.add(latency)
        result.first_byte.add(answer.first_byte_s)
        for gap in answer.gaps_s:
            result.gap.add(gap)
        if self._load.piece_s:
            for late in lateness(answer.reads, bytes(answer.body), self._load.piece_s):
                result.lateness.add(late)


def what_is_wrong(answer: Answer, *, stream: bool) -> str | None:
    """The kind of error, or None for an answer that is whole and good."""
    if answer.status != 200:
        return f"status {answer.status}"
    if not stream:
        return None if b'"choices":' in answer.body else "wrong answer: no choices"
    if b"\ndata: [DONE]" not in answer.body:
        return "wrong answer: no [DONE]"
    return "error in stream" if b'data: {"error":' in answer.body else None


# The program ----------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options().parse_args(arguments)
    fields = {name: value for name, value in vars(options).items() if name != "json"}
    result = uvloop.run(run(Load(**fields)))
    summary = result.summary()
    print(json.dumps(summary, indent=2) if options.json else _table(summary))
    return 1 if result.errors or not result.answered else 0


def _table(summary: dict[str, object]) -> str:
    rows = []
    for name, value in summary.items():
        text = "  ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        rows.append(f"{name.replace('_', ' '):30} {'none' if text == '' else text}")
    return "\n".join(rows)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description="Load for a door.")
    parser.add_argument("--url", required=True, help="http://127.0.0.1:8084")
    parser.add_argument("--key", default=os.environ.get("OPSCENTER_API_KEY", ""))
    parser.add_argument("--model", required=True)
    parser.add_argument("--connections", type=int, default=32, help=f"at most {CONNECTIONS_MAX}")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--rate", type=float, help="requests a second: an open loop")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--prompt", default="Say something.")
    parser.add_argument("--tokens-max", type=int)
    parser.add_argument("--wait-when-told", action="store_true", help="obey Retry-After")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
