"""One run: a world from a seed, chaos, calm, and the check."""

import sys

from control.books.booking import judge
from tests.simulation.check import at_rest, check
from tests.simulation.drain import Drain
from tests.simulation.fate import Fate, make_chaos
from tests.simulation.ledger import Judge, Ledger
from tests.simulation.lua import Scripts, product_texts
from tests.simulation.protocol import Chaos, Protocol
from tests.simulation.proxy import KEYS, ORGANISATIONS, POOLS, Proxy
from tests.simulation.world import AT, LEASE_MS, World

PROXIES, DRAINS = 2, 2
BALANCE = 2_500
AS_DESIGNED = Protocol()


def simulate(
    seed: int,
    scripts: Scripts,
    protocol: Protocol = AS_DESIGNED,
    rule: Judge = judge,
    story: list[str] | None = None,
    counts_jobs: bool = True,
) -> World:
    """Raises AssertionError, told with its seed, where a promise is broken; `story` fills with
    what happened.
    """
    ledger = Ledger(judge=rule)
    ledger.compares_cursor = protocol.compares_cursor
    ledger.compares_generation = protocol.compares_generation
    world = World(seed, scripts, protocol, ledger)
    world.story = story
    world.truth.counts_jobs = counts_jobs
    try:
        _run(world)
    except Exception as problem:
        problem.add_note(f"seed {seed}, step {world.steps}, chaos {world.chaos}")
        raise
    return world


def _run(world: World) -> None:
    _fill(world)
    proxies = [Proxy(world, nth) for nth in range(PROXIES)]
    drains = [Drain(world, nth) for nth in range(DRAINS)]
    fate = Fate(world, proxies, drains)
    processes = [proxy.process for proxy in proxies] + [drain.process for drain in drains]
    for process in processes:
        world.start(process)
    world.run(lambda: not world.doubtful and b"gen" in world.redis.hash(AT.meta))
    world.chaos = make_chaos(world)
    world.start(fate.process)
    world.run(lambda: fate.over)
    world.chaos = Chaos()
    calm_from = world.now + 2 * LEASE_MS
    world.run(lambda: world.now > calm_from and all(p.alive for p in processes))
    world.run(lambda: world.steps % 8 == 0 and at_rest(world, proxies))
    check(world)


def _fill(world: World) -> None:
    ledger = world.ledger
    for organisation, pool in zip(ORGANISATIONS, POOLS, strict=True):
        ledger.record(AT.organisation(organisation), st="active", body="{}")
        world.truth.inflows["first " + pool] = BALANCE
        ledger.grant(pool, BALANCE, "first " + pool)
    for key in KEYS:
        limits = {"par.l": "5", "bud.l": "4000"}
        ledger.record(key, st="active", digest="00", exp="0", body="{}", **limits)


def tell(seed: int) -> None:
    """What happened in one run, step by step: `python -m tests.simulation.run 7`."""
    story: list[str] = []
    try:
        simulate(seed, Scripts(product_texts()), story=story)
    finally:
        sys.stdout.write("\n".join(story) + "\n")


if __name__ == "__main__":
    tell(int(sys.argv[1]))
