"""One method per script of the request path, keys by shard. Knows Redis' side of the protocol:
what goes in, what an answer means. Decides nothing.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import hiredis

from proxy.cluster import Redis
from proxy.pipe import RedisDown, Reply
from proxy.scripts import DONE_PREFIX, REVOKED_KEY, SCRIPTS, SHARD_KEYS, SNAPSHOT_KEY
from proxy.types import Level, Meter

KEY_FIELDS = (b"ver", b"st", b"body", b"digest", b"exp")
ADMIT, SETTLE, RENEW = SCRIPTS["admit"], SCRIPTS["settle"], SCRIPTS["renew"]
LIMITS = SCRIPTS["limits"]


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record as it lies in Redis; None where there is none."""

    version: int
    status: str
    body: bytes
    digest: bytes = b""
    expires_ms: int = 0  # 0: never


class Admitted(NamedTuple):
    left: tuple[int, ...]  # of each meter, after the hold


class Stale(NamedTuple):
    key: RawRecord | None
    organisation: RawRecord | None


class Limited(NamedTuple):
    nth: int  # which meter refused, from 0
    level: Level


class OtherCeiling(NamedTuple):
    ceiling: int  # that the job has


class Refused(NamedTuple):
    why: str  # KEY, ORG, NOTREADY


class Renewal(NamedTuple):
    rid: str
    owners: Sequence[bytes]  # of the hold; its key's record and its organisation's come first
    checkpoint: int  # what it has cost so far
    extra: int  # to be held beyond what is


class Persisted(NamedTuple):
    last: bytes  # where to go on
    truths: list[str]
    orphans: list[str]  # reaped: whoever knows the truth has still to tell it


Admission = Admitted | Stale | Limited | OtherCeiling | Refused
ADMIT_OWNERS_FROM, RENEW_OWNERS_FROM, LIMITS_OWNERS_FROM = 5, 4, 2  # places among KEYS


class Shards:
    """Scripts on the shards of one Redis."""

    def __init__(self, pipe: Redis, lease_ms: int, backlog_max: int) -> None:
        self.pipe = pipe
        self.lease_ms = lease_ms
        self.backlog_max = backlog_max

    async def admit(
        self,
        shard: int,
        rid: str,
        owners: Sequence[bytes],
        versions: tuple[int, int],
        meters: Sequence[Meter],
        amounts: Sequence[int],
        context: bytes,
        ceiling: int | None,
        abandoned: Callable[[Admitted], None],
    ) -> Admission:
        """`owners` starts with the key's record and the organisation's, and ends with the job's
        where there is a `ceiling`; `abandoned` hears of a hold whose caller was cancelled before
        he was told.
        """
        at = SHARD_KEYS[shard]
        limit = b"" if ceiling is None else b"%d" % ceiling
        args: list[bytes | int] = [rid.encode(), self.lease_ms, *versions, context]
        args += (self.backlog_max, limit)
        for meter, amount in zip(meters, amounts, strict=True):
            place = owners.index(meter.owner) + ADMIT_OWNERS_FROM
            args += (place, meter.name, meter.unit.encode(), amount)
        keys = (at.meta, at.hold, at.lease, at.usage, *owners)

        def left(reply: Reply) -> None:
            if reply[0] == b"OK":
                abandoned(Admitted(tuple(map(int, reply[1:]))))

        return _admit_answer(await self.pipe.run(ADMIT, keys, args, left))

    async def levels(
        self,
        shard: int,
        owners: Sequence[bytes],
        versions: tuple[int, int],
        meters: Sequence[Meter],
    ) -> tuple[Level, ...] | Stale | Refused:
        """How full each is; `owners` as of `admit`."""
        at = SHARD_KEYS[shard]
        args: list[bytes | int] = [*versions]
        for meter in meters:
            place = owners.index(meter.owner) + LIMITS_OWNERS_FROM
            args += (place, meter.name, meter.unit.encode())
        reply = await self.pipe.run(LIMITS, (at.meta, *owners), args)
        if reply[0] == b"OK":
            return tuple(_level(*reply[nth : nth + 4]) for nth in range(1, len(reply), 4))
        answer = _admit_answer(reply)
        assert isinstance(answer, Stale | Refused)
        return answer

    def settle(
        self,
        shard: int,
        rid: str,
        owners: Sequence[bytes],
        kind: bytes,
        cost: int,
        pool: bytes,
        budgets: bytes,
        held: int,
        event: bytes,
    ) -> "SettleCall":
        at = SHARD_KEYS[shard]
        keys = (at.meta, at.hold, at.lease, at.tomb, at.usage, *owners)
        words = (rid.encode(), kind, cost, pool, budgets, held, event)
        return SettleCall(self.pipe, keys, words)

    async def renew(self, shard: int, rows: Sequence[Renewal]) -> tuple[str, ...]:
        """Per row: OK, GONE, REVOKED or FUNDS."""
        at = SHARD_KEYS[shard]
        owners = list(dict.fromkeys(owner for row in rows for owner in row.owners))
        args: list[bytes | int] = [self.lease_ms]
        for row in rows:
            places = [owners.index(record) + RENEW_OWNERS_FROM for record in row.owners[:2]]
            args += (row.rid.encode(), *places, row.checkpoint, row.extra)
        reply = await self.pipe.run(RENEW, (at.meta, at.hold, at.lease, *owners), args)
        if reply[0] != b"OK":
            raise RedisDown(f"renew answered {_words(reply)}")
        return tuple(answer.decode() for answer in reply[1:])

    async def key(self, shard: int, kid: str) -> RawRecord | None:
        """The key's record; RedisDown while the shard is not filled, since then nobody knows."""
        at = SHARD_KEYS[shard]
        generation, fields = await asyncio.gather(
            self.pipe.execute(b"HGET", at.meta, b"gen"),
            self.pipe.execute(b"HMGET", at.key(kid), *KEY_FIELDS),
        )
        if generation is None:
            raise RedisDown(f"shard {shard} has not been filled yet")
        return _record(*fields)

    async def organisation(self, shard: int, id: str) -> RawRecord | None:
        name = SHARD_KEYS[shard].organisation(id)
        return _record(*await self.pipe.execute(b"HMGET", name, b"ver", b"st", b"body"))

    async def check_filled(self) -> None:
        """RedisDown while the drain has shards to fill."""
        replies = await asyncio.gather(
            *(self.pipe.execute(b"HEXISTS", at.meta, b"gen") for at in SHARD_KEYS)
        )
        if not all(replies):
            raise RedisDown(f"{replies.count(0)} shards have not been filled yet")

    async def persisted(self, instance: str, after: bytes) -> Persisted:
        """What the ledger has of this instance's requests, told after `after`."""
        name = DONE_PREFIX + instance.encode()
        rows = await self.pipe.execute(b"XRANGE", name, b"(" + after, b"+", b"COUNT", 500)
        truths, orphans = list[str](), list[str]()
        for _, (_, ended, _, reaped) in rows:
            truths += filter(None, ended.decode().split(","))
            orphans += filter(None, reaped.decode().split(","))
        return Persisted(rows[-1][0] if rows else after, truths, orphans)

    async def revoked(self, after: bytes) -> tuple[bytes, set[bytes]]:
        """Records of keys and organisations that were revoked, told after `after`."""
        rows = await self.pipe.execute(b"XRANGE", REVOKED_KEY, b"(" + after, b"+")
        return (rows[-1][0] if rows else after), {name for _, (_, name) in rows}

    async def snapshot_marks(self) -> tuple[int, bytes]:
        """What tells one snapshot from another: its version, and the foreign issuers."""
        version, foreign = await self.pipe.execute(b"HMGET", SNAPSHOT_KEY, b"ver", b"foreign")
        if version is None:
            raise RedisDown("no snapshot has been published yet")
        return int(version), foreign or b"[]"

    async def snapshot(self) -> tuple[int, bytes, bytes, bytes]:
        """Its version, the models, the issuers of tokens, ours and foreign."""
        sections = (b"ver", b"models", b"issuers", b"foreign")
        version, models, *issuers = await self.pipe.execute(b"HMGET", SNAPSHOT_KEY, *sections)
        if version is None or models is None:
            raise RedisDown("the snapshot has gone again")
        ours, foreign = issuers
        return int(version), models, ours or b"[]", foreign or b"[]"


