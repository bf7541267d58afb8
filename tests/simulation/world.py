"""The world of one run: a virtual clock, one Redis, one ledger, and a seeded scheduler over actors.
An actor is a generator; wherever it yields, others may run, it may be killed, or wait for ever.
"""

import random
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from control.books.booking import Overtaken
from proxy.redis.scripts import SHARD_KEYS
from tests.simulation.ledger import SHARD, Away, Ledger
from tests.simulation.lua import Scripts
from tests.simulation.memory import WRITES, Memory, words
from tests.simulation.protocol import Chaos, Protocol
from tests.simulation.truth import Truth
from tests.simulation.values import RedisError, Reply

Steps = Generator[int, None, None]  # yields how long it waits, in ms
Asking = Generator[int, None, Reply]
Word = bytes | str | int

AT = SHARD_KEYS[SHARD]
LEASE_MS = 1_200
TAIL_MS = 400  # what `everysec` may lose, in the simulation's shorter time
STEPS_MAX = 60_000  # a run that takes longer does not come to rest


class Process:
    """What dies together. `life` makes its first actor whenever it starts."""

    def __init__(self, name: str, life: Callable[[], Steps]) -> None:
        self.name, self.life = name, life
        self.alive = False
        self.epoch = 0  # of the connection to Redis


@dataclass(slots=True, eq=False)
class Actor:
    steps: Steps
    process: Process
    wake: int


