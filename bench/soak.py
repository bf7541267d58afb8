"""Memory over a long mixed load on a whole Ops-Center: idle, after a warm-up, at the end.

Of the requests 30 % are streams, 1 in 1,000 brings 10 MB, 5 % meet a provider that fails, and 10 %
are left by their client. Memory goes up and down with every large body, so the lowest of many looks
is compared; the highest is told beside it. Fails when an idle worker is too large, when a worker
grew, or when something is still held at the end; never on speed.

    python -m bench.soak --minutes 30
    python -m bench.soak --requests 1000000 --connections 128 --minutes 60
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson
import uvloop

from bench import machine, stack
from bench.client import Answer, Client, Failure, Target, connect

IDLE_MAX = 100 * 2**20  # bytes of an idle worker
GROWTH_MAX = 0.05
WARM_UP_SHARE = 0.25
COMPARED_SHARE = 0.1  # of the time: behind the warm-up, and at the end
LOOK_S = 0.5
REST_S = 60.0  # for what was left to be settled and booked
TIMEOUT_S = 60.0
BIG = 10 * 1000 * 1000
PRICES = {"input": "0.15", "output": "0.6", "cache_read": "0.075"}

#: Kind of a request -> its share, and the upstream's model.
KINDS = {
    "plain": (0.649, "mock/ok?in=200&out=80&bytes=400&latency_ms=5"),
    "stream": (0.30, "mock/ok?in=200&out=80&chunks=20&chunk_ms=5&bytes=400"),
    "big": (0.001, "mock/ok?in=8000&out=80&bytes=400"),
    "fails": (0.03, "mock/503"),
    "breaks": (0.02, "mock/truncate@3"),
}
LEFT_SHARE = 0.10
LEAVES_WITHIN_S = 0.05
_code = re.compile(rb'"code":"(\w+)"').search


@dataclass(slots=True)
class Sample:
    """What the processes hold at one moment."""

    second: float
    memory: dict[str, int]  # bytes by role
    files: int  # descriptors of the workers


@dataclass(slots=True)
class Soak:
    """What came of it."""

    requests: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    idle: int = 0  # bytes of all workers before the first request
    problems: list[str] = field(default_factory=list)

    def within(self, role: str, start: float) -> list[int]:
        """What a role held during a tenth of the time, from this share of it on."""
        end = self.samples[-1].second
        begin, stop = end * start, end * (start + COMPARED_SHARE)
        return [s.memory.get(role, 0) for s in self.samples if begin <= s.second <= stop]

    def growth(self, role: str) -> float:
        warm = min(self.within(role, WARM_UP_SHARE), default=0)
        end = min(self.within(role, 1 - COMPARED_SHARE), default=0)
        return end / warm - 1 if warm else 0.0


async def drive(
    running: stack.Stack, connections: int, seconds: float, seed: int, most: int
) -> Soak:
    """Load and samples side by side, until the time or the requests are used up."""
    soak = Soak(idle=machine.memory_bytes(running.pid)["gateway"])
    target = Target.of(running.door_url)
    requests = {kind: target.request(running.key, _body(kind)) for kind in KINDS}
    until = Until(time.monotonic() + seconds, most)
    async with asyncio.TaskGroup() as group:
        for nth in range(connections):
            caller = Caller(target, requests, soak, random.Random(seed * 1000 + nth))
            group.create_task(caller.call_until(until))
        group.create_task(_watch(running.pid, soak, until))
    return soak


@dataclass(frozen=True, slots=True)
class Until:
    """When the load ends."""

    second: float  # by the monotonic clock
    requests: int

    def goes_on(self, soak: Soak) -> bool:
        return time.monotonic() < self.second and soak.requests.total() < self.requests


class Caller:
    """One client, who asks for this and that, and sometimes leaves."""

    def __init__(
        self, target: Target, requests: dict[str, bytes], soak: Soak, chance: random.Random
    ) -> None:
        self._target, self._requests = target, requests
        self._soak, self._chance = soak, chance
        self._client: Client | None = None

    async def call_until(self, until: "Until") -> None:
        shares = [share for share, _ in KINDS.values()]
        while until.goes_on(self._soak):
            [kind] = self._chance.choices(list(KINDS), shares)
            leaves = self._chance.random() < LEFT_SHARE
            self._soak.requests["left" if leaves else kind] += 1
            try:
                await self._call(self._requests[kind], leaves)
            except Failure as failure:
                self._soak.answers[str(failure)] += 1
                self._close()
        self._close()

    async def _call(self, request: bytes, leaves: bool) -> None:
        if self._client is None or not self._client.usable:
            self._client = await connect(self._target)
        if leaves:
            asyncio.get_running_loop().call_later(
                self._chance.random() * LEAVES_WITHIN_S, self._client.close
            )
        answer = await self._client.call(request, TIMEOUT_S)
        self._soak.answers[_kind(answer)] += 1

    def _close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def _kind(answer: Answer) -> str:
    code = _code(answer.body) if answer.status != 200 else None
    return f"{answer.status} {code[1].decode()}" if code else str(answer.status)


async def _watch(pid: int, soak: Soak, until: "Until") -> None:
    started = time.monotonic()
    while until.goes_on(soak):
        second = time.monotonic() - started
        soak.samples.append(Sample(second, machine.memory_bytes(pid), _files(pid)))
        await asyncio.sleep(LOOK_S)


def _files(pid: int) -> int:
    """Descriptors of the workers."""
    count = 0
    for worker, role in machine.processes(pid).items():
        if role == "gateway":
            with contextlib.suppress(OSError):
                count += len(os.listdir(f"/proc/{worker}/fd"))  # noqa: PTH208 - faster
    return count


def _body(kind: str) -> bytes:
    text = "x" * BIG if kind == "big" else "Say something. " * 60
    fields: dict[str, object] = {
        "model": f"soak/{kind}",
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 100,
    }
    if kind in ("stream", "breaks"):
        fields["stream"] = True
    return orjson.dumps(fields)


def at_rest(running: stack.Stack) -> list[str]:
    """What is still held or not booked after a while; the product's own proof tells it."""
    deadline = time.monotonic() + REST_S
    while True:
        report = running.api.get("/api/v1/admin/ledger/verify")
        if report.get("ok"):
            return []
        if time.monotonic() > deadline:
            return [f"not at rest: {report}"]
        time.sleep(LOOK_S)


