"""Rows -> what the proxies read in Redis: records of keys and organisations, the snapshot.

A record is written by compare-and-set on its version, so an older one never overwrites a newer.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from uuid import UUID

import asyncpg
import orjson

from control import sql
from control.database import Connection, Pool
from control.store import AWAY, Call, Store, Word
from proxy.scripts import SHARD_KEYS, SNAPSHOT_KEY

log = logging.getLogger("opscenter.control.books.publish")

RECORDS_PER_TRIP = 500
POOL_WAIT_S, POOL_LOOK_S = 1.0, 0.005  # for the drain, which alone applies changes of pools


class Publisher:
    """Carries what was committed to Redis; what it cannot deliver now stays in the outbox."""

    def __init__(self, pool: Pool, redis: Store) -> None:
        self._pool = pool
        self._redis = redis

    async def key(self, kid: str) -> bool:
        """True when Redis has the key's newest record."""
        return await self._deliver("k", kid)

    async def organisation(self, organisation: str) -> bool:
        return await self._deliver("o", organisation)

    async def pool(self, organisation: str) -> bool:
        """True when Redis has every change of pools that was committed until now."""
        row = await self._pool.fetchrow(sql.load()["shard_of_organisation"], UUID(organisation))
        if row is None:
            return True
        deadline = time.monotonic() + POOL_WAIT_S
        while time.monotonic() < deadline:
            try:
                applied = await self._redis.command("HGET", SHARD_KEYS[row["id"]].meta, "adjseq")
            except AWAY:
                return False
            if applied is not None and int(applied) >= row["outseq"]:
                return True
            await asyncio.sleep(POOL_LOOK_S)
        return False

    async def pending(self, limit: int) -> int:
        """Delivers what waits in the outbox; how many were found."""
        rows = await self._pool.fetch(sql.load()["outbox_record_list"], limit)
        for row in rows:
            if not await self._deliver(row["kind"], row["id"]):
                break
        return len(rows)

    async def snapshot(self) -> bool:
        """What all callers share, as of one moment."""
        query = sql.load()
        async with self._pool.acquire() as conn, conn.transaction(isolation="repeatable_read"):
            version = await conn.fetchval(query["snapshot_version"])
            rows = await conn.fetch(query["snapshot_models"])
        models = orjson.dumps([dict(row) for row in rows])
        try:
            await self._redis.run("publish", [SNAPSHOT_KEY], version, "models", models)
        except AWAY as problem:
            log.warning("snapshot %s not published: %s", version, problem)
            return False
        return True

    async def snapshot_current(self) -> bool:
        """Whether Redis has the newest snapshot."""
        newest = await self._pool.fetchval(sql.load()["snapshot_version"])
        try:
            has = await self._redis.command("HGET", SNAPSHOT_KEY, "ver")
        except AWAY:
            return False
        return has is not None and int(has) >= newest

    async def shards(self, conn: Connection, shards: Sequence[int]) -> None:
        """All records of these shards, for a Redis that has lost them."""
        query = sql.load()
        organisations = await conn.fetch(query["record_organisations_of_shards"], shards)
        keys = await conn.fetch(query["record_keys_of_shards"], shards)
        calls = [_organisation_call(row) for row in organisations] + [
            _key_call(row) for row in keys
        ]
        for start in range(0, len(calls), RECORDS_PER_TRIP):
            await self._redis.run_all(calls[start : start + RECORDS_PER_TRIP])

    async def _deliver(self, kind: str, id: str) -> bool:
        query = sql.load()
        async with self._pool.acquire() as conn, conn.transaction():
            await conn.fetchval(query["outbox_record_take"], kind, id)
            call = await _record_call(conn, kind, id)
            if call is None:
                return True
            try:
                await self._redis.run(call[0], call[1], *call[2])
            except AWAY as problem:
                log.warning("record %s:%s not published: %s", kind, id, problem)
                await conn.execute(query["outbox_record_add"], kind, id)
                return False
        return True


async def _record_call(conn: Connection, kind: str, id: str) -> Call | None:
    query = sql.load()
    if kind == "k":
        row = await conn.fetchrow(query["record_key"], id)
        return _key_call(row) if row else None
    row = await conn.fetchrow(query["record_organisation"], UUID(id))
    return _organisation_call(row) if row else None


def _key_call(row: asyncpg.Record) -> Call:
    body: dict[str, object] = {
        "organisation": str(row["organisation"]),
        "person": str(row["person"]),
        "pepper": row["pepper"],
        "models": row["models"],
        "meters": _slots(row["parallel_max"]),
    }
    fields = ("st", row["status"], "digest", row["digest"], "exp", row["expires_ms"])
    return _call(SHARD_KEYS[row["shard"]].key(row["kid"]), row, body, fields)


def _organisation_call(row: asyncpg.Record) -> Call:
    body: dict[str, object] = {"meters": [["pool", "pool", 0], *_slots(row["parallel_max"])]}
    name = SHARD_KEYS[row["shard"]].organisation(str(row["id"]))
    return _call(name, row, body, ("st", row["status"]))


def _call(
    name: bytes, row: asyncpg.Record, body: dict[str, object], fields: Sequence[Word]
) -> Call:
    limit = row["parallel_max"]
    slots: tuple[Word, ...] = ("par.l", limit) if limit is not None else ()
    return "publish", [name], (row["version"], *fields, "body", orjson.dumps(body), *slots)


def _slots(limit: int | None) -> list[list[str | int]]:
    """The meter of parallel requests, where there is such a limit."""
    return [] if limit is None else [["par", "slot", limit]]
