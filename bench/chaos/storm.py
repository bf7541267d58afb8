"""Does what the plan says, each fault at its time, several at once; writes down when each really
happened, so that the checker can ask whether a loss had a cause.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bench.chaos.parts import Part, Valkey
from bench.chaos.plan import CABLES, Fault
from bench.chaos.stage import Stage
from bench.chaos.topups import TROUBLE, TopUps
from control.store import AWAY, Store

FAULT_S = 120.0  # the longest that carrying out one fault may take, beyond its own time
BALLAST_STEP = 2**20


class Storm:
    def __init__(self, stage: Stage, topups: TopUps) -> None:
        self._stage = stage
        self._topups = topups
        self.done: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self._events = (stage.truth / "events.jsonl").open("a")
        self._started = 0.0

    async def run(self) -> None:
        """All faults of the plan; returns when its time and the last fault are over."""
        loop = asyncio.get_running_loop()
        self._started = loop.time()
        async with asyncio.TaskGroup() as group:
            for fault in self._stage.plan.faults:
                wait = self._started + fault.at - loop.time()
                if wait > 0:
                    await asyncio.sleep(wait)
                group.create_task(self._carry_out(fault))
            await asyncio.sleep(self._started + self._stage.plan.seconds - loop.time())

    def close(self) -> None:
        self._events.close()

    async def _carry_out(self, fault: Fault) -> None:
        began = time.time()
        async with asyncio.timeout(fault.seconds + FAULT_S):
            happened = await self._do(fault)
        (self.done if happened else self.skipped)[fault.kind] += 1
        if happened:
            self.tell(fault.kind, began, str(fault.which))

    def tell(self, kind: str, began: float, which: str = "") -> None:
        """An event is a kind and the span of wall time in which it was so."""
        row = {"kind": kind, "from": began, "to": time.time(), "which": which}
        self._events.write(json.dumps(row) + "\n")
        self._events.flush()

    async def _do(self, fault: Fault) -> bool:
        stage = self._stage
        match fault.kind:
            case "kill-worker":
                return await self._kill([self._worker(fault)], fault)
            case "kill-set":
                return await self._kill(stage.sets[fault.which % len(stage.sets)], fault)
            case "kill-supervisor":
                return await self._kill([stage.supervisor], fault)
            case "kill-drain":
                return await self._kill([stage.drains[fault.which % len(stage.drains)]], fault)
            case "kill-control":
                return await self._kill([stage.control], fault)
            case "kill-postgres":
                return await self._kill([stage.postgres], fault)
            case "kill-backend":
                return self._kill_backend(fault)
            case "kill-redis" | "wipe":
                return await self._kill_redis(stage.redis, fault)
            case "stop-worker":
                return await self._stop(self._worker(fault), fault)
            case "stop-drain":
                return await self._stop(stage.drains[fault.which % len(stage.drains)], fault)
            case "stop-redis":
                return await self._stop(stage.redis, fault)
            case "stop-postgres":
                return await self._stop(stage.postgres, fault)
            case "cable":
                return await self._cable(fault)
            case "flush" | "script-flush":
                return await self._command(fault)
            case "topup":
                return self._topups.plan(fault)
            case "disk-full-redis":
                return await self._fill(stage.disks.get("redis"), fault)
            case "disk-full-journal":
                return await self._fill(stage.disks.get(f"journal{fault.which % 2}"), fault)
        raise AssertionError(f"{fault.kind} is no fault")

    def _worker(self, fault: Fault) -> Part:
        return self._stage.workers[fault.which % len(self._stage.workers)]

    # processes --------------------------------------------------------------

    async def _kill(self, parts: Sequence[Part], fault: Fault) -> bool:
        async with contextlib.AsyncExitStack() as held:
            for part in parts:
                await held.enter_async_context(part.busy)
            alive = [part for part in parts if part.runs]
            for part in alive:
                part.strike()
            for part in alive:
                await part.ended()
            await asyncio.sleep(fault.seconds)
            for part in parts:
                await part.begin()
        return bool(alive)

    async def _kill_redis(self, redis: Valkey, fault: Fault) -> bool:
        async with redis.busy:
            self._stage.redis_writes_seen()
            died = asyncio.get_running_loop().time()
            await redis.kill()
            seen = dict(self._stage.lengths)
            self._stage.lengths.clear()  # a file of the same name begins anew, or is cut now
            if fault.kind == "wipe":
                _empty(redis.data)
            elif fault.amount and redis.fsync == "everysec":
                self._lose_tail(redis, seen, died - fault.amount / 1000)
            await asyncio.sleep(fault.seconds)
            await redis.begin()
        return True

    def _lose_tail(
        self, redis: Valkey, lengths: dict[str, list[tuple[float, int]]], since: float
    ) -> None:
        """As if the power had gone: what was written after `since` had not reached the disk."""
        files = sorted((redis.data / "appendonlydir").glob("*.incr.aof"), key=_number)
        if files:
            seen = lengths.get(files[-1].name, [])
            before = [length for at, length in seen if at <= since] or [n for _, n in seen[:1]]
            if before and before[-1] < files[-1].stat().st_size:
                os.truncate(files[-1], before[-1])
                self.done["redis lost its last moments"] += 1

    def _kill_backend(self, fault: Fault) -> bool:
        """One of Postgres' own processes dies: the server ends all others and recovers."""
        found = self._stage.postgres.backends(" opscenter ")
        if not found or self._stage.postgres.busy.locked():
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(found[fault.which % len(found)], signal.SIGKILL)
        return True

    async def _stop(self, part: Part, fault: Fault) -> bool:
        """Stands still for its time. What outlives a kill meanwhile goes on, such as a worker whose
        supervisor died: it would keep the door's port for ever.
        """
        if part.stopped or not part.runs:
            return False
        part.stopped = True
        life, pids = part.life, part.pids()
        _signal(pids, signal.SIGSTOP)
        deadline = asyncio.get_running_loop().time() + fault.seconds
        while asyncio.get_running_loop().time() < deadline and part.life == life:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        _signal(pids, signal.SIGCONT)
        part.stopped = False
        return True

    # cables, commands, disks ------------------------------------------------

    async def _cable(self, fault: Fault) -> bool:
        name = CABLES[fault.which % len(CABLES)]
        self._stage.cables.change(name, fault.detail, fault.amount)
        if fault.detail != "reset":
            await asyncio.sleep(fault.seconds)
            self._stage.cables.change(name, "open")
        self.done[f"cable {fault.detail}"] += 1
        return True

    async def _command(self, fault: Fault) -> bool:
        store = Store(self._stage.redis.url)
        words = ("FLUSHALL",) if fault.kind == "flush" else ("SCRIPT", "FLUSH")
        try:
            await store.command(*words)
        except AWAY:
            return False
        finally:
            await store.close()
        return True

    async def _fill(self, disk: Path | None, fault: Fault) -> bool:
        """A file takes all that is left of a small disk, and goes away again."""
        if disk is None:
            return False
        ballast = disk / "ballast"
        with contextlib.suppress(OSError):
            await asyncio.to_thread(_write_until_full, ballast)
        await asyncio.sleep(fault.seconds)
        ballast.unlink(missing_ok=True)
        return True


async def topup_loop(topups: TopUps) -> None:
    """Top-ups as they are due; one that met a dead Postgres is tried again."""
    while not topups.over:
        with contextlib.suppress(*TROUBLE):
            await topups.turn()
        await asyncio.sleep(0.05)


def _write_until_full(file: Path) -> None:
    with file.open("wb", buffering=0) as opened:
        for step in (BALLAST_STEP, 4096, 1):
            with contextlib.suppress(OSError):
                while opened.write(b"\0" * step) == step:
                    pass


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _number(file: Path) -> int:
    return int(file.name.split(".")[-3])


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
