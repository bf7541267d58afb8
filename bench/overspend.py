"""Can concurrency overspend a pool? Several proxy processes admit on nearly empty pools at once.

python -m bench.overspend --admissions 1000000 --proxies 4

Each process goes a proxy's own way from a key to a ticket, over connections of its own to one real
Valkey; all are on the same pools at the same time. Of each pool exactly floor(balance / hold) may
be admitted, the others must be told 402, and Redis must hold what was admitted, to the ucr.
Exit status 0 only then. The holds stay: nothing is settled, so nothing can make up for a mistake.
"""

import argparse
import asyncio
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import orjson
import redis
import uvloop
from cryptography.fernet import Fernet, MultiFernet

from bench import machine
from control.machine import servers
from proxy import request
from proxy.declared import load
from proxy.errors import InsufficientCredits
from proxy.flow import Flow
from proxy.ids import request_id
from proxy.metrics import in_memory
from proxy.redis.scripts import SHARD_KEYS
from proxy.served import CHAT
from proxy.settings import Settings
from proxy.types import Deployment, Model, Price
from proxy.who import keys
from proxy.who.keyfile import KeyFile
from proxy.who.keys import SHARDS
from proxy.worker import build

PASSWORD = "only-for-this-run"  # noqa: S105 - of a server that lives as long as the run
ASKED_PER_POOL = 1_000  # admissions, by all processes together
CARRIED_MAX = 20  # holds that a pool carries
TOGETHER = 16  # pools that are asked at the same time
IN_FLIGHT = 256  # of each process
TIMEOUT_MS = 10_000  # long: a late answer would leave open what was decided
LEASE_MS = 600_000  # no hold ends while the run lasts
READY_S = 60.0

MESSAGES = [{"role": "user", "content": "hello"}]
OUTPUT_MAX = 100
BODY = orjson.dumps({"model": "bench/model", "messages": MESSAGES, "max_tokens": OUTPUT_MAX})
DEARER_OUT, FACTOR_PPM = 5, 1_250_000
PEPPER = bytes(32)
PLACES = (Deployment(1, "bench/model", "bench", "openai", "http://nowhere", "model"),)


