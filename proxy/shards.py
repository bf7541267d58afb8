"""One method per script of the request path, keys by shard. Knows Redis' side of the protocol:
what goes in, what an answer means. Decides nothing.
"""

import asyncio
from collections.abc import Callable, Sequence

import hiredis

from proxy.cluster import Redis
from proxy.meters import UNKNOWN, Level, Meter, Standing
from proxy.pipe import RedisDown, Reply
from proxy.replies import (
    Admission,
    Admitted,
    OtherTime,
    Persisted,
    RawRecord,
    Refused,
    Renewal,
    Stale,
    admit_answer,
    admitted,
    level_of,
    record,
    words_of,
)
from proxy.scripts import DONE_PREFIX, REVOKED_KEY, SCRIPTS, SHARD_KEYS, SNAPSHOT_KEY

KEY_FIELDS = (b"ver", b"st", b"body", b"digest", b"exp")
ADMIT, SETTLE, RENEW = SCRIPTS["admit"], SCRIPTS["settle"], SCRIPTS["renew"]
LIMITS = SCRIPTS["limits"]


OWNERS_NAMED_MAX = 100_000  # end users and jobs of one organisation that are remembered
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
        standing: Standing,
        versions: tuple[int, int],
        amounts: Sequence[int],
        context: bytes,
        ceiling: int | None,
        abandoned: Callable[[Admitted], None],
    ) -> Admission:
        """`ceiling` is that of the job, which is the last owner but one; `abandoned` hears of a
        hold whose caller was cancelled before he was told.
        """
        at = SHARD_KEYS[shard]
        limit = b"" if ceiling is None else b"%d" % ceiling
        args: list[bytes | int] = [rid.encode(), self.lease_ms, *versions, context]
        args += (self.backlog_max, limit, len(standing.lives), OWNERS_NAMED_MAX)
        args.append(b" ".join(b"%d" % life for life in standing.lives))
        for meter, place, window, amount in zip(
            standing.meters, standing.places, standing.windows, amounts, strict=True
        ):
            named = _limit_if_named(standing, meter)
            unit = meter.unit.encode()
            args += (place + ADMIT_OWNERS_FROM, meter.name, unit, amount, window, named, meter.way)
        keys = (at.meta, at.hold, at.lease, at.usage, *standing.owners)

        def left(reply: Reply) -> None:
            if reply[0] == b"OK":
                abandoned(admitted(reply))

        return admit_answer(await self.pipe.run(ADMIT, keys, args, left))

    async def levels(
        self, shard: int, standing: Standing, versions: tuple[int, int]
    ) -> tuple[Level, ...] | Stale | OtherTime | Refused:
        """How full each of its meters is."""
        at = SHARD_KEYS[shard]
        args: list[bytes | int] = [*versions]
        for meter, place, window in zip(
            standing.meters, standing.places, standing.windows, strict=True
        ):
            place += LIMITS_OWNERS_FROM
            unit, limit = meter.unit.encode(), _limit_if_named(standing, meter)
            args += (place, meter.name, unit, window, limit)
        reply = await self.pipe.run(LIMITS, (at.meta, *standing.owners), args)
        if reply[0] == b"OK":
            return tuple(level_of(*reply[nth : nth + 5]) for nth in range(1, len(reply), 5))
        answer = admit_answer(reply)
        assert isinstance(answer, Stale | OtherTime | Refused)
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
        calls: int,
        tokens: int,
    ) -> "SettleCall":
        at = SHARD_KEYS[shard]
        keys = (at.meta, at.hold, at.lease, at.tomb, at.usage, *owners)
        words = (rid.encode(), kind, cost, pool, budgets, held, event, calls, tokens)
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
            raise RedisDown(f"renew answered {words_of(reply)}")
        return tuple(answer.decode() for answer in reply[1:])

    async def waiting(self, shard: int) -> int:
        """Entries that the ledger has not acknowledged."""
        return int(await self.pipe.execute(b"XLEN", SHARD_KEYS[shard].usage))

    async def key(self, shard: int, kid: str) -> RawRecord | None:
        """The key's record; RedisDown while the shard is not filled, since then nobody knows."""
        at = SHARD_KEYS[shard]
        generation, fields = await asyncio.gather(
            self.pipe.execute(b"HGET", at.meta, b"gen"),
            self.pipe.execute(b"HMGET", at.key(kid), *KEY_FIELDS),
        )
        if generation is None:
            raise RedisDown(f"shard {shard} has not been filled yet")
        return record(*fields)

    async def organisation(self, shard: int, id: str) -> RawRecord | None:
        name = SHARD_KEYS[shard].organisation(id)
        return record(*await self.pipe.execute(b"HMGET", name, b"ver", b"st", b"body"))

    async def ceiling(self, job: bytes) -> int | None:
        """That the job has by now."""
        found = await self.pipe.execute(b"HGET", job, b"bud.l")
        return None if found is None else int(found)

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
        raise RedisDown(f"settle answered {words_of(words)}")


def _limit_if_named(standing: Standing, meter: Meter) -> bytes | int:
    """The limit of an owner that a request names goes with it; of others it lies in Redis."""
    named = standing.lives and meter.owner in standing.owners[-1 - len(standing.lives) : -1]
    return meter.limit if named and meter.limit != UNKNOWN else b""
