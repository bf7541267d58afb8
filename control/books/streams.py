"""Usage streams -> ledger: reads from the cursor on, books, acknowledges. The cursors'
compare-and-set lets several drains run.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from uuid import UUID

import asyncpg

from control import sql
from control.books.booking import Books, Overtaken
from control.books.entries import Cursor, Entry, Poison, parse
from control.database import Pool
from control.store import Call, Command, Store, Word
from proxy.redis.scripts import DONE_PREFIX, SHARD_KEYS

log = logging.getLogger("opscenter.control.books.streams")

TOLD_KEPT, TOLD_LIFE_S = 1_000, 3_600  # of what a worker is told: batches, and for how long
_instance = re.compile(rb'"i":"([0-9a-f]{16})"').search
ENTRIES_PER_BATCH = 4_000  # of all shards together: one transaction
BAD_DATA = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)

Raw = tuple[int, Cursor, Mapping[bytes, bytes]]  # shard, id, fields


class Streams:
    """Knows where the ledger stands in each shard's stream."""

    def __init__(
        self, pool: Pool, redis: Store, generations: Mapping[int, int], mine: set[int]
    ) -> None:
        self.pool = pool
        self.redis = redis
        self.cursors: dict[int, Cursor] = {}
        self._books = Books()
        self._generations = generations
        self._mine = mine

    async def prepare(self) -> None:
        """Learns the cursors, and acknowledges what was booked and not acknowledged. Of what stands
        before a cursor only that is told which the ledger has: a promoted server whose clock is
        behind may have written there what was never read. Its workers settle that again.
        """
        for row in await self.pool.fetch(sql.load()["shard_list"]):
            self.cursors[row["id"]] = (row["cursor_ms"], row["cursor_seq"])
        found = await self.redis.commands(
            [("XRANGE", SHARD_KEYS[s].usage, "-", _text(c)) for s, c in self.cursors.items()]
        )
        for (shard, cursor), rows in zip(self.cursors.items(), found, strict=True):
            if old := _entries(rows):
                await self._ack({shard: cursor}, {shard: [f.get(b"r", b"") for _, f in old]})
                await self._tell(await self._known([(shard, *entry) for entry in old]))

    async def _known(self, raw: Sequence[Raw]) -> list[Raw]:
        """Those that the ledger has booked or put aside."""
        asked = [(s, _text(sid), _rid(f), f.get(b"k") == b"orphan") for s, sid, f in raw]
        rows = await self.pool.fetch(sql.load()["usage_known"], *zip(*asked, strict=True))
        return [raw[row["nth"] - 1] for row in rows]

    async def drain_once(self) -> int:
        """Books what the streams hold now, at most one batch; how many entries."""
        shards = sorted(self._mine)
        waiting = await self.redis.commands([("XLEN", SHARD_KEYS[s].usage) for s in shards])
        shares = portions(dict(zip(shards, waiting, strict=True)), ENTRIES_PER_BATCH)
        found = await self.redis.commands([self._read(*share) for share in shares.items()])
        pairs = zip(shares, found, strict=True)
        raw = [(shard, *entry) for shard, rows in pairs for entry in _entries(rows)]
        if not raw:
            return 0
        ends = await self._book(raw)
        rids: dict[int, list[bytes]] = {}
        for shard, _, fields in raw:
            rids.setdefault(shard, []).append(fields.get(b"r", b""))
        self.cursors.update(ends)
        await self._ack(ends, rids)
        await self._tell(raw)
        return len(raw)

    def _read(self, shard: int, count: int) -> Command:
        after = "(" + _text(self.cursors[shard])
        return ("XRANGE", SHARD_KEYS[shard].usage, after, "+", "COUNT", count)

    async def take(self, shards: Sequence[int]) -> None:
        """Shards that another drain has worked on until now."""
        for row in await self.pool.fetch(sql.load()["shard_cursors"], list(shards)):
            self.cursors[row["id"]] = (row["cursor_ms"], row["cursor_seq"])
        self._mine.update(shards)

    async def _tell(self, raw: Sequence[Raw]) -> None:
        """Each proxy worker may forget what the ledger has; one that hears nothing settles again,
        which is harmless.
        """
        by_instance: dict[bytes, tuple[list[bytes], list[bytes]]] = {}
        for _, _, fields in raw:
            if found := _instance(fields.get(b"e", b"")):
                truths, orphans = by_instance.setdefault(found[1], ([], []))
                told_as = orphans if fields.get(b"k") == b"orphan" else truths
                told_as.append(fields.get(b"r", b""))
        commands: list[Command] = []
        for instance, (truths, orphans) in by_instance.items():
            name, both = DONE_PREFIX + instance, ("r", b",".join(truths), "o", b",".join(orphans))
            told = ("XADD", name, "MAXLEN", "~", TOLD_KEPT, "*", *both)
            commands += [told, ("EXPIRE", name, TOLD_LIFE_S)]
        await self.redis.commands(commands)

    async def _book(self, raw: Sequence[Raw]) -> dict[int, Cursor]:
        entries: list[Entry] = []
        poison = []
        for shard, sid, fields in raw:
            try:
                entries.append(parse(shard, sid, fields))
            except Poison as problem:
                poison.append((shard, sid, _readable(fields), str(problem)))
        async with self.pool.acquire() as conn:
            try:
                return await self._books.book(
                    conn, entries, self.cursors, self._generations, poison
                )
            except BAD_DATA as problem:
                log.error("a batch was refused by the ledger (%s); booking one by one", problem)
        return await self._book_singly(raw)

    async def _book_singly(self, raw: Sequence[Raw]) -> dict[int, Cursor]:
        """Finds the entry that the ledger refuses, puts it aside and books the others."""
        cursors = dict(self.cursors)
        for shard, sid, fields in raw:
            async with self.pool.acquire() as conn:
                try:
                    ends = await self._books.book(
                        conn, [parse(shard, sid, fields)], cursors, self._generations
                    )
                except (Poison, *BAD_DATA) as problem:
                    aside = [(shard, sid, _readable(fields), str(problem))]
                    ends = await self._books.book(conn, [], cursors, self._generations, aside)
            cursors.update(ends)
        return {shard: cursors[shard] for shard, _, _ in raw}

    async def _ack(self, ends: Mapping[int, Cursor], rids: Mapping[int, list[bytes]]) -> None:
        calls: list[Call] = []
        for shard, (ms, seq) in ends.items():
            at = SHARD_KEYS[shard]
            args: list[Word] = [self._generations[shard], _text((ms, seq)), _text((ms, seq + 1))]
            calls.append(("ack", [at.meta, at.usage, at.tomb], [*args, *rids[shard]]))
        for reply in await self.redis.run_all(calls):
            if reply[0] != b"OK":
                raise Overtaken("a shard has another generation")