@dataclass(frozen=True, slots=True)
class Pool:
    """An organisation with its key, and what its requests cost at most."""

    number: int
    key: str
    rate: int  # ucr per million tokens
    balance: int

    @property
    def shard(self) -> int:
        return self.number % SHARDS

    @property
    def owner(self) -> bytes:
        return SHARD_KEYS[self.shard].organisation(f"org{self.number}")

    @property
    def hold(self) -> int:
        """A token in per byte of the body, and the maximum out; rounded up once."""
        total = len(BODY) * self.rate + OUTPUT_MAX * self.rate * DEARER_OUT
        return -(-total * FACTOR_PPM // 10**12)

    @property
    def carries(self) -> int:
        return self.balance // self.hold

    @property
    def price(self) -> Price:
        return Price(1, {"input": self.rate, "output": DEARER_OUT * self.rate}, FACTOR_PPM)


@dataclass(frozen=True, slots=True)
class Verdict:
    admissions: int
    pools: int
    proxies: int
    admitted: int
    refused_402: int
    overspent_pools: int
    underspent_pools: int
    seconds: float
    per_second: int
    problems: tuple[str, ...]


def pools_of(admissions: int, seed: int) -> list[Pool]:
    """Random prices, random balances: none at all, a ucr too little, exactly enough, some more."""
    dice = random.Random(seed)
    pools = []
    for number in range(max(admissions // ASKED_PER_POOL, 1)):
        rate = dice.randint(1, 10 ** dice.randint(1, 11))
        key = keys.mint(number % SHARDS).text
        hold = Pool(number, key, rate, 0).hold
        rest = dice.choice((0, hold - 1, dice.randrange(hold)))
        pools.append(Pool(number, key, rate, dice.randint(0, CARRIED_MAX) * hold + rest))
    return pools


# One proxy ------------------------------------------------------------------------------------


def proxy(
    url: str, pools: Sequence[Pool], each: int, start: Barrier, told: "Queue[Any]", seed: int
) -> None:
    """A process: asks so often of each pool, and tells what it was answered."""
    told.put(uvloop.run(_proxy(url, pools, each, start, seed)))


async def _proxy(
    url: str, pools: Sequence[Pool], each: int, start: Barrier, seed: int
) -> dict[int, "Counter[str]"]:
    with tempfile.TemporaryDirectory(prefix="ocb-") as home:
        worker = build(_settings(home, url), _keyfile(), in_memory())
        await worker.pipe.start()
        try:
            return await _ask_all(worker.flow, pools, each, start, seed)
        finally:
            await worker.pipe.stop()
            worker.journal.close()


async def _ask_all(
    flow: Flow, pools: Sequence[Pool], each: int, start: Barrier, seed: int
) -> dict[int, "Counter[str]"]:
    answers = {pool.number: Counter[str]() for pool in pools}
    order = _order(pools, each, random.Random(seed))

    async def ask() -> None:
        for pool in order:
            answers[pool.number][await _ask(flow, pool)] += 1

    await asyncio.to_thread(start.wait, READY_S)
    await asyncio.gather(*(ask() for _ in range(IN_FLIGHT)))
    return answers


def _order(pools: Sequence[Pool], each: int, dice: random.Random) -> Iterator[Pool]:
    """A few pools at a time, the same ones in every process, each in its own order."""
    for first in range(0, len(pools), TOGETHER):
        block = [pool for pool in pools[first : first + TOGETHER] for _ in range(each)]
        dice.shuffle(block)
        yield from block


async def _ask(flow: Flow, pool: Pool) -> str:
    """The flow's own first steps, up to the ticket."""
    model = Model("bench/model", 8_192, 1_024, 0, PLACES, pool.price)
    try:
        caller = await flow.admission.identify(f"Bearer {pool.key}".encode())
        call = request.read(CHAT, request_id(), "/v1/chat/completions", BODY, flow.settings, {})
        ticket = await flow.admission.admit(call, caller, model)
    except InsufficientCredits as problem:
        return str(problem.status)
    except Exception as problem:  # whatever else it is, it fails the run
        return repr(problem)
    return "admitted" if ticket.held_ucr == pool.hold else f"held {ticket.held_ucr}"


def _settings(home: str, url: str) -> Settings:
    given = {"HOME": home, "REDIS_URL": url, "REDIS_TIMEOUT_MS": TIMEOUT_MS, "LEASE_MS": LEASE_MS}
    return load(Settings, {f"OPSCENTER_{name}": str(value) for name, value in given.items()})


def _keyfile() -> KeyFile:
    return KeyFile({1: PEPPER}, 1, MultiFernet([Fernet(Fernet.generate_key())]))


# All of them ----------------------------------------------------------------------------------


def run(admissions: int, proxies: int, seed: int = 1) -> Verdict:
    pools = pools_of(admissions, seed)
    each = max(admissions // len(pools) // proxies, 1)
    with tempfile.TemporaryDirectory(prefix="ocb-") as folder:
        server = servers.start_valkey(Path(folder) / "data", Path(folder), PASSWORD)
        try:
            with redis.Redis.from_url(server.url) as client:
                _fill(client, pools)
                answers, seconds = _compete(server.url, pools, each, proxies, seed)
                problems = [p for pool in pools for p in _differences(client, pool, answers)]
                problems += _holds(client, pools, answers)
        finally:
            server.stop()
    return _verdict(pools, answers, proxies, seconds, problems)


def _fill(client: redis.Redis, pools: Sequence[Pool]) -> None:
    for at in SHARD_KEYS:
        client.hset(at.meta, "gen", 1)
    for pool in pools:
        names = {"organisation": f"org{pool.number}", "person": "p", "pepper": 1}
        key = orjson.dumps({**names, "models": None, "meters": []})
        meter = [f"o:org{pool.number}", "pool", "pool", "organisation", 0]
        digest = _keyfile().digest(pool.key, 1).hex()
        record: dict[Any, Any] = {"ver": 1, "st": "active", "digest": digest, "exp": 0, "body": key}
        client.hset(SHARD_KEYS[pool.shard].key(_kid(pool.key)), mapping=record)
        record = {"ver": 1, "st": "active", "body": orjson.dumps({"meters": [meter]})}
        client.hset(pool.owner, mapping={**record, "pool.b": pool.balance})


def _kid(key: str) -> str:
    parsed = keys.parse(key)
    assert parsed is not None
    return parsed.kid


def _compete(
    url: str, pools: Sequence[Pool], each: int, proxies: int, seed: int
) -> tuple[dict[int, "Counter[str]"], float]:
    """All processes begin at the same moment; the time is from then to the last answer."""
    spawn = multiprocessing.get_context("spawn")
    start, told = spawn.Barrier(proxies + 1), spawn.Queue()
    started = [
        spawn.Process(target=proxy, args=(url, pools, each, start, told, seed + nth), daemon=True)
        for nth in range(proxies)
    ]
    for process in started:
        process.start()
    start.wait(READY_S)
    begun = time.monotonic()
    answers = {pool.number: Counter[str]() for pool in pools}
    for _ in started:
        for number, counted in told.get().items():
            answers[number] += counted
    seconds = time.monotonic() - begun
    for process in started:
        process.join(READY_S)
    return answers, seconds


def _differences(
    client: redis.Redis, pool: Pool, answers: dict[int, "Counter[str]"]
) -> Iterator[str]:
    told = answers[pool.number]
    asked = sum(told.values())
    admitted = min(pool.carries, asked)
    wanted = {"admitted": admitted, "402": asked - admitted}
    if +told != +Counter(wanted):
        yield f"pool {pool.number} carries {pool.carries} of {asked}, was told {dict(told)}"
    balance, held = client.hmget(pool.owner, "pool.b", "pool.h")
    if int(balance or 0) != pool.balance or int(held or 0) != admitted * pool.hold:
        yield f"pool {pool.number} has {balance!r} and holds {held!r}, not {admitted * pool.hold}"


def _holds(
    client: redis.Redis, pools: Sequence[Pool], answers: dict[int, "Counter[str]"]
) -> Iterator[str]:
    """One living hold with a lease for each admission, in the shard of its pool."""
    wanted = Counter[int]()
    for pool in pools:
        wanted[pool.shard] += answers[pool.number]["admitted"]
    for shard, at in enumerate(SHARD_KEYS):
        found = (client.hlen(at.hold), client.zcard(at.lease))
        if found != (wanted[shard], wanted[shard]):
            yield f"shard {shard} has {found} holds and leases for {wanted[shard]} admissions"


def _verdict(
    pools: Sequence[Pool],
    answers: dict[int, "Counter[str]"],
    proxies: int,
    seconds: float,
    problems: Sequence[str],
) -> Verdict:
    over = {p.number: answers[p.number]["admitted"] - p.carries for p in pools}
    asked = sum(sum(told.values()) for told in answers.values())
    return Verdict(
        admissions=asked,
        pools=len(pools),
        proxies=proxies,
        admitted=sum(told["admitted"] for told in answers.values()),
        refused_402=sum(told["402"] for told in answers.values()),
        overspent_pools=sum(more > 0 for more in over.values()),
        underspent_pools=sum(more < 0 for more in over.values()),
        seconds=round(seconds, 1),
        per_second=round(asked / seconds),
        problems=tuple(problems[:10]),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--admissions", type=int, default=1_000_000)
    parser.add_argument("--proxies", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the result to this file, too")
    given = parser.parse_args()
    described = machine.describe()
    verdict = run(given.admissions, given.proxies, given.seed)
    shown = orjson.dumps(
        {"machine": asdict(described), **asdict(verdict)},
        option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
    )
    if given.json:
        given.json.write_bytes(shown)
    print(shown.decode(), end="")
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main())
