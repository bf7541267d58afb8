"""The load of a run, a process of its own: plain answers and streams over all keys and both sets of
proxies, some clients leaving half-way. Writes one line per answer it has seen; never tries again.

    python -m bench.chaos.load --truth DIR --urls http://...,http://... --seed 1 --connections 48
"""

import argparse
import asyncio
import random
import re
import signal
from collections import Counter
from pathlib import Path
from typing import TextIO

import orjson
import uvloop

from bench.client import Answer, Client, Failure, Target, connect

TIMEOUT_S = 40.0
LEAVES = 0.015  # share of clients that go away
LEAVES_AFTER_S = 0.25
OF_A_JOB, JOBS = 0.05, 20  # share of requests that belong to a job; jobs of an organisation
REFUSED_PAUSE_S = (0.02, 0.15)
END_S = 30.0
FLUSH_S = 0.5
_cost = re.compile(rb": x-ops-cost=([0-9.]+)").search


class Fleet:
    """Ready-made requests of every model, by key and door."""

    def __init__(self, truth: Path, urls: list[str]) -> None:
        told = orjson.loads((truth / "fleet.json").read_bytes())
        self.keys: list[str] = told["keys"]
        self.models = list(told["models"])
        self.weights = [told["models"][name]["weight"] for name in self.models]
        self.targets = [Target.of(url) for url in urls]
        self.bodies = {name: _body(name, told["models"][name]["stream"]) for name in self.models}


def _body(model: str, stream: bool) -> bytes:
    fields: dict[str, object] = {
        "model": model,
        "messages": [{"role": "user", "content": "Say something."}],
        "max_tokens": 900,
    }
    if stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    return orjson.dumps(fields)


class Caller:
    """One connection after the other, one request at a time."""

    def __init__(self, fleet: Fleet, seed: str, out: TextIO, seen: Counter[str]) -> None:
        self._fleet = fleet
        self._dice = random.Random(seed)
        self._out = out
        self._seen = seen
        self._clients: dict[int, Client] = {}

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                refused = await self._one()
            except Failure as failure:
                self._seen[str(failure)] += 1
                refused = True
            if refused:
                await asyncio.sleep(self._dice.uniform(*REFUSED_PAUSE_S))
        for client in self._clients.values():
            client.close()

    async def _one(self) -> bool:
        dice, fleet = self._dice, self._fleet
        door = dice.randrange(len(fleet.targets))
        model = dice.choices(fleet.models, fleet.weights)[0]
        request = fleet.targets[door].request(dice.choice(fleet.keys), fleet.bodies[model])
        if dice.random() < OF_A_JOB:
            headers = f"x-job-id: job{dice.randrange(JOBS)}\r\nx-job-max-cost: 900000000\r\n"
            request = request.replace(b"content-type:", headers.encode() + b"content-type:", 1)
        client = self._clients.pop(door, None)
        if client is None or not client.usable:
            client = await connect(fleet.targets[door])
        if dice.random() < LEAVES:
            await self._leave(client, request)
            return False
        try:
            answer = await client.call(request, TIMEOUT_S)
        except Failure:
            client.close()
            raise
        if client.usable:
            self._clients[door] = client
        return self._note(answer)

    async def _leave(self, client: Client, request: bytes) -> None:
        try:
            await client.call(request, self._dice.uniform(0.001, LEAVES_AFTER_S))
        except Failure:
            self._seen["left"] += 1
        client.close()

    def _note(self, answer: Answer) -> bool:
        """`rid status cost`: the cost that the client was told, in credits, or a dash."""
        told = answer.headers.get("x-ops-cost")
        if told is None and (found := _cost(answer.body)):
            told = found[1].decode()
        rid = answer.headers.get("x-ops-request-id", "-")
        self._out.write(f"{rid} {answer.status} {told or '-'}\n")
        self._seen[f"status {answer.status}"] += 1
        return answer.status in (401, 402, 404, 429, 503)


async def run(truth: Path, urls: list[str], seed: int, connections: int) -> None:
    stop, seen = asyncio.Event(), Counter[str]()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    fleet = Fleet(truth, urls)
    with (truth / "answers.txt").open("w") as out:
        tasks = [
            asyncio.create_task(Caller(fleet, f"{seed}/{nth}", out, seen).run(stop))
            for nth in range(connections)
        ]
        while not stop.is_set():
            await asyncio.sleep(FLUSH_S)
            out.flush()
        _, late = await asyncio.wait(tasks, timeout=END_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    (truth / "load.json").write_bytes(orjson.dumps(dict(seen)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos.load", description=__doc__)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--urls", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--connections", type=int, default=48)
    given = parser.parse_args()
    uvloop.run(run(given.truth, given.urls.split(","), given.seed, given.connections))


if __name__ == "__main__":
    main()