def portions(waiting: Mapping[int, int], most: int) -> dict[int, int]:
    """How many entries of each shard make a batch: equal parts, and what short streams leave over
    goes to the longer ones, so that one busy shard fills the batch and never keeps out the others.
    """
    shares, left = dict[int, int](), most
    shards = sorted((shard for shard in waiting if waiting[shard]), key=waiting.__getitem__)
    for nth, shard in enumerate(shards):
        shares[shard] = min(waiting[shard], max(left // (len(shards) - nth), 1))
        left -= shares[shard]
    return shares


def _rid(fields: Mapping[bytes, bytes]) -> UUID | None:
    try:
        return UUID(fields.get(b"r", b"").decode())
    except ValueError:
        return None


def _entries(rows: list[tuple[bytes, list[bytes]]]) -> list[tuple[Cursor, dict[bytes, bytes]]]:
    """Entries of a stream as the server sends them: an id, then fields and values in turn."""
    return [(_sid(sid), dict(zip(f[::2], f[1::2], strict=True))) for sid, f in rows]


def _text(sid: Cursor) -> str:
    return f"{sid[0]}-{sid[1]}"


def _sid(text: bytes) -> Cursor:
    ms, _, seq = text.partition(b"-")
    return int(ms), int(seq)


def _readable(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    return {k.decode("utf-8", "replace"): v.decode("utf-8", "replace") for k, v in fields.items()}
