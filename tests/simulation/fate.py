"""What happens to the world: requests, inflows, revocations, and everything that can break."""

from contextlib import suppress

from proxy.redis.scripts import SHARD_KEYS
from tests.simulation.drain import Drain, publish
from tests.simulation.ledger import SHARD, Away
from tests.simulation.outflows import move
from tests.simulation.protocol import Chaos
from tests.simulation.proxy import BUDGETED, KEYS, ORGANISATIONS, POOLS, Proxy
from tests.simulation.world import AT, LEASE_MS, Process, Steps, World

assert SHARD_KEYS[SHARD] is AT

REQUESTS = 14
FAULTS = {
    **{
        "kill proxy": 3.0,
        "kill drain": 3.0,
        "lose host": 0.7,
        "stop drain": 1.0,
        "stop proxy": 1.0,
        "postgres away": 1.0,
    },
    **{"restart": 1.0, "lose tail": 2.0, "failover": 1.5, "wipe": 1.5, "redis away": 1.0},
    **{"revoke": 1.0, "top up": 2.0, "rubbish": 0.5, "careless": 1.0, "ambush": 4.0},
    **{"fill anew": 0.7, "move": 2.0},
}


def make_chaos(world: World) -> Chaos:
    """Runs differ in kind: about half of the faults, at rates of their own."""
    rng = world.rng
    weights = {name: weight for name, weight in FAULTS.items() if rng.random() < 0.5}
    rates = [rng.choice((0.0, 0.0, 0.01, 0.05)) for _ in range(3)]
    return Chaos(rates[0], rates[1], rates[2] / 5, weights or dict(FAULTS))


