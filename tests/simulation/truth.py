"""What really happened in a run, kept apart from all that the product remembers of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxy.redis.scripts import SHARD_KEYS
from tests.simulation.ledger import SHARD
from tests.simulation.values import Reply

if TYPE_CHECKING:
    from tests.simulation.world import World


AT_META, AT_USAGE = SHARD_KEYS[SHARD].meta, SHARD_KEYS[SHARD].usage


@dataclass(slots=True)
class Request:
    rid: str
    key: bytes
    owners: list[bytes]
    asks: int  # credits; what asks for none needs none
    losses_at_admission: int | None = None  # None: never admitted
    journaled: bool = False
    journal_lost: bool = False
    cost: int | None = None  # what the journal knows that it cost
    sent: set[int] = field(default_factory=lambda: {0})  # what was noted of it while it ran
    noted: int = 0  # by Redis
    held_until: tuple[int, int] = (0, -1)  # end of its lease, losses until then


@dataclass(slots=True)
class Truth:
    requests: dict[str, Request] = field(default_factory=dict)
    inflows: dict[str, int] = field(default_factory=dict)  # ref -> amount
    revoked: set[bytes] = field(default_factory=set)  # revocations that were confirmed
    counts_jobs: bool = True

    def executed(
        self, world: "World", name: str, keys: Sequence[bytes], args: Sequence[object], reply: Reply
    ) -> None:
        """Called by Redis itself, whether or not anybody learns of it."""
        if reply[0] != b"OK":
            return
        if name == "admit":
            if self.requests[str(args[0])].held_until[1] != world.losses:  # not a repetition
                self._extended(world, str(args[0]))
            self._admitted(world, self.requests[str(args[0])])
        elif name == "renew" and reply[1] != b"GONE":
            self._extended(world, str(args[1]))
            self.requests[str(args[1])].noted = int(str(args[4]))
        elif name == "reserve" and not world.doubtful:
            left = left_of(world, keys[3])
            assert left is None or left >= 0, f"I6: {keys[3]!r} has {left} left after it"
        elif name == "release" and not world.doubtful:
            applied = int(world.redis.hash(AT_META).get(b"adjseq", b"0"))
            assert not world.ledger.waits(str(args[0]), applied), f"{args[0]} waits for its change"
        elif name == "settle" and not world.stale:
            entries = world.redis.stream(AT_USAGE)
            waiting = [fields[1] for fields in entries.fields] if entries else []
            assert waiting.count(str(args[0]).encode()) == 1, "I7: a repetition is told twice"

    def reaped(self, world: "World", rids: set[bytes]) -> None:
        for rid in rids:
            end, losses = self.requests[rid.decode()].held_until
            early = end > world.redis.clock() and losses == world.losses
            assert not early, f"I4: {rid!r} was renewed and has been reaped"

    def _extended(self, world: "World", rid: str) -> None:
        self.requests[rid].held_until = (world.redis.clock() + world.lease_ms, world.losses)

    def _admitted(self, world: "World", request: Request) -> None:
        assert b"fenced" not in world.redis.hash(AT_META), "I11: admitted behind a fence"
        rebuilt = world.filling is None or world.ledger.locked_by is not world.filling
        assert rebuilt, "I11: admitted before it was filled"
        if world.doubtful:
            # as good as lost: a replica's slow clock puts what it says before the cursor
            request.losses_at_admission = -1
            return
        request.losses_at_admission = world.losses
        assert request.key not in self.revoked, "I8: admitted after its revocation"
        for owner in request.owners:
            left = left_of(world, owner)
            if not request.asks or (b":w:" in owner and not self.counts_jobs):
                continue
            assert left is None or left >= 0, f"I6: {owner!r} has {left} left after admission"


def left_of(world: "World", owner: bytes) -> int | None:
    """Of the credits or of the budget that lie there."""
    fields = world.redis.hash(owner)
    if b"pool.b" in fields:
        if fields[b"pool.b"] == b"nan":
            return -1
        return int(fields[b"pool.b"]) - int(fields.get(b"pool.h", 0))
    if b"bud.l" in fields:
        used = int(fields.get(b"bud.u", 0)) + int(fields.get(b"bud.h", 0))
        return int(fields[b"bud.l"]) - used
    return None
