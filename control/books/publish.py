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

from control import sql, token_keys
from control.books.records import end_of, job_call, key_calls, organisation_call, revokes
from control.database import Connection, Pool
from control.store import AWAY, Call, Store
from proxy.redis.scripts import REVOKED_KEY, SHARD_KEYS, SNAPSHOT_KEY

log = logging.getLogger("opscenter.control.books.publish")

RECORDS_PER_TRIP = 500
KINDS = {"key": "k", "sign_in": "s", "organisation": "o", "job": "j"}
SINGLE = {"o": organisation_call, "j": job_call}  # one record each
REVOKED_KEPT = 10_000  # names that proxies may not have heard yet
POOL_WAIT_S, POOL_LOOK_S = 1.0, 0.005  # for the drain, which alone applies changes of pools


class Publisher:
    """Carries what was committed to Redis; what it cannot deliver now stays in the outbox."""

    def __init__(self, pool: Pool, redis: Store) -> None:
        self._pool = pool
        self._redis = redis

    async def key(self, kid: str) -> bool:
        """True when Redis has the key's newest record."""
        return await self.records("key", [kid])

    async def sign_in(self, id: str) -> bool:
        return await self.records("sign_in", [id])

    async def organisation(self, organisation: str) -> bool:
        return await self.records("organisation", [organisation])

    async def records(self, kind: str, ids: Sequence[str]) -> bool:
        """True when Redis has the newest of all of them."""
        parts = range(0, len(ids), RECORDS_PER_TRIP)
        some = [ids[start : start + RECORDS_PER_TRIP] for start in parts]
        return all([await self._deliver(KINDS[kind], part) for part in some])

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
            if not await self._deliver(row["kind"], [row["id"]]):
                break
        return len(rows)

    async def snapshot(self) -> bool:
        """What all callers share, as of one moment."""
        query = sql.load()
        async with self._pool.acquire() as conn, conn.transaction(isolation="repeatable_read"):
            version = await conn.fetchval(query["snapshot_version"])
            rows = await conn.fetch(query["snapshot_models"])
            issuers = [token_keys.published(await conn.fetch(query["token_key_list"]))]
        models = orjson.dumps([dict(row) for row in rows])
        sections = ("models", models, "issuers", orjson.dumps(issuers))
        try:
            await self._redis.run("publish", [SNAPSHOT_KEY], version, *sections)
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

    async def foreign(self, issuers: bytes, is_news: bool) -> bool:
        """Who else signs tokens, beside the snapshot; True when Redis has it. What is no news only
        fills what is missing, so that of several control planes the one that looked last decides.
        """
        try:
            has = await self._redis.command("HGET", SNAPSHOT_KEY, "foreign")
            if has is None or (is_news and has != issuers):
                await self._redis.command("HSET", SNAPSHOT_KEY, "foreign", issuers)
        except AWAY:
            return False
        return True

    async def shards(self, conn: Connection, shards: Sequence[int]) -> None:
        """All records of these shards, for a Redis that has lost them."""
        query = sql.load()
        organisations = await conn.fetch(query["record_organisations_of_shards"], shards)
        keys = await conn.fetch(query["record_keys_of_shards"], shards)
        calls = [organisation_call(row) for row in organisations]
        sign_ins = await conn.fetch(query["record_sign_ins_of_shards"], shards)
        calls += [call for row in (*keys, *sign_ins) for call in key_calls(row)]
        jobs = await conn.fetch(query["record_jobs_of_shards"], shards)
        calls += [job_call(row) for row in jobs]
        for start in range(0, len(calls), RECORDS_PER_TRIP):
            await self._redis.run_all(calls[start : start + RECORDS_PER_TRIP])
        for start in range(0, len(sign_ins), RECORDS_PER_TRIP):
            some = sign_ins[start : start + RECORDS_PER_TRIP]
            await self._redis.commands([end_of(row) for row in some])

    async def _deliver(self, kind: str, ids: Sequence[str]) -> bool:
        query = sql.load()
        async with self._pool.acquire() as conn, conn.transaction():
            await conn.execute(query["outbox_record_take"], kind, ids)
            rows = await _record_rows(conn, kind, ids)
            try:
                calls = [call for row in rows for call in _record_calls(kind, row)]
                await self._redis.run_all(calls)
                for call in filter(revokes, calls):
                    await self._tell_revoked(call[1][0])
                if kind == "s":
                    await self._redis.commands([end_of(row) for row in rows])
            except AWAY as problem:
                log.warning("records %s:%s not published: %s", kind, ",".join(ids[:3]), problem)
                await conn.execute(query["outbox_record_add"], kind, ids)
                return False
        return True

    async def _tell_revoked(self, record: bytes) -> None:
        """Proxies end what runs by it at once rather than with its next renewal."""
        kept = ("MAXLEN", "~", REVOKED_KEPT)
        await self._redis.command("XADD", REVOKED_KEY, *kept, "*", "n", record)


async def _record_rows(conn: Connection, kind: str, ids: Sequence[str]) -> list[asyncpg.Record]:
    query = sql.load()
    if kind == "o":
        return await conn.fetch(query["record_organisations"], list(map(UUID, ids)))
    if kind == "j":
        return await conn.fetch(query["record_jobs"], ids)
    return await conn.fetch(query["record_keys" if kind == "k" else "record_sign_ins"], ids)


def _record_calls(kind: str, row: asyncpg.Record) -> list[Call]:
    if kind in SINGLE:
        return [SINGLE[kind](row)]
    return key_calls(row)
