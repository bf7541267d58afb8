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
from control.database import Connection, Pool
from control.store import AWAY, Call, Command, Store, Word
from proxy.scripts import REVOKED_KEY, SHARD_KEYS, SNAPSHOT_KEY

log = logging.getLogger("opscenter.control.books.publish")

RECORDS_PER_TRIP = 500
RECORD_KEPT_MS = 3_600_000  # a sign-in's, beyond its end
REVOKED_KEPT = 10_000  # names that proxies may not have heard yet
POOL_WAIT_S, POOL_LOOK_S = 1.0, 0.005  # for the drain, which alone applies changes of pools


class Publisher:
    """Carries what was committed to Redis; what it cannot deliver now stays in the outbox."""

    def __init__(self, pool: Pool, redis: Store) -> None:
        self._pool = pool
        self._redis = redis

    async def key(self, kid: str) -> bool:
        """True when Redis has the key's newest record."""
        return await self._deliver("k", kid)

    async def sign_in(self, id: str) -> bool:
        return await self._deliver("s", id)

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

    async def shards(self, conn: Connection, shards: Sequence[int]) -> None:
        """All records of these shards, for a Redis that has lost them."""
        query = sql.load()
        organisations = await conn.fetch(query["record_organisations_of_shards"], shards)
        keys = await conn.fetch(query["record_keys_of_shards"], shards)
        calls = [_organisation_call(row) for row in organisations]
        sign_ins = await conn.fetch(query["record_sign_ins_of_shards"], shards)
        calls += [call for row in (*keys, *sign_ins) for call in _key_calls(row)]
        for start in range(0, len(calls), RECORDS_PER_TRIP):
            await self._redis.run_all(calls[start : start + RECORDS_PER_TRIP])
        for start in range(0, len(sign_ins), RECORDS_PER_TRIP):
            some = sign_ins[start : start + RECORDS_PER_TRIP]
            await self._redis.commands([_end_of(row) for row in some])

    async def _deliver(self, kind: str, id: str) -> bool:
        query = sql.load()
        async with self._pool.acquire() as conn, conn.transaction():
            await conn.fetchval(query["outbox_record_take"], kind, id)
            try:
                row = await _record_row(conn, kind, id)
                for call in _record_calls(kind, row):
                    await self._redis.run(call[0], call[1], *call[2])
                    if _revokes(call):
                        await self._tell_revoked(call[1][0])
                if kind == "s" and row is not None:
                    await self._redis.command(*_end_of(row))
            except AWAY as problem:
                log.warning("record %s:%s not published: %s", kind, id, problem)
                await conn.execute(query["outbox_record_add"], kind, id)
                return False
        return True

    async def _tell_revoked(self, record: bytes) -> None:
        """Proxies end what runs by it at once rather than with its next renewal."""
        kept = ("MAXLEN", "~", REVOKED_KEPT)
        await self._redis.command("XADD", REVOKED_KEY, *kept, "*", "n", record)


def _revokes(call: Call) -> bool:
    """Whether it publishes a key or an organisation that admits nothing any more."""
    _, what, status, *_ = call[2]
    return what == "st" and status != "active"


async def _record_row(conn: Connection, kind: str, id: str) -> asyncpg.Record | None:
    query = sql.load()
    if kind == "o":
        return await conn.fetchrow(query["record_organisation"], UUID(id))
    return await conn.fetchrow(query["record_key" if kind == "k" else "record_sign_in"], id)


def _record_calls(kind: str, row: asyncpg.Record | None) -> list[Call]:
    if row is None:
        return []
    return [_organisation_call(row)] if kind == "o" else _key_calls(row)


def _end_of(sign_in: asyncpg.Record) -> Command:
    """A sign-in's record goes by itself; it counts nothing of its own."""
    name = SHARD_KEYS[sign_in["shard"]].key(sign_in["kid"])
    return "PEXPIREAT", name, sign_in["expires_ms"] + RECORD_KEPT_MS


def _key_calls(row: asyncpg.Record) -> list[Call]:
    """The key's record, and before it the limits of its person, which the record names."""
    at, calls = SHARD_KEYS[row["shard"]], list[Call]()
    owner, person = f"k:{row['kid']}", f"w:u:{row['person']}"
    meters = _slots(owner, row["parallel_max"]) + _budget(owner, "key", row["budget_ucr"])
    meters += _budget(person, "person", row["person_budget_ucr"])
    if row["person_budget_ucr"] is not None:
        limits = ("bud.l", row["person_budget_ucr"])
        name = at.prefix + person.encode()
        calls.append(("publish", [name], (row["person_version"], *limits)))
    body = {
        "organisation": str(row["organisation"]),
        "person": str(row["person"]),
        "pepper": row["pepper"],
        "models": row["models"],
        "meters": meters,
        **{name: row[name] for name in ("routes", "addresses") if row[name] is not None},
        **_old_secret(row),
    }
    fields = ("st", row["status"], "digest", row["digest"], "exp", row["expires_ms"])
    record = (row["version"], *fields, "body", orjson.dumps(body), *_limits(row))
    return [*calls, ("publish", [at.key(row["kid"])], record)]


def _old_secret(row: asyncpg.Record) -> dict[str, dict[str, str | int]]:
    if row["old_digest"] is None:
        return {}
    of = {"digest": row["old_digest"], "pepper": row["old_pepper"], "until_ms": row["old_until_ms"]}
    return {"old": of}


def _organisation_call(row: asyncpg.Record) -> Call:
    owner = f"o:{row['id']}"
    meters = [[owner, "pool", "pool", "organisation", 0], *_slots(owner, row["parallel_max"])]
    body = {"meters": meters + _budget(owner, "organisation", row["budget_ucr"])}
    record = (row["version"], "st", row["status"], "body", orjson.dumps(body), *_limits(row))
    return "publish", [SHARD_KEYS[row["shard"]].organisation(str(row["id"]))], record


def _limits(row: asyncpg.Record) -> tuple[Word, ...]:
    """They lie beside the counts, so that a changed limit holds for the next request."""
    limits: tuple[Word, ...] = ()
    if row["parallel_max"] is not None:
        limits += ("par.l", row["parallel_max"])
    if row["budget_ucr"] is not None:
        limits += ("bud.l", row["budget_ucr"])
    return limits


# A meter in a record: owner in the shard, name, unit, whom it limits, limit.


def _slots(owner: str, limit: int | None) -> list[list[str | int]]:
    label = "key" if owner.startswith("k:") else "organisation"
    return [] if limit is None else [[owner, "par", "slot", label, limit]]


def _budget(owner: str, label: str, limit: int | None) -> list[list[str | int]]:
    return [] if limit is None else [[owner, "bud", "ucr", label, limit]]
