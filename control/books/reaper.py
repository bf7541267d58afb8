"""Ends the holds of requests whose proxy has died. Needs Redis alone."""

import asyncio
import logging

from control.store import Store
from proxy.redis.scripts import SHARD_KEYS, ShardKeys

log = logging.getLogger("opscenter.control.books.reaper")

REAPED_PER_SHARD = 200  # in one round


class Reaper:
    def __init__(self, redis: Store, lease_ms: int, mine: set[int]) -> None:
        self.redis = redis
        self._mine = mine
        self._lease_s = lease_ms / 1000
        self._from = 0.0

    def prepare(self, uptime_s: int, after_trouble: bool) -> None:
        """After an outage all leases look over: proxies first have the time to renew them."""
        wait_s = self._lease_s if after_trouble or uptime_s < self._lease_s else 0
        self._from = asyncio.get_running_loop().time() + wait_s

    async def reap_once(self) -> int:
        """Ends holds whose lease is over; how many."""
        if asyncio.get_running_loop().time() < self._from:
            return 0
        mine = [SHARD_KEYS[shard] for shard in sorted(self._mine)]
        clocks = zip(mine, await self.redis.times_ms([k.lease for k in mine]), strict=True)
        limit = ("LIMIT", 0, REAPED_PER_SHARD)
        expired = await self.redis.commands(
            [("ZRANGEBYSCORE", at.lease, "-inf", now_ms, *limit) for at, now_ms in clocks]
        )
        ended = 0
        for at, rids in zip(mine, expired, strict=True):
            if rids:
                ended += await self._reap(at, rids)
        return ended

    async def _reap(self, at: ShardKeys, rids: list[bytes]) -> int:
        holds = await self.redis.command("HMGET", at.hold, *rids)
        owners = sorted({owner for hold in holds if hold for owner in _owners(hold)})
        keys = [at.meta, at.hold, at.lease, at.tomb, at.usage, *owners]
        reply = await self.redis.run("reap", keys, *rids)
        if reply[0] != b"OK":
            return 0
        if reply[1]:
            log.warning("%d requests lost their proxy; their holds are given back", reply[1])
        return int(reply[1])


def _owners(hold: bytes) -> list[bytes]:
    """The owners that a hold names, as the scripts write them."""
    items = hold.split(b"|", 2)[1]
    return [item.split(b" ")[0] for item in items.split(b",") if item]
