"""Which shards this drain works on, where several run: each takes its part, and the part of one
that dies falls to the others. Only spares them each other's work: the cursors decide what counts.
"""

import logging

from control import sql
from control.database import Connection
from proxy.who.keys import SHARDS

log = logging.getLogger("opscenter.control.books.share")


class Share:
    """Advisory locks on a connection of its own: they end with it."""

    def __init__(self, conn: Connection, mine: set[int]) -> None:
        self._conn = conn
        self.mine = mine
        mine.clear()

    async def enter(self) -> None:
        await self._conn.execute(sql.load()["drain_enter"])

    async def level(self) -> list[int]:
        """Takes what is missing from an equal part, gives back what is beyond; what came new."""
        query = sql.load()
        drains = await self._conn.fetchval(query["drain_count"])
        part = -(-SHARDS // max(drains, 1))
        if len(self.mine) > part:
            beyond = sorted(self.mine)[part:]
            self.mine.difference_update(beyond)
            await self._conn.execute(query["drain_release"], beyond)
        if len(self.mine) == part:
            return []
        others = [shard for shard in range(SHARDS) if shard not in self.mine]
        rows = await self._conn.fetch(query["drain_claim"], others, part - len(self.mine))
        return [row["shard"] for row in rows]
