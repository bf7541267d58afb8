"""After a run has come to rest: what must be true, whatever happened."""

from tests.simulation.proxy import POOLS, Proxy
from tests.simulation.truth import Request
from tests.simulation.world import AT, World


def at_rest(world: World, proxies: list[Proxy]) -> bool:
    redis, ledger = world.redis.data, world.ledger
    if any(name in redis for name in (AT.lease, AT.hold, AT.out)):
        return False
    if any(proxy.journal for proxy in proxies):
        return False
    meta = world.redis.hash(AT.meta)
    filled = meta.get(b"gen") == b"%d" % ledger.generation and b"fenced" not in meta
    pushed = int(meta.get(b"adjseq", b"0")) == ledger.outseq and not ledger.unpublished
    stream = world.redis.stream(AT.usage)
    return filled and pushed and not world.doubtful and not (stream and stream.sids)


def check(world: World) -> None:
    _ledger(world)
    _redis(world)
    for request in world.truth.requests.values():
        _request(world, request)


def _ledger(world: World) -> None:
    ledger, truth = world.ledger, world.truth
    debits = sum(d for d, _ in ledger.totals.values())
    assert debits == sum(c for _, c in ledger.totals.values()), "I1: debits are not credits"
    assert not ledger.dead, f"dead letters: {ledger.dead}"
    assert {ref: a for ref, (_, a) in ledger.grants.items()} == truth.inflows, "I9: inflows"
    for pool in POOLS:
        inflow = sum(amount for owner, amount in ledger.grants.values() if owner == pool)
        spent = sum(r.amount for rows in ledger.rows.values() for r in rows if r.owner == pool)
        moved = sum(
            amount * ((target == pool) - (source == pool))
            for source, target, amount in ledger.moves.values()
        )
        assert ledger.balance(pool) == inflow - spent + moved, f"I2: {pool}"
    for budget, used in ledger.used.items():
        spent = sum(r.amount for rows in ledger.rows.values() for r in rows if budget in r.budgets)
        assert used == spent, f"I2: {budget} has {used}, by rows {spent}"


def _redis(world: World) -> None:
    world.check_agreement()
    assert AT.tomb not in world.redis.data, f"a tombstone leaked: {world.redis.hash(AT.tomb)}"
    for name, fields in world.redis.data.items():
        if isinstance(fields, dict):
            left = {f: v for f, v in fields.items() if f.endswith(b".h") and v != b"0"}
            assert not left, f"I4: {name!r} still holds {left}"
    for name, record in world.ledger.records.items():
        says = world.redis.hash(name).get(b"ver")
        assert says == b"%d" % record.version, f"I8: {name!r} has version {says!r} in Redis"


def _request(world: World, request: Request) -> None:
    rows = world.ledger.rows.get(request.rid, [])
    kinds = [row.kind for row in rows]
    assert kinds in ([], ["settled"], ["released"], ["orphan"], ["orphan", "correction"]), kinds
    total, admitted = sum(row.amount for row in rows), request.losses_at_admission
    if admitted is None:
        assert not rows, f"{request.rid} was never admitted and has {rows}"
        return
    known = not request.journal_lost
    if request.cost is not None and known:
        assert rows, f"I5: {request.rid} cost {request.cost} and has no row"
        assert total == request.cost, f"{request.rid}: charged {total}, cost {request.cost}: {rows}"
        return
    lost = world.losses != admitted
    assert rows or (lost and (request.journal_lost or not request.journaled)), f"I5: {request.rid}"
    allowed = request.sent | ({request.cost} if request.cost is not None else set())
    assert total in allowed, f"{request.rid}: charged {total}, one of {allowed} was due"
    if not lost and kinds == ["orphan"]:
        assert total >= request.noted, f"{request.rid}: {total} charged, {request.noted} noted"
