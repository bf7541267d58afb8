"""One method per script of the request path, keys by shard. Knows Redis' side of the protocol:
what goes in, what an answer means. Decides nothing.
"""

import asyncio
from collections.abc import Callable, Sequence

import hiredis

from proxy.bounds.meters import Level, Standing
from proxy.redis.cluster import Redis
from proxy.redis.packed import (
    Packed,
    limit_if_named,
    number,
    settle_keys,
    settle_words,
    word,
)
from proxy.redis.pipe import RedisDown, Reply
from proxy.redis.replies import (
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
from proxy.redis.scripts import DONE_PREFIX, REVOKED_KEY, SCRIPTS, SHARD_KEYS, SNAPSHOT_KEY

KEY_FIELDS = (b"ver", b"st", b"body", b"digest", b"exp")
ADMIT, SETTLE, RENEW = SCRIPTS["admit"], SCRIPTS["settle"], SCRIPTS["renew"]
LIMITS = SCRIPTS["limits"]
RENEW_OWNERS_FROM, LIMITS_OWNERS_FROM = 4, 2  # places among KEYS


class Shards:
    """Scripts on the shards of one Redis."""

    def __init__(self, pipe: Redis, lease_ms: int, backlog_max: int) -> None:
        self.pipe = pipe
        self.lease_ms = lease_ms
        self._lease, self._backlog = number(lease_ms), number(backlog_max)

    async def admit(
        self,
        shard: int,
        rid: str,
        standing: Standing,
        amounts: Sequence[int],
        context: bytes,
        ceiling: int | None,
        abandoned: Callable[[Admitted], None],
    ) -> Admission:
        """`ceiling` is that of the job, which is the last owner but one; `abandoned` hears of a
        hold whose caller was cancelled before he was told.
        """
        said, limit = standing.admit, b"" if ceiling is None else ceiling
        parts = [said.keys, word(rid.encode()), self._lease, said.versions, word(context)]
        parts += (self._backlog, word(limit), said.named)
        for between, amount in zip(said.meters, amounts, strict=False):
            parts += (between, number(amount))
        parts.append(said.meters[-1])
        call = Packed(ADMIT, SHARD_KEYS[shard].meta, said.length, b"".join(parts))

        def left(reply: Reply) -> None:
            if reply[0] == b"OK":
                abandoned(admitted(reply))

        return admit_answer(await self.pipe.call(call, left))

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
            limit = limit_if_named(meter, standing.owners, standing.lives)
            args += (place, meter.name, meter.unit.encode(), window, limit)
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
        owners: str,
        kind: bytes,
        cost: int,
        pool: bytes,
        budgets: bytes,
        held: int,
        event: bytes,
        calls: int,
        tokens: int,
    ) -> "SettleCall":
        length, keys = settle_keys(shard, owners)
        amounts = (cost, pool, budgets, held, event, calls, tokens)
        said = settle_words(rid.encode(), kind, *amounts)
        return SettleCall(self.pipe, Packed(SETTLE, SHARD_KEYS[shard].meta, length, keys + said))

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

    __slots__ = ("call", "pipe")

    def __init__(self, pipe: Redis, call: Packed) -> None:
        self.pipe, self.call = pipe, call

    def begin(self) -> "asyncio.Future[Reply]":
        """The reply to come, for `read`."""
        return self.pipe.begin(self.call)

    async def send_patiently(self) -> Reply:
        """With all that a refusal asks for."""
        return await self.pipe.call(self.call)

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
