"""Credits from one pool to another: between organisations, and between an organisation's pool and
what its members have of their own. Outflow first: see outflows.py.
"""

from dataclasses import dataclass

from control import sql
from control.books import ledger, outflows
from control.books.ledger import Change, LedgerError, Purse
from control.books.outflows import RedisNotReady
from control.database import Connection
from control.store import Store

CODE = "move"


@dataclass(frozen=True, slots=True)
class Move:
    """From whom to whom, and why: the same ref from the same pool is booked once."""

    source: Purse
    target: Purse
    amount: int
    ref: str

    @property
    def id(self) -> bytes:
        return ledger.transfer_id(CODE, self.source.owner, self.ref)

    @property
    def hold(self) -> str:
        """The name of its reservation; another amount under the same ref is another one."""
        return f"move:{self.id.hex()}:{self.amount}"


@dataclass(frozen=True, slots=True)
class Balances:
    """Of both pools, after the move."""

    source: int
    target: int


async def move(conn: Connection, redis: Store, wanted: Move, actor: str) -> Balances:
    """In the caller's transaction; LedgerError, TooFew or RedisNotReady where it cannot be done.
    Whatever ends the transaction, what was reserved is taken with its commit or given back.
    """
    ledger.require_amount(wanted.amount)
    if wanted.source == wanted.target:
        raise LedgerError("These are the same credits; name another target.")
    source = await ledger.shard_of(conn, wanted.source.organisation)
    target = await ledger.shard_of(conn, wanted.target.organisation)
    await outflows.lock(conn, wanted.hold)
    if not await _is_booked(conn, wanted):
        owner = wanted.source.owner
        generation = await outflows.reserve(redis, source, owner, wanted.amount, wanted.hold)
        await _book(conn, wanted, actor, (source, target), generation)
    return Balances(await _balance(conn, wanted.source), await _balance(conn, wanted.target))


async def _book(
    conn: Connection, wanted: Move, actor: str, shards: tuple[int, int], generation: int
) -> None:
    query, (source, target) = sql.load(), shards
    rows = await conn.fetch(query["shard_lock"], sorted({source, target}))
    # a shard that was filled anew since may have lost the reservation
    if {row["id"]: row["generation"] for row in rows}[source] != generation:
        raise RedisNotReady("the shard was filled anew")
    debit = await ledger.account(conn, "pool", source, wanted.source.owner)
    credit = await ledger.account(conn, "pool", target, wanted.target.owner)
    row = (debit, credit, wanted.amount, CODE, wanted.ref, actor)
    if await conn.fetchval(query["transfer_add"], wanted.id, *row) is None:
        raise LedgerError(f"{wanted.ref!r} was booked this moment with another amount.")
    await ledger.post(conn, debit, credit, wanted.amount)
    out = Change(wanted.source.owner, "b", -wanted.amount, hold=wanted.hold)
    into = Change(wanted.target.owner, "b", wanted.amount)
    for shard, change in ((source, out), (target, into)):
        await ledger.outbox(conn, shard, [change], f"{CODE}: {wanted.ref}")


async def _balance(conn: Connection, purse: Purse) -> int:
    return await ledger.balance(conn, purse.organisation, purse.person)


async def _is_booked(conn: Connection, wanted: Move) -> bool:
    row = await conn.fetchrow(sql.load()["transfer_get"], wanted.id)
    if row and (row["amount"], row["owner"]) != (wanted.amount, wanted.target.owner):
        raise LedgerError(
            f"{wanted.ref!r} was booked before with another amount or target; give it another ref."
        )
    return row is not None
