"""Heir: settles what dead workers left, a bounded part at a time.

Most of what stands in a dead worker's journal is in the ledger already, and the ledger has told the
dead one so: that is read first. What is left is settled again, which is harmless where it was.
"""

import contextlib
import logging
from collections.abc import Callable

import orjson

from proxy.machine.again import send_again
from proxy.machine.journal import Entry, Journal, Legacy, Used
from proxy.redis.pipe import RedisDown
from proxy.redis.shards import Shards

log = logging.getLogger("opscenter.proxy.heir")

ADOPTED_AT_ONCE = 5_000  # requests; with more under way, no further journal is taken over
PAGES_MAX = 25  # of what was told to one worker
FIRST_ID = b"0-0"


class Heir:
    """What this worker does for those that have died."""

    def __init__(self, shards: Shards, journal: Journal, send: Callable[[str], None]) -> None:
        """`send` settles a request of the journal."""
        self._shards = shards
        self._journal = journal
        self._send = send
        self._waiting: list[str] = []

    async def step(self) -> None:
        """Takes over what fits, and settles a few."""
        while self._journal.inherits < ADOPTED_AT_ONCE and (legacy := self._take()):
            await self._hear(legacy)
            rest = legacy.rids & self._journal.entries.keys()
            self._waiting.extend(rest)
            if rest:
                log.info("%d requests that an earlier worker left are settled here", len(rest))
        with contextlib.suppress(RedisDown):
            left = await send_again(self._shards, self._journal, self._send, self._waiting)
            self._waiting = left

    def _take(self) -> Legacy | None:
        """What a dead worker had used is settled; what it had begun is an orphan."""
        try:
            legacy = self._journal.adopt()
        except OSError as problem:
            log.error("a dead worker's journal cannot be taken over: %s", problem)
            return None
        for rid in legacy.rids if legacy else ():
            entry = self._journal.entries[rid]
            self._journal.used(rid, _readdressed(entry, self._journal.instance))
        return legacy

    async def _hear(self, legacy: Legacy) -> None:
        """What the ledger told the dead worker, and those that took over from it and died."""
        for instance in legacy.told:
            last = FIRST_ID
            for _ in range(PAGES_MAX):
                try:
                    told = await self._shards.persisted(instance, last)
                except RedisDown:
                    return
                if told.last == last:
                    break
                last = told.last
                self._journal.confirmed(told.truths, told.orphans)


def _readdressed(entry: Entry, instance: str) -> Used:
    """A dead worker's settlement, whose confirmation now comes to us."""
    admitted = entry.admitted
    used = entry.used or Used("orphan", entry.checkpoint, admitted.held, admitted.event)
    return used._replace(event=orjson.dumps({**orjson.loads(used.event), "i": instance}))
