"""A drain as control/books does it: prepare (rebuild, resync), then three loops that read from the
cursor and book, push the outboxes, and end dead requests' holds.
"""

from collections.abc import Generator, Sequence

from control.books.booking import Overtaken
from control.books.reaper import _owners as owners_of_hold
from tests.simulation.ledger import Away, entries
from tests.simulation.outflows import sweep
from tests.simulation.proxy import BUDGETED, DONE, POOLS
from tests.simulation.values import Sid, sid_text
from tests.simulation.world import AT, LEASE_MS, Asking, Process, Steps, World

ENTRIES_PER_BATCH = 20
ROWS_PER_PUSH = 10
BACKGROUND = (AT.meta, AT.hold, AT.usage)


class Drain:
    def __init__(self, world: World, nth: int) -> None:
        self.world, self.ledger = world, world.ledger
        self.process = Process(f"d{nth}", self.life)
        self.cursor: Sid = (0, 0)
        self.generation = 0
        self._reap_from = 0

    def life(self) -> Steps:
        """As Drain.run: prepares, then loops; any trouble begins it again."""
        self._away()
        yield from self._prepare()
        for loop in (self._drain, self._push, self._reap, self._sweep):
            self.world.spawn(loop(), self.process)

    # prepare --------------------------------------------------------------------------

    def _prepare(self) -> Steps:
        world = self.world
        self.generation = self.ledger.generation
        yield 0
        if (yield from self._lacking()):
            yield from self._rebuild()
        self._away()
        self.cursor = self.ledger.cursor
        yield 0
        if world.protocol.reads_from_cursor:
            rows = yield from self._command("XRANGE", AT.usage, "-", sid_text(self.cursor))
            if rows:
                rids = [fields[b"r"] for _, fields in entries(rows)]
                yield from self._ack(self.cursor, rids)
        young = world.now - world.started < LEASE_MS
        self._reap_from = world.now + (LEASE_MS if young else 0)

    def _lock(self) -> Steps:
        """The shard's row in the ledger, until unlocked; a death rolls back."""
        while self.ledger.locked_by not in (None, self.process):
            self._away()
            yield 10
        self._away()
        self.ledger.locked_by = self.process

    def _unlock(self, generation: int) -> None:
        """The commit."""
        self._away()
        if self.ledger.locked_by is not self.process:
            raise Away("the transaction was rolled back")
        self.ledger.locked_by = None
        self.ledger.generation = self.generation = generation

    def _lacking(self) -> Generator[int, None, str]:
        """Why Redis cannot be what the ledger says: another generation, a fence that somebody
        left, another run of the server, which may have lost its newest writes.
        """
        generation, fence, noted = yield from self._command(
            "HMGET", AT.meta, "gen", "fenced", "run"
        )
        if generation is None or int(generation) != self.generation:
            return "generation"
        if fence is not None:
            return "fence"
        reply = yield from self.world.script(self.process, "server", [AT.meta])
        changed = self.world.protocol.looks_at_run and reply[1] != noted
        return "run" if changed else ""

    def _rebuild(self) -> Steps:
        """Under the shard's lock and behind a fence of its own: whoever comes late with figures of
        an earlier moment finds another fence and changes nothing.
        """
        yield from self._lock()
        self.generation = self.ledger.generation
        found = yield from self._command("HGET", AT.meta, "gen")
        why = yield from self._lacking()
        if not why:
            return self._unlock(self.ledger.generation)
        generation, fence = self.ledger.generation + 1, f"{self.process.name} {self.world.steps}"
        figures = self._figures()
        yield from self.world.fence(self.process, found, fence)
        self.world.filling = self.process
        if not self.world.protocol.generation_last:
            yield from self._open(fence, generation)
        if self.world.protocol.resync_publishes or why != "run":
            for name in sorted(self.ledger.records):
                yield from publish(self.world, self.process, name)
        yield from self._advance_stream()
        yield from self._resync(fence, figures)
        self.world.filling = None
        if self.world.protocol.generation_last:
            yield from self._open(fence, generation)
        self._unlock(generation)

    def _open(self, fence: str, generation: int) -> Steps:
        run = self.world.redis.run_id
        writes = [("HDEL", "fenced"), ("HSET", "gen", str(generation), "run", run)]
        yield from self.world.behind(fence, self.process, writes)

    def _advance_stream(self) -> Steps:
        cursor = self.ledger.cursor
        if cursor == (0, 0):
            return
        if not (yield from self._command("EXISTS", AT.usage)):
            yield from self._command("XGROUP", "CREATE", AT.usage, "make", "0", "MKSTREAM")
        newest = yield from self._command("XREVRANGE", AT.usage, "+", "-", "COUNT", "1")
        if not newest or entries(newest)[0][0] < cursor:
            yield from self._command("XSETID", AT.usage, sid_text(cursor))

    def _figures(self) -> tuple[list[bytes], list[str]]:
        figures = [(owner, "pool", self.ledger.balance(owner)) for owner in POOLS]
        budgets = set(self.ledger.used)
        if self.world.protocol.resets_unbooked:
            budgets |= {
                name.decode().removeprefix(AT.prefix.decode()) + ":bud" for name in BUDGETED
            }
        figures += [(owner, "ucr", self.ledger.used.get(owner, 0)) for owner in sorted(budgets)]
        keys, args = (
            list(BACKGROUND),
            [sid_text(self.ledger.cursor).decode(), str(self.ledger.outseq)],
        )
        for owner, unit, figure in figures:
            name, _, meter = owner.rpartition(":")
            keys.append(AT.prefix + name.encode())
            args += [str(len(keys)), meter, unit, str(figure), "0"]
        return keys, args

    def _resync(self, fence: str, figures: tuple[list[bytes], list[str]]) -> Steps:
        reply = yield from self.world.script_behind(fence, self.process, "resync", *figures)
        assert reply[0] == b"OK", reply

    # the loops ------------------------------------------------------------------------

    def _drain(self) -> Steps:
        while True:
            start = "(" + sid_text(self.cursor).decode()
            if not self.world.protocol.reads_from_cursor:
                start = "-"
            ask = self._command("XRANGE", AT.usage, start, "+", "COUNT", str(ENTRIES_PER_BATCH))
            raw = entries((yield from ask))
            if raw:
                self.world.may_spring(self.process)
                yield self._pause()
                yield from self._lock()
                self.ledger.locked_by = None
                self.world.tell(self.process.name, "books", self.cursor, raw)
                self.ledger.book(raw, self.cursor, self.generation)
                yield 0  # the commit may have happened without its being known
                self.cursor = raw[-1][0]
                yield from self._ack(self.cursor, [fields[b"r"] for _, fields in raw])
                yield from self._confirm(raw)
            yield self.world.between(5, 150)

    def _ack(self, cursor: Sid, rids: Sequence[bytes]) -> Steps:
        keys, keep = [AT.meta, AT.usage, AT.tomb], (cursor[0], cursor[1] + 1)
        state = (str(self.generation), sid_text(cursor), sid_text(keep))
        reply = yield from self.world.script(self.process, "ack", keys, *state, *rids)
        if reply[0] != b"OK":
            raise Overtaken("a shard has another generation")

    def _confirm(self, raw: Sequence[tuple[Sid, dict[bytes, bytes]]]) -> Steps:
        """Tells each instance what the ledger has; an orphan's row is not the truth."""
        told: dict[bytes, tuple[list[bytes], list[bytes]]] = {}
        mixed = self.world.protocol.orphans_confirm_truths
        for _, fields in raw:
            instance = fields[b"e"].partition(b'"i":"')[2].partition(b'"')[0]
            orphan = fields[b"k"] == b"orphan" and not mixed
            told.setdefault(instance, ([], []))[orphan].append(fields[b"r"])
        for instance, (truths, orphans) in sorted(told.items()):
            words = ("r", b",".join(truths), "o", b",".join(orphans))
            yield from self._command(
                "XADD", DONE.encode() + instance, "MAXLEN", "1000", "*", *words
            )

    def _push(self) -> Steps:
        while True:
            self._away()
            for name in sorted(self.ledger.unpublished):
                yield from publish(self.world, self.process, name)
            found = yield from self._command("HGET", AT.meta, "adjseq")
            applied = int(found or 0)
            rows = self.ledger.outbox[applied : applied + ROWS_PER_PUSH]
            if rows:
                yield 0
                yield from self._adjust(rows)
            if (yield from self._lacking()):
                raise Overtaken("Redis has lost a shard")
            yield self.world.between(20, 200)

    def _adjust(self, rows: Sequence[tuple[int, str, str, int]]) -> Steps:
        owners = list(dict.fromkeys(owner.rpartition(":")[0] for _, owner, _, _ in rows))
        args = [str(self.generation), str(rows[0][0]), str(rows[-1][0])]
        for seq, owner, column, delta in rows:
            name, _, meter = owner.rpartition(":")
            args += [str(owners.index(name) + 4), f"{meter}.{column}", str(delta), "0"]
            args.append(self.ledger.ends.get(seq, ""))
        keys = [AT.meta, AT.hold, AT.out, *(AT.prefix + name.encode() for name in owners)]
        reply = yield from self.world.script(self.process, "adjust", keys, *args)
        assert reply[0] in (b"OK", b"GAP", b"NOTREADY"), reply

    def _reap(self) -> Steps:
        while True:
            if self.world.now >= self._reap_from and self.world.protocol.reaps:
                now = self.world.now + self.world.skew
                rids = yield from self._command("ZRANGEBYSCORE", AT.lease, "-inf", str(now))
                if rids:
                    yield self._pause()
                    yield from self._reap_these(rids)
            yield self.world.between(40, 200)

    def _reap_these(self, rids: list[bytes]) -> Steps:
        holds = yield from self._command("HMGET", AT.hold, *rids)
        owners = sorted({owner for hold in holds if hold for owner in owners_of_hold(hold)})
        keys = [AT.meta, AT.hold, AT.lease, AT.tomb, AT.usage, *owners]
        yield from self.world.script(self.process, "reap", keys, *rids)

    def _sweep(self) -> Steps:
        while True:
            yield from sweep(self.world, self.process)
            yield self.world.between(40, 200)

    def _pause(self) -> int:
        """Between reading and acting on it; sometimes it is stopped just there."""
        return self.world.between(0, LEASE_MS if self.world.happens(0.15) else 8)

    def _command(self, *words: bytes | str) -> Asking:
        return self.world.command(self.process, *words)

    def _away(self) -> None:
        if not self.ledger.up:
            raise Away("Postgres")


def publish(world: World, process: Process, name: bytes) -> Steps:
    """A record as the ledger has it now; it waits in the outbox until Redis has it."""
    record = world.ledger.records[name]
    fields = [word for pair in record.fields.items() for word in pair]
    reply = yield from world.script(process, "publish", [name], str(record.version), *fields)
    assert reply[0] in (b"OK", b"OLDER"), reply
    if world.ledger.records[name] is record:
        world.ledger.unpublished.discard(name)
