"""Credits that are given or taken for another cause than a purchase or a grant: adjustments,
expiry, refunds of requests. Each is one transfer, whose ref is booked once.
"""

from dataclasses import dataclass
from uuid import UUID

from control import sql
from control.books import ledger, outflows
from control.books.ledger import HOUSE, Change, LedgerError, Purse
from control.books.outflows import RedisNotReady
from control.database import Connection
from control.store import Store


@dataclass(frozen=True, slots=True)
class Taking:
    """What is taken out of a pool, and why. Only what running requests do not hold."""

    purse: Purse
    amount: int
    code: str  # adjustment, expiry
    ref: str

    @property
    def id(self) -> bytes:
        return ledger.transfer_id(self.code, self.purse.owner, self.ref)

    @property
    def hold(self) -> str:
        """The name of its reservation; another amount under the same ref is another one."""
        return f"{self.code}:{self.id.hex()}:{self.amount}"


async def take(conn: Connection, redis: Store, wanted: Taking, actor: str) -> int:
    """In the caller's transaction; the balance after. LedgerError, TooFew or RedisNotReady where it
    cannot be done: then what was reserved is given back.
    """
    ledger.require_amount(wanted.amount)
    shard = await ledger.shard_of(conn, wanted.purse.organisation)
    await outflows.lock(conn, wanted.hold)
    if not await _is_booked(conn, wanted):
        owner, amount = wanted.purse.owner, wanted.amount
        generation = await outflows.reserve(redis, shard, owner, amount, wanted.hold)
        await _book(conn, wanted, actor, shard, generation)
    return await ledger.balance(conn, wanted.purse.organisation, wanted.purse.person)


async def refund(
    conn: Connection, request: UUID, amount: int | None, actor: str
) -> tuple[Purse, int, int]:
    """Gives back what a request has cost, or a part of it, to the pool that paid: once. Whose, how
    much, and the balance after.
    """
    row = await conn.fetchrow(sql.load()["refund_of"], request)
    if row is None:
        raise LedgerError("No charge of this request is booked, so nothing is given back.")
    wanted = row["cost"] if amount is None else amount
    if wanted > row["cost"]:
        raise LedgerError("The request has cost less than that.")
    _, organisation, *person = row["owner"].removesuffix(":pool").removeprefix("w:").split(":")
    purse = Purse(UUID(organisation), UUID(person[0]) if person else None)
    cause = (wanted, str(request), actor)
    left = await ledger.grant(conn, purse.organisation, *cause, code="refund", person=purse.person)
    return purse, wanted, left


async def _book(conn: Connection, wanted: Taking, actor: str, shard: int, generation: int) -> None:
    query = sql.load()
    [row] = await conn.fetch(query["shard_lock"], [shard])
    if row["generation"] != generation:  # the reservation may be lost
        raise RedisNotReady("the shard was filled anew")
    pool = await ledger.account(conn, "pool", shard, wanted.purse.owner)
    house = await ledger.account(conn, HOUSE[wanted.code], shard, "")
    cause = (wanted.amount, wanted.code, wanted.ref, actor)
    if await conn.fetchval(query["transfer_add"], wanted.id, pool, house, *cause) is None:
        raise LedgerError(f"{wanted.ref!r} was booked this moment with another amount.")
    await ledger.post(conn, pool, house, wanted.amount)
    change = Change(wanted.purse.owner, "b", -wanted.amount, hold=wanted.hold)
    await ledger.outbox(conn, shard, [change], f"{wanted.code}: {wanted.ref}")


async def _is_booked(conn: Connection, wanted: Taking) -> bool:
    row = await conn.fetchrow(sql.load()["transfer_get"], wanted.id)
    if row and (row["amount"], row["owner"]) != (wanted.amount, ""):
        raise LedgerError(
            f"{wanted.ref!r} was booked before with another amount; give it another ref."
        )
    return row is not None