class Fate:
    def __init__(self, world: World, proxies: list[Proxy], drains: list[Drain]) -> None:
        self.world, self.proxies, self.drains = world, proxies, drains
        self.process = Process("fate", self.life)
        self.office = Process("office", self._requests)  # of the control plane
        self.treasury = Process("treasury", self._requests)  # likewise
        self.over = False
        self._nth = 0

    def life(self) -> Steps:
        world = self.world
        for nth in range(REQUESTS):
            yield world.between(10, 160)
            alive = [proxy for proxy in self.proxies if proxy.process.alive]
            if alive:
                proxy = world.rng.choice(alive)
                world.spawn(proxy.request(), proxy.process)
            if nth > 2 and world.happens(0.7):
                names = list(world.chaos.weights)
                [name] = world.rng.choices(names, list(world.chaos.weights.values()))
                world.tell("fate:", name)
                yield from getattr(self, "_" + name.replace(" ", "_"))()
        self.over = True

    def _requests(self) -> Steps:
        yield 0

    # processes ------------------------------------------------------------------------

    def _kill_proxy(self) -> Steps:
        proxy = self.world.rng.choice(self.proxies)
        self.world.kill(proxy.process)
        self._start_later(proxy.process)
        yield 0

    def _lose_host(self) -> Steps:
        proxy = self.world.rng.choice(self.proxies)
        proxy.lose_host()
        self._start_later(proxy.process)
        yield 0

    def _kill_drain(self) -> Steps:
        drain = self.world.rng.choice(self.drains)
        self.world.kill(drain.process)
        self._start_later(drain.process)
        yield 0

    def _stop_drain(self) -> Steps:
        self.world.stop(self.world.rng.choice(self.drains).process)
        yield 0

    def _stop_proxy(self) -> Steps:
        self.world.stop(self.world.rng.choice(self.proxies).process)
        yield 0

    def _start_later(self, process: Process) -> None:
        def later() -> Steps:
            yield self.world.between(20, 2 * LEASE_MS)
            if not process.alive:
                self.world.start(process)

        self.world.spawn(later(), self.process)

    # servers --------------------------------------------------------------------------

    def _postgres_away(self) -> Steps:
        ledger = self.world.ledger
        ledger.up, ledger.locked_by = False, None
        ledger.booking.clear()
        yield self.world.between(20, LEASE_MS)
        ledger.up = True

    def _redis_away(self) -> Steps:
        self.world.redis_up = False
        yield self.world.between(20, 2 * LEASE_MS)
        self.world.redis_up = True

    def _restart(self) -> Steps:
        yield from self._down(0)

    def _lose_tail(self) -> Steps:
        """What was written in the last moments before the end."""
        yield from self._down(self.world.between(0, self.world.young_writes() + 1))

    def _ambush(self) -> Steps:
        self.world.ambush = True
        yield 0

    def _failover(self) -> Steps:
        """To a copy that was far behind, perhaps with a slower clock."""
        yield from self._down(self.world.between(0, len(self.world.redis.log) + 1) // 2)
        if self.world.happens(0.6):
            self.world.skew -= self.world.between(0, 2 * LEASE_MS)

    def _wipe(self) -> Steps:
        yield from self._down(None)

    def _down(self, lost: int | None) -> Steps:
        self.world.redis_up = False
        self.world.restart_redis(lost)
        yield self.world.between(0, 200)
        self.world.redis_up = True

    # people ---------------------------------------------------------------------------

    def _fill_anew(self) -> Steps:
        """`ledger rebuild-redis`: no loss explains what it changes."""
        ledger = self.world.ledger
        if ledger.up and ledger.locked_by is None:
            ledger.generation += 1
        yield 0

    def _top_up(self) -> Steps:
        """A payment, whose message may come twice."""
        self._nth += 1
        ref, pool = f"payment {self._nth}", self.world.rng.choice(POOLS)
        amount = self.world.between(1, 3_000)
        self.world.truth.inflows[ref] = amount
        self.world.spawn(self._inflow(pool, amount, ref), self.office)
        if self.world.happens(0.5):
            self.world.spawn(self._inflow(pool, amount, ref), self.office)
        yield 0

    def _inflow(self, pool: str, amount: int, ref: str) -> Steps:
        while True:
            yield self.world.between(0, 50)
            if self.world.ledger.up and self.world.ledger.locked_by is None:
                return self.world.ledger.grant(pool, amount, ref)

    def _move(self) -> Steps:
        """Credits of one organisation for another; whoever asks may ask twice."""
        self._nth += 1
        source, target = self.world.rng.sample(POOLS, 2)
        words = (f"move {self._nth}", source, target, self.world.between(1, 2_000))
        for _ in range(1 + self.world.happens(0.5)):
            self.world.spawn(move(self.world, self.treasury, *words), self.treasury)
        yield 0

    def _revoke(self) -> Steps:
        key = self.world.rng.choice(list(KEYS))
        self.world.spawn(self._change(key), self.office)
        self.world.spawn(self._revocation(key), self.office)
        yield 0

    def _change(self, key: bytes) -> Steps:
        """Of something else of the key, at the same time."""
        if self.world.ledger.up:
            self.world.ledger.record(key, **{"par.l": "6"})
            with suppress(Away):
                yield from publish(self.world, self.office, key)

    def _revocation(self, key: bytes) -> Steps:
        world = self.world
        while not world.ledger.up:
            yield 20
        world.ledger.record(key, st="revoked")
        losses = world.losses
        try:
            yield from publish(world, self.office, key)
        except Away:
            return  # 202: the drain delivers it
        if losses == world.losses:
            world.truth.revoked.add(key)

    def _rubbish(self) -> Steps:
        """Somebody writes what is no number; nothing may be admitted by it."""
        world, owner = self.world, AT.organisation(ORGANISATIONS[0])
        if world.redis_up and b"pool.b" in world.redis.hash(owner):
            good = world.redis.hash(owner)[b"pool.b"]
            world.doubtful, before = True, world.doubtful
            world.redis.hash(owner)[b"pool.b"] = b"nan"
            for hold in ("1", "0"):
                reply = self._admit_now(owner, hold)
                assert reply[0] != b"OK", "a balance that is no number has admitted"
            world.redis.hash(owner)[b"pool.b"] = good
            world.doubtful = before
        yield 0

    def _admit_now(self, owner: bytes, hold: str) -> list[bytes]:
        key = next(iter(KEYS))
        redis = self.world.redis
        versions = [redis.hash(name).get(b"ver", b"0") for name in (key, owner)]
        keys = [AT.meta, AT.hold, AT.lease, AT.usage, key, owner]
        meters = [b"6", b"pool", b"pool", hold.encode(), b"", b"", b"1"]
        named = [b"0", b"9", b""]
        args = [b"rubbish", b"1000", *versions, b"{}", b"1000000", b"", *named, *meters]
        reply: list[bytes] = self.world.scripts.run(redis, "admit", keys, args)
        return reply

    def _careless(self) -> Steps:
        """A settlement that names too few owners, or no amount, is refused and changes nothing."""
        world = self.world
        holds = list(world.redis.hash(AT.hold)) if world.redis_up else []
        if holds and b"gen" in world.redis.hash(AT.meta):
            rid = world.rng.choice(holds)
            before = repr(world.redis.data)
            everyone = [*BUDGETED, *map(AT.organisation, ORGANISATIONS)]
            for owners, cost in (([], b"1"), (everyone, b"-0"), (everyone, b"nan")):
                keys = [AT.meta, AT.hold, AT.lease, AT.tomb, AT.usage, *owners]
                args = [rid, b"settled", cost, b"", b"", b"0", b"{}", b"1", b"0"]
                reply = world.scripts.run(world.redis, "settle", keys, args)
                assert reply[0] in (b"BAD", b"DUP"), f"a careless settlement was answered {reply}"
                assert repr(world.redis.data) == before, "a refused settlement has written"
        yield 0
