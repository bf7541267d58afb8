"""After the storm: all faults end, the load stops, and what is under way comes to rest, within a
named time. Looks from outside, with plain clients.
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable

import redis

from bench.chaos.seen import SHARDS
from bench.chaos.stage import Stage
from bench.chaos.topups import TROUBLE, TopUps

LOAD_END_S = 45.0
QUIET_MAX_S = 60.0  # goal: all is drained within this
GIVEN_UP_S = 150.0  # then it is judged as it is
STILL_S = 5.0  # nothing has moved for so long: longer than journals wait before they try again
LOOK_S = 0.25
SAY_S = 5.0


async def come_to_rest(
    stage: Stage, topups: TopUps, say: Callable[[str], None]
) -> tuple[float, str]:
    """How long it took until nothing moved any more, and what still did, if anything."""
    stage.cables.mend()
    for part in stage.parts:
        part.send(signal.SIGCONT)
    await stop_load(stage)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await topups.finish()
    moved, before, why, said = began, "", "not looked at yet", began
    while loop.time() - began < GIVEN_UP_S:
        now, why = await _look(stage)
        if now != before or why:
            moved, before = loop.time(), now
        elif loop.time() - moved >= STILL_S:
            return moved - began, ""
        if why and loop.time() - said > SAY_S:
            said = loop.time()
            say(f"not at rest: {why}")
        await asyncio.sleep(LOOK_S)
    return loop.time() - began, why or "rows still move"


async def stop_load(stage: Stage) -> None:
    stage.load.send(signal.SIGTERM)
    try:
        async with asyncio.timeout(LOAD_END_S):
            while stage.load.runs:  # noqa: ASYNC110 - only polling tells of another process
                await asyncio.sleep(0.05)
    except TimeoutError:
        stage.notes.append("the load did not end by itself")
        await stage.load.kill()


async def _look(stage: Stage) -> tuple[str, str]:
    """A print of what moves, and what is not at rest."""
    try:
        books, outseq = await _books(stage)
        busy, adjseq = await asyncio.to_thread(_in_redis, stage.redis.url)
    except (*TROUBLE, redis.RedisError) as problem:
        return "", f"a server does not answer: {problem}"
    late = sum(adjseq[shard] != seq for shard, seq in outseq.items())
    if late:
        busy.append(f"the outbox of {late} shards")
    if left := _journalled(stage):
        busy.append(f"{left} bytes of journals")
    return books, ", ".join(busy)


def _journalled(stage: Stage) -> int:
    """Bytes that proxies still have to tell the ledger, living or dead: at rest there are none."""
    size = 0
    for path in stage.home.glob("proxies*/journal/*.journal"):
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


async def _books(stage: Stage) -> tuple[str, dict[int, int]]:
    rows = await stage.pool.fetch(
        "SELECT id, cursor_ms, cursor_seq, outseq, generation FROM shard ORDER BY id", timeout=10
    )
    return str([tuple(row) for row in rows]), {row["id"]: row["outseq"] for row in rows}


def _in_redis(url: str) -> tuple[list[str], dict[int, int]]:
    client = redis.Redis.from_url(url, decode_responses=True, socket_timeout=5)
    pipe = client.pipeline(transaction=False)
    for shard in range(SHARDS):
        prefix = f"{{s{shard:02d}}}:"
        pipe.hlen(prefix + "hold")
        pipe.zcard(prefix + "lease")
        pipe.xlen(prefix + "usage")
        pipe.hlen(prefix + "tomb")
        pipe.hmget(prefix + "meta", "gen", "adjseq")
    found = pipe.execute()
    client.close()
    totals = [sum(found[nth::5]) for nth in range(4)]
    names = ("holds", "leases", "stream entries", "tombstones")
    busy = [f"{total} {name}" for name, total in zip(names, totals, strict=True) if total]
    if missing := sum(gen is None for gen, _ in found[4::5]):
        busy.append(f"{missing} shards without a generation")
    return busy, {shard: int(seq or 0) for shard, (_, seq) in enumerate(found[4::5])}
