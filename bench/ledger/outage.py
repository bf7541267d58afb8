"""Redis away or empty: how long until the door admits again, and how fast it says no meanwhile. The
door, the drain and the control plane are the product's own processes.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Sequence

import orjson

from bench.chaos.parts import Cables, Module
from bench.client import Answer, Client, Failure, Target, connect
from bench.histogram import Histogram
from bench.ledger.ingest import Row
from bench.ledger.place import Caller, Place

RATE = 200  # requests a second: an open loop, so that nobody who waits keeps the next one back
OUTAGE_S = 4.0
READY_S = 60.0
ASK_S = 0.01
BODY = {"model": "ops/echo", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}


class Asker:
    """Calls the door, a connection per request."""

    def __init__(self, host: str, port: int) -> None:
        self._target = Target.of(f"http://{host}:{port}")
        self._body = orjson.dumps(BODY)

    async def ask(self, caller: Caller) -> Answer:
        client: Client = await connect(self._target)
        try:
            request = self._target.request(caller.key.text, self._body)
            return await client.call(request, READY_S)
        finally:
            client.close()

    async def until_served(self, callers: Sequence[Caller]) -> list[float]:
        """When each of them was first answered well, one after the other."""
        times = []
        async with asyncio.timeout(READY_S):
            for caller in callers:
                while not await self._served(caller):  # noqa: ASYNC110
                    await asyncio.sleep(ASK_S)
                times.append(time.monotonic())
        return times

    async def _served(self, caller: Caller) -> bool:
        try:
            return (await self.ask(caller)).status == 200
        except Failure:
            return False


async def refilled(place: Place, pools: int) -> Row:
    """All keys of Redis are deleted while everything runs; until the first request is admitted, and
    until one of every shard was.
    """
    callers = _one_of_each_shard(place.callers)
    async with place.drain(), _control(place), place.door() as (host, port):
        asker = Asker(host, port)
        await asker.until_served(callers)
        log = place.home / "logs" / "drain.log"
        started = time.monotonic()
        await place.store.command("FLUSHALL")
        times = await asker.until_served(callers)
        await place.until_drained()
    assert await place.pool.fetchval("SELECT count(*) FROM account WHERE kind = 'pool'") == pools
    assert "Traceback" not in log.read_text(errors="replace")
    return {
        "pools": pools,
        "first_admitted_s": round(times[0] - started, 2),
        "every_shard_admitted_s": round(times[-1] - started, 2),
    }


async def refusals(place: Place) -> dict[str, Row]:
    """How long a client waits for his 503 while Redis is killed, stands still, or swallows all."""
    found = {}
    async with (
        place.drain(),
        _control(place),
        place.cables() as cables,
        place.door(place.by(cables)) as (host, port),
    ):
        asker, callers = Asker(host, port), place.callers[:8]
        for name in ("killed", "frozen", "unreachable"):
            await asker.until_served(callers)
            await _break(place, cables, name)
            found[name] = await _refused(asker, callers)
            await _mend(place, cables, name)
            back = time.monotonic()
            first = (await asker.until_served(callers[:1]))[0]
            found[name]["admits_again_s"] = round(first - back, 2)
    return found


async def _break(place: Place, cables: Cables, how: str) -> None:
    if how == "killed":
        await place.redis.kill()
    elif how == "frozen":
        place.redis.send(signal.SIGSTOP)
    else:
        cables.change("door", "blackhole")


async def _mend(place: Place, cables: Cables, how: str) -> None:
    if how == "killed":
        await place.redis.begin()
    place.redis.send(signal.SIGCONT)
    cables.mend()


async def _refused(asker: Asker, callers: Sequence[Caller]) -> Row:
    """Requests at a rate; the outage has begun just now."""
    waits, statuses = Histogram(), dict[int, int]()

    async def one(nth: int, due: float) -> None:
        answer = await asker.ask(callers[nth % len(callers)])
        waits.add(time.perf_counter() - due)
        statuses[answer.status] = statuses.get(answer.status, 0) + 1

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for nth in range(int(OUTAGE_S * RATE)):
            due = started + nth / RATE
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            group.create_task(one(nth, due))
    told = waits.summary()
    if set(statuses) != {503}:
        raise RuntimeError(f"without Redis the door answered {statuses}")
    chosen = {f"{name}_ms": told[name] for name in ("p50", "p99", "max")}
    return {"requests": waits.count, **chosen}


def _one_of_each_shard(callers: Sequence[Caller]) -> list[Caller]:
    return list({caller.key.shard: caller for caller in callers}.values())


@contextlib.asynccontextmanager
async def _control(place: Place) -> AsyncIterator[None]:
    """It keeps the snapshot published."""
    words = ["control.machine.child", "control"]
    env = place.environment() | {"OPSCENTER_CONTROL_PORT": "0"}
    part = Module("control", place.home / "logs" / "control.log", words, env)
    part.start()
    try:
        yield
    finally:
        await part.kill()
