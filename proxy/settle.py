"""Settle: usage times price, the rest of the hold given back. Never raises into an answer, never
makes a client wait, cannot be cancelled by one.
"""

import asyncio
import logging
import time
from typing import NamedTuple

import orjson

from proxy.errors import ClientGone
from proxy.metrics import Metrics
from proxy.pipe import RedisDown
from proxy.pricing import cost_ucr
from proxy.shards import SettleCall, Shards
from proxy.types import Call, Outcome, Ticket

log = logging.getLogger("opscenter.proxy.settle")

RETRY_FIRST_S, RETRY_MAX_S = 0.05, 2.0
PENDING_MAX = 100_000  # settlements that may wait for Redis; beyond, holds end by their lease


class Running(NamedTuple):
    ticket: Ticket
    outcome: Outcome
    task: "asyncio.Task[object]"


class Settler:
    """Sends settlements, again where nobody answered, until each is known to have happened."""

    def __init__(self, shards: Shards, metrics: Metrics, lease_ms: int) -> None:
        self._shards = shards
        self._metrics = metrics
        self._patience_s = lease_ms / 1000
        self._pending: set[asyncio.Task[None]] = set()
        self._running: dict[str, Running] = {}

    @property
    def running(self) -> int:
        """Requests that hold something just now."""
        return len(self._running)

    def begin(self, ticket: Ticket, outcome: Outcome, task: "asyncio.Task[object]") -> None:
        """From now on `renew` keeps the hold of this request alive."""
        self._running[ticket.rid] = Running(ticket, outcome, task)

    def finish(
        self, ticket: Ticket, outcome: Outcome, started_ns: int, end_user: str | None
    ) -> int:
        """Hands the request to the ledger; returns what it cost."""
        self._running.pop(ticket.rid, None)
        cost = cost_ucr(outcome.usage.tokens, ticket.price) if outcome.kind == "settled" else 0
        call = self._shards.settle(
            ticket.shard,
            ticket.rid,
            ticket.owners,
            outcome.kind.encode(),
            cost,
            ticket.pool,
            ticket.held_ucr,
            _event(ticket, outcome, started_ns, end_user),
        )
        self._count(outcome, cost)
        if len(self._pending) >= PENDING_MAX:
            self._give_up(ticket.rid, "too many settlements wait")
            return cost
        task = asyncio.create_task(self._drive(call, ticket.rid))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)
        return cost

    def release(self, ticket: Ticket, call: Call) -> None:
        """Gives back a hold that was taken for a client who had left."""
        outcome = Outcome(reason=ClientGone.code)
        self.finish(ticket, outcome, time.perf_counter_ns(), call.end_user)

    async def drain(self, seconds: float) -> None:
        """Lets what is on its way arrive."""
        if self._pending:
            await asyncio.wait(list(self._pending), timeout=seconds)

    async def keep_holds(self, period_s: float) -> None:
        """Renews what runs longer than the period, one call per shard."""
        while True:
            await asyncio.sleep(period_s)
            by_shard: dict[int, list[Ticket]] = {}
            for running in self._running.values():
                by_shard.setdefault(running.ticket.shard, []).append(running.ticket)
            for shard, tickets in by_shard.items():
                await self._renew(shard, tickets)

    async def _renew(self, shard: int, tickets: list[Ticket]) -> None:
        rows = [(ticket.rid, ticket.owners[0], ticket.owners[1], 0) for ticket in tickets]
        try:
            answers = await self._shards.renew(shard, rows)
        except RedisDown:
            self._metrics.add(self._metrics.redis_failures)
            return
        for ticket, answer in zip(tickets, answers, strict=True):
            running = self._running.get(ticket.rid)
            if answer == "REVOKED" and running is not None:
                running.outcome.revoked = True
                running.task.cancel()

    async def _drive(self, call: SettleCall, rid: str) -> None:
        pause, started = RETRY_FIRST_S, time.monotonic()
        while True:
            try:
                result = await call.send()
            except RedisDown as problem:
                self._metrics.add(self._metrics.redis_failures)
                if time.monotonic() - started > self._patience_s:
                    return self._give_up(rid, str(problem))
                await asyncio.sleep(pause)
                pause = min(pause * 2, RETRY_MAX_S)
                continue
            self._metrics.add(self._metrics.settled + ("ok", "late", "again").index(result))
            return

    def _give_up(self, rid: str, why: str) -> None:
        self._metrics.add(self._metrics.settled + 3)
        log.error("request %s could not be settled: %s; its hold ends by its lease", rid, why)

    def _count(self, outcome: Outcome, cost: int) -> None:
        metrics, tokens = self._metrics, outcome.usage.tokens
        metrics.add(metrics.charged, cost)
        for name, count in tokens.items():
            output = name in ("output", "reasoning", "audio_out", "image_out")
            metrics.add(metrics.tokens + output, count)


def _event(ticket: Ticket, outcome: Outcome, started_ns: int, end_user: str | None) -> bytes:
    """All that the ledger books of a request."""
    key, deployment = ticket.caller.key, outcome.deployment
    return orjson.dumps(
        {
            "o": key.organisation,
            "k": key.kid,
            "u": key.person,
            "m": ticket.model.id,
            "v": ticket.price.version,
            "e": end_user,
            "p": deployment.provider if deployment else "",
            "d": deployment.id if deployment else 0,
            "n": outcome.attempts,
            "t": dict(outcome.usage.tokens),
            "s": outcome.usage.source,
            "r": outcome.reason,
            "ms": (time.perf_counter_ns() - started_ns) // 1_000_000,
        }
    )
