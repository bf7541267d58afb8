"""Movements of credits: double entry, append only, each with an id made from its cause.

Inflows commit here first and reach Redis by the outbox. Never calls Redis itself.
"""

from collections.abc import Sequence
from hashlib import blake2b
from uuid import UUID

from control import sql
from control.database import Connection
from proxy.pricing import AMOUNT_MAX_UCR

# What each kind of inflow is taken from, on our side of the books.
HOUSE = {
    "grant": "promo",
    "purchase": "adjustment",
    "refund": "adjustment",
    "adjustment": "adjustment",
}


class LedgerError(ValueError):
    """A movement cannot be booked; the sentence says why."""


def pool_owner(organisation: UUID) -> str:
    """The organisation's pool as an account and as owner and meter in Redis."""
    return f"o:{organisation}:pool"


def transfer_id(code: str, owner: str, ref: str) -> bytes:
    """Made from the cause, so that a replay collides instead of booking twice."""
    return blake2b(f"{code}\n{owner}\n{ref}".encode(), digest_size=16).digest()


async def grant(
    conn: Connection, organisation: UUID, amount: int, ref: str, actor: str, code: str = "grant"
) -> int:
    """Adds credits to a pool, in the caller's transaction; returns the balance after.

    The same code and ref again change nothing; with another amount they are refused.
    """
    if not 0 < amount <= AMOUNT_MAX_UCR:
        raise LedgerError(f"An amount lies between 1 and {AMOUNT_MAX_UCR} micro-credits.")
    query = sql.load()
    shard = await conn.fetchval(query["organisation_shard"], organisation)
    if shard is None:
        raise LedgerError("There is no such organisation.")
    await conn.fetch(query["shard_lock"], [shard])
    owner = pool_owner(organisation)
    pool = await account(conn, "pool", shard, owner)
    house = await account(conn, HOUSE[code], shard, "")
    id = transfer_id(code, owner, ref)
    made = await conn.fetchval(query["transfer_add"], id, house, pool, amount, code, ref, actor)
    if made is None:
        before = await conn.fetchrow(query["transfer_get"], id)
        if before is not None and before["amount"] != amount:
            raise LedgerError(
                f"{ref!r} was booked before with another amount; give it another ref."
            )
        return await _balance(conn, pool)
    first, second = sorted(((pool, 0, amount), (house, amount, 0)))
    await conn.fetch(query["account_lock"], [first[0], second[0]])
    await conn.execute(query["account_move"], *map(list, zip(first, second, strict=True)))
    after = await _balance(conn, pool)
    if after > AMOUNT_MAX_UCR:
        raise LedgerError("The pool would hold more than an amount can be; grant less.")
    await outbox(conn, shard, [(owner, "b", amount)], f"{code}: {ref}")
    return after


async def outbox(
    conn: Connection,
    shard: int,
    rows: Sequence[tuple[str, str, int]],
    ref: str,
    windows: Sequence[int] | None = None,
) -> None:
    """Tells Redis of changes (owner, field, delta), numbered without a gap; the shard is locked.
    `windows`: when each one's began, where any has one."""
    query, count = sql.load(), len(rows)
    last = await conn.fetchval(query["shard_outseq"], shard, count)
    owners, columns, deltas = map(list, zip(*rows, strict=True))
    numbers = list(range(last - count + 1, last + 1))
    shards, refs = [shard] * count, [ref] * count
    begun = [0] * count if windows is None else list(windows)
    args = (shards, numbers, owners, columns, deltas, begun, refs)
    await conn.execute(query["outbox_redis_add"], *args)


async def balance(conn: Connection, organisation: UUID) -> int:
    """What the ledger says; Redis may be ahead by requests that are not booked yet."""
    found = await conn.fetchval(sql.load()["pool_balance"], pool_owner(organisation))
    return int(found or 0)


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
