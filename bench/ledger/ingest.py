"""How fast the ledger takes what has happened: all shards, one shard, after an hour without
PostgreSQL. The drain is the product's own process; the streams are filled while it stands still.
"""

import signal
import time
from collections.abc import Sequence

from bench import machine
from bench.chaos.parts import Module
from bench.ledger.events import fill
from bench.ledger.place import Caller, Place
from control.books.verify import verify
from proxy.redis.scripts import SHARD_KEYS

TABLE_BYTES = (
    "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits"
    " WHERE inhparent = 'usage_event'::regclass"
)
Row = dict[str, float | int | str]


async def ingest(place: Place, callers: Sequence[Caller], count: int) -> Row:
    """`count` events wait; the drain is let go; how long until the ledger has all."""
    async with place.drain() as drain:
        await fill(place.store, callers, min(count, 2_000))  # plans, caches, accounts
        await place.until_drained()
        drain.send(signal.SIGSTOP)
        await fill(place.store, callers, count)
        before, started = _cpu(place, drain), time.monotonic()
        drain.send(signal.SIGCONT)
        await place.until_drained()
        seconds = time.monotonic() - started
        after = _cpu(place, drain)
    return _row(count, seconds) | {
        f"{role}_cpu_us": round((used - before.get(role, 0.0)) / count * 1e6, 1)
        for role, used in after.items()
    }


async def catch_up(place: Place, callers: Sequence[Caller], count: int) -> Row:
    """PostgreSQL is down, `count` events come, it starts again; until it has all of them."""
    async with place.drain():
        await place.postgres.kill()
        await fill(place.store, callers, count)
        before = await place.store.info("memory")
        started = time.monotonic()
        await place.postgres.begin()
        up_s = time.monotonic() - started
        await place.until_drained()
        seconds = time.monotonic() - started
    row = _row(count, seconds - up_s)
    return row | {
        "postgres_start_s": round(up_s, 2),
        "redis_bytes": int(before["used_memory"]),
    }


async def sizes(place: Place, callers: Sequence[Caller], count: int) -> Row:
    """Bytes per event while it waits in Redis, and for good in PostgreSQL."""
    redis_before = int((await place.store.info("memory"))["used_memory"])
    await fill(place.store, callers, count)
    usage = int((await place.store.info("memory"))["used_memory"]) - redis_before
    streams = sum(
        await place.store.commands(
            [("MEMORY", "USAGE", at.usage, "SAMPLES", 0) for at in SHARD_KEYS]
        )
    )
    rows_before = await place.pool.fetchval("SELECT count(*) FROM usage_event")
    async with place.drain():
        await place.until_drained()
    rows = await place.pool.fetchval("SELECT count(*) FROM usage_event")
    assert rows == rows_before + count
    return {
        "events": count,
        "redis_bytes_per_event": round(usage / count),
        "of_it_stream_bytes_per_event": round(streams / count),
        "postgres_bytes_per_event": round(int(await place.pool.fetchval(TABLE_BYTES)) / rows),
    }


async def proven(place: Place) -> str:
    """What `opscenter ledger verify` says of all that was measured."""
    report = await verify(place.pool, place.store)
    if not report.ok:
        raise RuntimeError(f"the books do not agree: {report}")
    return "; ".join(f"{check.name} {check.detail}" for check in report.checks)


def _row(count: int, seconds: float) -> Row:
    return {"events": count, "seconds": round(seconds, 2), "per_second": round(count / seconds)}


def _cpu(place: Place, drain: Module) -> dict[str, float]:
    """Seconds used so far, by role; what measures is none of them."""
    used: dict[str, float] = {}
    for part in (drain, place.redis, place.postgres):
        assert part.process is not None
        for role, seconds in machine.cpu_seconds(part.process.pid).items():
            used[role] = used.get(role, 0.0) + seconds
    return used
