"""Credits that move from one pool to another, as control/books/moves.py and outflows.py do it:
reserved in Redis, then booked; and the drain's look at what was left over.
"""

from tests.simulation.world import AT, LEASE_MS, Process, Steps, World


def move(world: World, process: Process, name: str, source: str, target: str, amount: int) -> Steps:
    """May end anywhere: the lock of the ledger's ends with it."""
    ledger, mine = world.ledger, object()
    while not ledger.up or name in ledger.booking:
        yield 20
    ledger.booking[name] = mine
    try:
        if name in ledger.moves:
            return
        losses = world.losses
        keys = [AT.meta, AT.hold, AT.out, AT.prefix + source.rpartition(":")[0].encode()]
        reply = yield from world.script(process, "reserve", keys, name, "pool", str(amount))
        if reply[0] != b"OK" or world.happens(0.3):
            return
        generation = int(reply[1])
        yield world.between(0, 2 * LEASE_MS if world.happens(0.3) else 8)
        if ledger.booking.get(name) is not mine or ledger.locked_by is not None:
            return  # the connection has ended, or somebody waits too long for the shard
        if generation == ledger.generation:
            if losses == world.losses and not world.doubtful:
                there = name.encode() in world.redis.hash(AT.hold)
                assert there, f"{name} was given back while it was being booked"
            ledger.move(name, source, target, amount)
    finally:
        if ledger.booking.get(name) is mine:
            del ledger.booking[name]


def sweep(world: World, process: Process) -> Steps:
    """One look of a drain."""
    before = str(world.now + world.skew - LEASE_MS)
    names = yield from world.command(process, "ZRANGEBYSCORE", AT.out, "-inf", before)
    for name in names:
        yield world.between(0, 8)
        yield from _end(world, process, name.decode())


def _end(world: World, process: Process, name: str) -> Steps:
    ledger, mine = world.ledger, object()
    ledger.check_up()
    if name in ledger.booking and world.protocol.sees_who_books:
        return
    ledger.booking.setdefault(name, mine)
    try:
        found = yield from world.command(process, "HGET", AT.meta, "adjseq")
        applied = int(found or 0)
        yield world.between(0, 8)
        ledger.check_up()
        if world.protocol.sees_what_waits and ledger.waits(name, applied):
            return
        hold = yield from world.command(process, "HGET", AT.hold, name)
        owner = hold.split(b"|")[1].split(b" ")[0] if hold else AT.meta
        keys = [AT.meta, AT.hold, AT.out, owner]
        yield from world.script(process, "release", keys, name, str(applied))
    finally:
        if ledger.booking.get(name) is mine:
            del ledger.booking[name]