class World:
    def __init__(self, seed: int, scripts: Scripts, protocol: Protocol, ledger: Ledger) -> None:
        self.rng = random.Random(seed)
        self.scripts, self.protocol, self.ledger = scripts, protocol, ledger
        self.now = 1_700_000_000_000
        self.skew = 0
        self.redis = Memory(lambda: self.now + self.skew)
        self.redis_up, self.epoch, self.started = True, 1, self.now - 10 * LEASE_MS
        self.lease_ms = LEASE_MS
        self.losses = 0  # times that Redis forgot something
        self.doubtful = True  # Redis may not say what the ledger says until it was set
        self.chaos = Chaos()
        self.filling: Process | None = None  # the drain that rebuilds just now
        self.ambush = False  # the next drain that has read is stopped, and Redis loses what it read
        self.truth = Truth()
        self.stale = False  # somebody may still act on what he knew long ago
        self.actors: list[Actor] = []
        self.steps = 0
        self.story: list[str] | None = None  # what happened, for whoever asks

    # the scheduler ------------------------------------------------------------------

    def start(self, process: Process) -> None:
        process.alive = True
        self.spawn(process.life(), process)

    def spawn(self, steps: Steps, process: Process, wait: int = 0) -> None:
        self.actors.append(Actor(steps, process, self.now + wait))

    def kill(self, process: Process) -> None:
        """Everything that it had in memory is gone; so is its transaction."""
        process.alive = False
        self.end_actors(process)

    def stop(self, process: Process, longest_ms: int = 2 * LEASE_MS) -> None:
        """As by SIGSTOP, for a while; it knows nothing of it."""
        pause, self.stale = self.between(50, longest_ms), True
        for actor in self.actors:
            if actor.process is process:
                actor.wake = max(actor.wake, self.now) + pause

    def end_actors(self, process: Process) -> None:
        self.actors = [a for a in self.actors if a.process is not process]
        if self.ledger.locked_by is process:
            self.ledger.locked_by = None

    def run(self, until: Callable[[], bool]) -> None:
        while not until():
            self.step()

    def step(self) -> None:
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise AssertionError("it does not come to rest")
        ready = [a for a in self.actors if a.wake <= self.now]
        if not ready:
            self.now = min(a.wake for a in self.actors)
            return
        actor = ready[int(self.rng.random() * len(ready))]
        self.now += self.rng.random() < 0.3
        try:
            wait = next(actor.steps)
        except StopIteration:
            self.actors.remove(actor)
        except (Away, Overtaken):
            # whoever does not catch it begins again as a whole
            self.end_actors(actor.process)
            self.spawn(actor.process.life(), actor.process, self.between(10, 60))
        else:
            if self.rng.random() < self.chaos.stop:
                wait += self.between(50, 2 * LEASE_MS)
                self.stale = True
            actor.wake = self.now + wait

    def between(self, low: int, high: int) -> int:
        return low + int(self.rng.random() * (high - low))

    def happens(self, probability: float) -> bool:
        return self.rng.random() < probability

    # Redis ----------------------------------------------------------------------------

    def script(self, process: Process, name: str, keys: Sequence[bytes], *args: Word) -> Asking:
        return self._ask(process, lambda: self._script(process, name, keys, args))

    def command(self, process: Process, *args: Word) -> Asking:
        name, *rest = words(args)
        return self._ask(process, lambda: self._command(process, name, rest))

    def script_behind(
        self, fence: str, process: Process, name: str, keys: Sequence[bytes], args: Sequence[Word]
    ) -> Asking:
        """A script that runs only while this fence stands."""

        def execute() -> Reply:
            self._check_fence(fence)
            return self._script(process, name, keys, (*args[:2], fence, *args[2:]))

        return self._ask(process, execute)

    def fence(self, process: Process, expected: bytes | None, fence: str) -> Asking:
        """Begins a rebuild, unless one has been finished since the generation was read."""

        def execute() -> Reply:
            if self.protocol.checks_fence and self.redis.call(b"HGET", AT.meta, b"gen") != expected:
                raise Overtaken("another rebuild was faster")
            self.tell(process.name, "fence", fence)
            self.redis.call(b"HSET", AT.meta, b"fenced", fence.encode())

        return self._ask(process, execute)

    def behind(self, fence: str, process: Process, writes: Sequence[Sequence[Word]]) -> Asking:
        """Changes of the shard's state, together, while this fence stands."""

        def execute() -> Reply:
            self._check_fence(fence)
            self.tell(process.name, "behind", fence, writes)
            self.redis.begin()
            for name, *rest in writes:
                self.redis.call(*words([name, AT.meta, *rest]))
            self.redis.end()

        return self._ask(process, execute)

    def _check_fence(self, fence: str) -> None:
        if self.protocol.checks_fence and self.redis.hash(AT.meta).get(b"fenced") != fence.encode():
            raise Overtaken("another fence")

    def _command(self, who: Process, name: bytes, rest: Sequence[bytes]) -> Reply:
        try:
            reply = self.redis.call(name, *rest)
        except RedisError as problem:
            raise Away(str(problem)) from None
        if name in WRITES:
            self.tell(who.name, name.decode(), rest, reply)
        return reply

    def tell(self, *what: object) -> None:
        if self.story is not None:
            self.story.append(f"{self.now % 1_000_000:>6} " + " ".join(map(str, what)))

    def _script(
        self, who: Process, name: str, keys: Sequence[bytes], args: Sequence[Word]
    ) -> Reply:
        figures = self.figures() if name == "resync" else None
        holds = set(self.redis.hash(AT.hold)) if name == "reap" else set()
        reply = self.scripts.run(self.redis, name, keys, words(args))
        self.tell(who.name, name, args, reply)
        self.truth.executed(self, name, keys, args, reply)
        if holds:
            self.truth.reaped(self, holds - set(self.redis.hash(AT.hold)))
        if figures is not None:
            self._was_set(figures, self.ledger.locked_by is who)
        elif not self.doubtful and self.happens(0.2):
            self.check_agreement()
        return reply

    def _ask(self, process: Process, execute: Callable[[], Reply]) -> Asking:
        yield self.rng.random() < 0.2
        if not self.redis_up:
            raise Away("Redis")
        if process.epoch != self.epoch:
            process.epoch = self.epoch
            raise Away("the connection has ended")
        if self.happens(self.chaos.late):
            self.stale = True
            self.spawn(self._later(self.epoch, execute), NOBODY, self.between(1, 2 * LEASE_MS))
            raise Away("no answer in time")
        reply = execute()
        if self.happens(self.chaos.reply_lost):
            raise Away("no answer")
        yield 0
        return reply

    def _later(self, epoch: int, execute: Callable[[], Reply]) -> Steps:
        if self.epoch == epoch and self.redis_up:
            with suppress(Away, Overtaken):
                execute()
        yield 0

    def restart_redis(self, lost: int | None) -> None:
        """Another run, without the newest `lost` writes; None: without anything."""
        self.tell("redis restarts without", "anything" if lost is None else lost)
        self.epoch += 1
        self.started, self.filling = self.now, None
        self.redis.run_id = b"%040x" % self.epoch
        if lost is None:
            self.redis.wipe()
        elif lost:
            self.redis.forget(lost)
        if lost != 0:
            self.losses += 1
            self.doubtful = True

    def young_writes(self) -> int:
        """How many `everysec` may lose."""
        return sum(at >= self.now - TAIL_MS for at, _ in self.redis.log)

    def may_spring(self, reader: Process) -> None:
        """Called by a drain between reading and booking."""
        if self.ambush:
            self.ambush = False
            self.stop(reader, LEASE_MS // 2)
            young = self.young_writes()
            self.restart_redis(young if self.happens(0.5) else self.between(0, young + 1))

    # Redis against the ledger -----------------------------------------------------------

    def figures(self) -> dict[str, tuple[int, int]]:
        """Of each count that the ledger knows: what Redis says, and what it should say."""
        spent: dict[str, int] = {}
        stream = self.redis.stream(AT.usage)
        for name, fields in zip(stream.sids, stream.fields, strict=True) if stream else ():
            said = dict(zip(fields[::2], fields[1::2], strict=True))
            if name > self.ledger.cursor and said[b"l"] == b"0":
                for owner in (said[b"p"] + b" " + said[b"b"]).decode().split():
                    spent[owner] = spent.get(owner, 0) + int(said[b"c"])
        applied = int(self.redis.hash(AT.meta).get(b"adjseq", b"0"))
        due: dict[str, int] = {}
        for _, owner, _, delta in self.ledger.outbox[applied:]:
            due[owner] = due.get(owner, 0) + delta
        found = {}
        for owner in self.ledger.pools():
            says = self.count(owner, b".b")
            minus = due.get(owner, 0) + spent.get(AT.prefix.decode() + owner, 0)
            found[owner] = (says, self.ledger.balance(owner) - minus)
        for owner, used in self.ledger.used.items():
            plus = spent.get(AT.prefix.decode() + owner, 0) - due.get(owner, 0)
            found[owner] = (self.count(owner, b".u"), used + plus)
        return found

    def count(self, owner: str, column: bytes) -> int:
        name, _, meter = owner.rpartition(":")
        text = self.redis.hash(AT.prefix + name.encode()).get(meter.encode() + column, b"0")
        return int(text)

    def check_agreement(self) -> None:
        """Holds between any two steps, unless Redis has forgotten something."""
        for owner, (says, should) in self.figures().items():
            assert says == should, f"drift: {owner} is {says} in Redis, should be {should}"

    def _was_set(self, before: dict[str, tuple[int, int]], has_lock: bool) -> None:
        """A resync may change only what a loss explains. One whose transaction was rolled back
        does not count: its generation is not the ledger's, so another will come.
        """
        if not has_lock:
            self.doubtful = True
            return
        if not self.doubtful:
            for owner, (said, should) in before.items():
                assert said == should, f"unexplained drift: {owner} was {said}, not {should}"
        self.doubtful = False
        self.check_agreement()


NOBODY = Process("nobody", lambda: iter(()))  # type: ignore[arg-type,return-value]
