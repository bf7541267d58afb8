"""A proxy as the protocol wants it: admit -> journal A -> upstream -> [journal C, renew]* ->
journal U -> settle, until the ledger confirms. Its journal outlives it, its memory does not.
"""

from collections.abc import Generator
from dataclasses import dataclass
from uuid import UUID

import orjson

from tests.simulation.ledger import Away
from tests.simulation.truth import Request
from tests.simulation.world import AT, LEASE_MS, Process, Steps, World

RENEW_MS = LEASE_MS // 3
REDRIVE_MS = LEASE_MS // 2
SETTLE_TRIES = 3
DONE = "{ops}:done:"
BACKLOG_MAX = 1_000_000
HOLD_MAX = 400

ORGANISATIONS = (str(UUID(int=1)), str(UUID(int=2)))
POOLS = tuple(f"o:{organisation}:pool" for organisation in ORGANISATIONS)
KEYS = {AT.key("kkkkkkkkk0"): 0, AT.key("kkkkkkkkk1"): 0, AT.key("kkkkkkkkk2"): 1}
JOB, JOB_CEILING = AT.prefix + b"w:j:job", 500
MADE, JOB_LIFE_MS = AT.prefix + b"w:made:o", 50_000
BUDGETED = (*KEYS, JOB)


@dataclass(slots=True)
class Noted:
    """A request in the journal."""

    owners: list[bytes]
    pool: bytes
    budgets: bytes
    event: bytes
    checkpoint: int = 0
    usage: tuple[str, int] | None = None  # kind, cost
    at: int = 0