def judge(soak: Soak, workers: int) -> list[str]:
    problems = list(soak.problems)
    if soak.idle > IDLE_MAX * workers:
        problems.append(f"an idle worker takes {soak.idle / workers / 2**20:.0f} MB")
    if soak.growth("gateway") > GROWTH_MAX:
        problems.append(f"the workers grew by {soak.growth('gateway'):.1%}")
    return problems


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options().parse_args(arguments)
    where = machine.describe()
    with stack.started(options.workers, 1) as running:
        stack.serve_provider(running)
        for kind, (_, upstream_model) in KINDS.items():
            stack.serve_model(running, f"soak/{kind}", upstream_model, PRICES)
        seconds = options.minutes * 60
        soak = uvloop.run(
            drive(running, options.connections, seconds, options.seed, options.requests)
        )
        soak.problems = at_rest(running)
    problems = judge(soak, options.workers)
    report = {
        "machine": asdict(where),
        "minutes": options.minutes,
        "workers": options.workers,
        "requests": dict(soak.requests),
        "answers": dict(soak.answers),
        "idle_bytes": soak.idle,
        "memory": {role: _told(soak, role) for role in sorted(soak.samples[-1].memory)},
        "files": [soak.samples[len(soak.samples) // 4].files, soak.samples[-1].files],
        "problems": problems,
    }
    if options.out:
        samples = [asdict(sample) for sample in soak.samples]
        options.out.write_text(json.dumps({**report, "samples": samples}, indent=1) + "\n")
    print(json.dumps(report, indent=2))
    return 1 if problems else 0


def _told(soak: Soak, role: str) -> dict[str, object]:
    return {
        "warm_mb": _range(soak.within(role, WARM_UP_SHARE)),
        "end_mb": _range(soak.within(role, 1 - COMPARED_SHARE)),
        "growth_percent": round(soak.growth(role) * 100, 2),
    }


def _range(sizes: list[int]) -> str:
    lowest, highest = min(sizes, default=0), max(sizes, default=0)
    return f"{lowest / 2**20:.1f} to {highest / 2**20:.1f}"


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description="Is memory flat?")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--requests", type=int, default=sys.maxsize, help="or until so many")
    parser.add_argument("--workers", type=int, default=1, help="proxy workers")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="a JSON file, with every sample")
    return parser


if __name__ == "__main__":
    sys.exit(main())
