"""Movements of credits: double entry, append only, each with an id made from its cause.

Inflows commit here first and reach Redis by the outbox. Never calls Redis itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID

from control import sql
from control.database import Connection
from proxy.costs.pricing import AMOUNT_MAX_UCR

# What each kind of movement is taken from, or goes to, on our side of the books.
HOUSE = {
    "grant": "promo",
    "purchase": "adjustment",
    "refund": "adjustment",
    "adjustment": "adjustment",
    "expiry": "promo",
}


class LedgerError(ValueError):
    """A movement cannot be booked; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Purse:
    """Whose credits: an organisation's pool, or what a member of it has of his own."""

    organisation: UUID
    person: UUID | None = None

    @property
    def owner(self) -> str:
        """As an account, and as owner and meter in Redis."""
        if self.person is None:
            return f"o:{self.organisation}:pool"
        return f"w:m:{self.organisation}:{self.person}:pool"


class Change(NamedTuple):
    """What Redis is to learn: of which owner and meter, which field, by how much."""

    owner: str
    field: str
    delta: int
    window: int = 0  # when the window of a count began
    hold: str | None = None  # the reservation that ends with it


def transfer_id(code: str, owner: str, ref: str) -> bytes:
    """Made from the cause, so that a replay collides instead of booking twice."""
    return blake2b(f"{code}\n{owner}\n{ref}".encode(), digest_size=16).digest()


async def grant(
    conn: Connection,
    organisation: UUID,
    amount: int,
    ref: str,
    actor: str,
    code: str = "grant",
    person: UUID | None = None,
) -> int:
    """Adds credits to a pool, in the caller's transaction; returns the balance after.

    The same code and ref again change nothing; with another amount they are refused.
    """
    require_amount(amount)
    query, owner = sql.load(), Purse(organisation, person).owner
    shard = await shard_of(conn, organisation)
    await conn.fetch(query["shard_lock"], [shard])
    pool = await account(conn, "pool", shard, owner)
    house = await account(conn, HOUSE[code], shard, "")
    id = transfer_id(code, owner, ref)
    made = await conn.fetchval(query["transfer_add"], id, house, pool, amount, code, ref, actor)
    if made is None:
        before = await conn.fetchrow(query["transfer_get"], id)
        if before is not None and (before["amount"], before["owner"]) != (amount, owner):
            raise LedgerError(
                f"{ref!r} was booked before with another amount; give it another ref."
            )
        return await _balance(conn, pool)
    await post(conn, house, pool, amount)
    await outbox(conn, shard, [Change(owner, "b", amount)], f"{code}: {ref}")
    return await _balance(conn, pool)


async def post(conn: Connection, debit: int, credit: int, amount: int) -> None:
    """Moves the totals of two accounts. No pool holds more than an amount can be."""
    query = sql.load()
    first, second = sorted(((credit, 0, amount), (debit, amount, 0)))
    await conn.fetch(query["account_lock"], [first[0], second[0]])
    await conn.execute(query["account_move"], *map(list, zip(first, second, strict=True)))
    if await _balance(conn, credit) > AMOUNT_MAX_UCR:
        raise LedgerError("The pool would hold more than an amount can be; take less.")


async def outbox(conn: Connection, shard: int, rows: Sequence[Change], ref: str) -> None:
    """Tells Redis of changes, numbered without a gap; the shard is locked."""
    query, count = sql.load(), len(rows)
    last = await conn.fetchval(query["shard_outseq"], shard, count)
    columns = map(list, zip(*rows, strict=True))
    numbers = list(range(last - count + 1, last + 1))
    shards, refs = [shard] * count, [ref] * count
    await conn.execute(query["outbox_redis_add"], shards, numbers, *columns, refs)


def require_amount(amount: int) -> None:
    if not 0 < amount <= AMOUNT_MAX_UCR:
        raise LedgerError(f"An amount lies between 1 and {AMOUNT_MAX_UCR} micro-credits.")


async def shard_of(conn: Connection, organisation: UUID) -> int:
    shard = await conn.fetchval(sql.load()["organisation_shard"], organisation)
    if shard is None:
        raise LedgerError("There is no such organisation.")
    return int(shard)


async def balance(conn: Connection, organisation: UUID, person: UUID | None = None) -> int:
    """What the ledger says; Redis may be ahead by requests that are not booked yet."""
    owner = Purse(organisation, person).owner
    return int(await conn.fetchval(sql.load()["pool_balance"], organisation, owner) or 0)


async def account(conn: Connection, kind: str, shard: int, owner: str) -> int:
    """The account's id; made where it is not there yet."""
    query = sql.load()
    found = await conn.fetchval(query["account_find"], kind, shard, owner)
    if found is None:
        await conn.execute(query["account_add"], kind, shard, owner)
        found = await conn.fetchval(query["account_find"], kind, shard, owner)
    return int(found)


async def _balance(conn: Connection, pool: int) -> int:
    return int(await conn.fetchval(sql.load()["account_balance"], pool))
