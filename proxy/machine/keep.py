"""Keep: holds of running requests live on; requests of revoked keys and organisations end.

Their names are told in one short stream, so that they end at once. It is only a hint: each renewal
looks at the records themselves, so what the stream loses ends with the next one.
"""

import asyncio
import logging
from typing import NamedTuple

from proxy.costs import estimates
from proxy.costs.charge import charged_ucr
from proxy.machine.journal import Journal, JournalError
from proxy.metrics import Metrics
from proxy.redis.pipe import RedisDown
from proxy.redis.replies import Renewal
from proxy.redis.shards import Shards
from proxy.types import Call, Outcome, Ticket

log = logging.getLogger("opscenter.proxy.keep")

REVOKED_POLL_S = 0.25
FROM_THE_BEGINNING = b"0-0"


class Running(NamedTuple):
    ticket: Ticket
    call: Call
    outcome: Outcome
    task: "asyncio.Task[object]"


class Keeper:
    """The requests of this worker that hold something just now, by their ids."""

    def __init__(self, shards: Shards, metrics: Metrics, journal: Journal) -> None:
        self.running: dict[str, Running] = {}
        self._shards = shards
        self._metrics = metrics
        self._journal = journal

    async def keep(self, period_s: float) -> None:
        """Renews what runs longer than the period."""
        while True:
            await asyncio.sleep(period_s)
            await self._look(list(self.running.values()))

    async def hear(self) -> None:
        """Looks at once at requests whose key or organisation has been revoked."""
        last = FROM_THE_BEGINNING
        while True:
            try:
                last, names = await self._shards.revoked(last)
            except RedisDown:
                names = set()
            if names:
                every = self.running.values()
                await self._look(
                    [one for one in every if names & set(one.ticket.standing.owners[:2])]
                )
            await asyncio.sleep(REVOKED_POLL_S)

    def cut(self, rid: str) -> None:
        running = self.running.get(rid)
        if running is not None:
            running.outcome.revoked = True
            running.task.cancel()

    async def _look(self, requests: list[Running]) -> None:
        """One call per shard."""
        by_shard: dict[int, list[Running]] = {}
        for running in requests:
            by_shard.setdefault(running.ticket.shard, []).append(running)
        for shard, together in by_shard.items():
            await self._renew(shard, together)

    async def _renew(self, shard: int, together: list[Running]) -> None:
        rows = []
        for running in together:
            cost = so_far(running.ticket, running.call, running.outcome)
            rows.append(Renewal(running.ticket.rid, running.ticket.standing.owners, cost, 0))
            try:
                self._journal.checkpoint(running.ticket.rid, cost)
            except JournalError as problem:
                log.error("%s", problem)
        try:
            answers = await self._shards.renew(shard, rows)
        except RedisDown:
            self._metrics.add(self._metrics.redis_failures)
            return
        for running, answer in zip(together, answers, strict=True):
            if answer == "REVOKED":
                self.cut(running.ticket.rid)


def so_far(ticket: Ticket, call: Call, outcome: Outcome) -> int:
    """What a stream has cost until now, by what was delivered."""
    if outcome.delivered is None:
        return 0
    tokens = estimates.so_far(call, outcome.delivered).tokens
    return charged_ucr(tokens, ticket, outcome)