class Proxy:
    def __init__(self, world: World, nth: int) -> None:
        self.world, self.name = world, f"p{nth}"
        self.process = Process(self.name, self.life)
        self.journal: dict[str, Noted] = {}
        self.versions: dict[bytes, str] = {}
        self._count = 0

    def life(self) -> Steps:
        """A new process: re-drives what the one before it has left."""
        for noted in self.journal.values():
            noted.usage = noted.usage or ("orphan", noted.checkpoint)
            noted.at = 0
        self.world.spawn(self._redrive(), self.process)
        self.world.spawn(self._confirm(), self.process)
        yield 0

    def lose_host(self) -> None:
        self.world.kill(self.process)
        for rid in self.journal:
            self.world.truth.requests[rid].journal_lost = True
        self.journal.clear()

    # one request ----------------------------------------------------------------------

    def request(self) -> Steps:
        world = self.world
        self._count += 1
        rid = str(UUID(int=world.rng.getrandbits(120)))
        key = world.rng.choice(list(KEYS))
        organisation = ORGANISATIONS[KEYS[key]]
        owners = [key, AT.organisation(organisation)]
        ceiling, hold = "", world.rng.choice((0, 1, 40, HOLD_MAX))
        if world.happens(0.4):
            owners.append(JOB)
            ceiling = str(JOB_CEILING)
        budgets = [owner + b":bud" for owner in owners if owner != owners[1]]
        request = world.truth.requests[rid] = Request(rid, key, owners, hold)
        said = {"o": organisation, "k": key[-10:].decode(), "u": ORGANISATIONS[0], "m": "m"}
        event = orjson.dumps({**said, "v": 1, "i": self.name})
        noted = Noted(owners, owners[1] + b":pool", b" ".join(budgets), event)
        try:
            admitted = yield from self._admit(rid, key, noted, ceiling, hold)
        except Away:
            return
        if admitted:
            yield from self._serve(rid, request, noted, hold)

    def _admit(
        self, rid: str, key: bytes, noted: Noted, ceiling: str, hold: int
    ) -> Generator[int, None, bool]:
        owners = noted.owners
        meters: list[bytes | str | int] = [6, "pool", "pool", hold, "", "", 1]
        meters += [5, "par", "slot", 1, "", "", 0, 5, "bud", "ucr", hold, "", "", 0]
        named: tuple[int | str, ...] = (0, 9, "")
        if ceiling:
            meters += [7, "bud", "ucr", hold, "", ceiling, 0]
            owners, named = [*owners, MADE], (1, 9, JOB_LIFE_MS)
        for _ in range(4):
            versions = [self.versions.get(owner, "0") for owner in owners[:2]]
            keys = [AT.meta, AT.hold, AT.lease, AT.usage, *owners]
            args = (rid, LEASE_MS, *versions, noted.event, BACKLOG_MAX, ceiling, *named, *meters)
            try:
                reply = yield from self.world.script(self.process, "admit", keys, *args)
            except Away:
                # sent again as a client of a cluster does: a request that holds is answered alike
                reply = yield from self.world.script(self.process, "admit", keys, *args)
            if reply[0] != b"STALE":
                break
            if reply[1] is None or reply[6] is None:
                return False
            self.versions |= {owners[0]: reply[1].decode(), owners[1]: reply[6].decode()}
        assert reply[0] in (b"OK", b"LIMIT", b"KEY", b"NOTREADY", b"STALE", b"JOB"), reply
        return bool(reply[0] == b"OK")

    def _serve(self, rid: str, request: Request, noted: Noted, hold: int) -> Steps:
        world, protocol = self.world, self.world.protocol
        if protocol.journals_admission:
            self.journal[rid] = noted
            request.journaled = True
        noted.at = world.now
        yield 0
        cost = 0
        for _ in range(world.rng.choice((0, 0, 1, 6))):  # how long it streams
            late = world.happens(0.05)  # its event loop stood still
            yield world.between(RENEW_MS // 2, RENEW_MS) + late * (LEASE_MS - RENEW_MS // 2)
            cost = min(cost + world.between(0, 60), hold)
            more = yield from self._renew(rid, request, noted, cost)
            if more is None:
                break
            hold += more
        yield world.between(1, 100)
        failed = world.happens(0.15)
        over = world.happens(0.05)  # the provider bills more than it was allowed
        cost = 0 if failed else world.between(cost, hold + 1) + (30 if over else 0)
        usage = ("released" if failed else "settled", cost)
        request.cost = cost
        if protocol.journals_usage:
            noted.usage, noted.at = usage, world.now
        yield 0
        for _ in range(SETTLE_TRIES):
            if (yield from self._settle(rid, noted, usage, hold)):
                break
            yield world.between(5, 50)
        if not protocol.journals_usage:
            noted.usage = usage  # too late: it may have died before

    def _renew(
        self, rid: str, request: Request, noted: Noted, cost: int
    ) -> Generator[int, None, int | None]:
        """What was taken more; None when the request has to end."""
        extra = self.world.rng.choice((0, 0, 50))
        noted.checkpoint = cost
        request.sent.add(cost)
        yield 0
        keys = [AT.meta, AT.hold, AT.lease, *noted.owners]
        args = (LEASE_MS, rid, 4, 5, cost, extra)
        try:
            reply = yield from self.world.script(self.process, "renew", keys, *args)
        except Away:
            return 0
        assert reply[0] in (b"OK", b"NOTREADY"), reply
        if reply[0] == b"OK" and reply[1] in (b"REVOKED", b"FUNDS"):
            return None
        return extra if reply[0] == b"OK" and reply[1] == b"OK" else 0

    def _settle(
        self, rid: str, noted: Noted, usage: tuple[str, int], hold: int
    ) -> Generator[int, None, bool]:
        keys = [AT.meta, AT.hold, AT.lease, AT.tomb, AT.usage, *noted.owners]
        args = (rid, *usage, noted.pool, noted.budgets, hold, noted.event, 1, 0)
        try:
            reply = yield from self.world.script(self.process, "settle", keys, *args)
        except Away:
            return False
        assert reply[0] in (b"OK", b"DUP", b"NOTREADY"), reply
        return bool(reply[0] != b"NOTREADY")

    # the journal ------------------------------------------------------------------------

    def _redrive(self) -> Steps:
        """What the ledger has not confirmed is settled again."""
        while True:
            for rid, noted in list(self.journal.items()):
                old = self.world.now - noted.at > REDRIVE_MS
                if noted.usage and old and self.world.protocol.redrives:
                    yield from self._settle(rid, noted, noted.usage, 0)
                    noted.at = self.world.now
            yield self.world.between(REDRIVE_MS // 2, REDRIVE_MS)

    def _confirm(self) -> Steps:
        """Forgets what the ledger has. An orphan's row confirms no truth."""
        last = b"0"
        while True:
            name = DONE + self.name
            try:
                found = yield from self.world.command(
                    self.process, "XRANGE", name, b"(" + last if last != b"0" else "-", "+"
                )
            except Away:
                found, last = [], b"0"
            for sid, (_, truths, _, orphans) in found:
                last = sid
                for rid in truths.decode().split(","):
                    self.journal.pop(rid, None)
                for rid in orphans.decode().split(","):
                    noted = self.journal.get(rid)
                    if noted and noted.usage and noted.usage[0] == "orphan":
                        del self.journal[rid]
            yield self.world.between(40, 200)