class SendAgain(Exception):
    """The server refused the call: it may have forgotten the script, or the slot has moved."""


class SettleCall:
    """A settlement that can be sent again: the second time it is answered DUP."""

    __slots__ = ("args", "keys", "pipe")

    def __init__(self, pipe: Redis, keys: Sequence[bytes], args: Sequence[bytes | int]) -> None:
        self.pipe, self.keys, self.args = pipe, keys, args

    def begin(self) -> "asyncio.Future[Reply]":
        """The reply to come, for `read`."""
        return self.pipe.begin(SETTLE, self.keys, self.args)

    async def send_patiently(self) -> Reply:
        """With all that a refusal asks for."""
        return await self.pipe.run(SETTLE, self.keys, self.args)

    def read(self, reply: "asyncio.Future[Reply]") -> str:
        """`ok`, `late` or `again`; RedisDown when nobody can tell what happened."""
        try:
            words = reply.result()
        except asyncio.CancelledError:
            raise RedisDown("the worker ended") from None
        except hiredis.ReplyError:
            raise SendAgain from None
        if words[0] == b"OK":
            return "late" if words[1] == b"1" else "ok"
        if words[0] == b"DUP":
            return "again"
        raise RedisDown(f"settle answered {_words(words)}")


def _admit_answer(reply: Reply) -> Admission:
    word = reply[0]
    if word == b"OK":
        return Admitted(tuple(map(int, reply[1:])))
    if word == b"LIMIT":
        return Limited(int(reply[1]) - 1, _level(reply[3], reply[4], reply[5], reply[2]))
    if word == b"JOB":
        return OtherCeiling(int(reply[1]))
    if word == b"STALE":
        return Stale(*_records(reply[1:]))
    if word in (b"KEY", b"ORG", b"NOTREADY"):
        return Refused(word.decode())
    raise RedisDown(f"admit answered {_words(reply)}")


def _level(limit: bytes, used: bytes, held: bytes, left: bytes) -> Level:
    return Level(_maybe(limit), _maybe(used), int(held), int(left))


def _maybe(count: bytes) -> int | None:
    return int(count) if count else None


def _records(fields: Sequence[bytes | None]) -> tuple[RawRecord | None, RawRecord | None]:
    return _record(*fields[:5]), _record(*fields[5:])


def _record(
    version: bytes | None,
    status: bytes | None,
    body: bytes | None,
    digest: bytes | None = b"",
    expires: bytes | None = None,
) -> RawRecord | None:
    if version is None or status is None or body is None or digest is None:
        return None
    unhexed = bytes.fromhex(digest.decode())
    return RawRecord(int(version), status.decode(), body, unhexed, int(expires or 0))


def _words(reply: Reply) -> str:
    return " ".join(part.decode("utf-8", "replace") for part in reply if isinstance(part, bytes))
