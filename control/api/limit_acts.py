"""What is done to limits: who may, how many there may be, and which records change with them.

A limit that the platform set is loosened by the platform alone; others add tighter ones beside it.
"""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from control import sql
from control.api.limit_shapes import (
    RULES_PER_SUBJECT_MAX,
    LimitEdit,
    LimitTerms,
    amount_of,
    require_watched,
    shown,
)
from control.api.write import Change, Done
from control.auth import require_above, scope
from control.database import Connection, Pool
from control.errors import Conflict, GrantTooHigh, Invalid, NotFound, RoleMissing
from plugins.access import Caller

RULES_PER_ORGANISATION_MAX = 10_000


def missing() -> NotFound:
    return NotFound(what="limit", listing="opscenter limit list")


def require_seen(caller: Caller, organisation: UUID) -> None:
    if scope(caller) not in (None, organisation):
        raise _no_organisation()


async def require_there(conn: Connection | Pool, caller: Caller, organisation: UUID) -> None:
    """The organisation is there, and the caller may see it."""
    if await conn.fetchrow(sql.load()["organisation_show"], organisation, scope(caller)) is None:
        raise _no_organisation()


async def lock_organisation(conn: Connection, caller: Caller, organisation: UUID) -> None:
    """Limits and teams of an organisation change one after the other, and no key is made meanwhile
    that would not know of them."""
    require_seen(caller, organisation)
    if await conn.fetchrow(sql.load()["organisation_lock"], organisation) is None:
        raise _no_organisation()


def _no_organisation() -> NotFound:
    return NotFound(what="organisation", listing="opscenter org list")


async def add(
    conn: Connection,
    organisation: UUID | None,
    level: str,
    subject: str,
    terms: LimitTerms,
    by_platform: bool,
) -> asyncpg.Record:
    query = sql.load()
    if terms.model and await conn.fetch(query["models_unknown"], [terms.model]):
        raise Invalid("model", why=f"There is no model {terms.model} here.")
    found = await conn.fetchrow(query["limit_count"], organisation, level, subject)
    assert found is not None
    if found["of_subject"] >= RULES_PER_SUBJECT_MAX:
        raise Conflict(why=f"Nothing has more than {RULES_PER_SUBJECT_MAX} limits; remove one.")
    if organisation is not None and found["in_all"] >= RULES_PER_ORGANISATION_MAX:
        raise Conflict(
            why=f"No organisation has more than {RULES_PER_ORGANISATION_MAX} limits; remove some."
        )
    row = (organisation, level, subject, *terms.columns(), by_platform)
    made = await conn.fetchrow(query["limit_add"], *row)
    assert made is not None
    return made


async def edit(conn: Connection, caller: Caller, rule: asyncpg.Record, given: LimitEdit) -> Done:
    amount, soft = rule["amount"], rule["soft"]
    if "amount" in given.model_fields_set:
        amount = _amount(rule["unit"], given.amount)
    if "warn_at" in given.model_fields_set:
        soft = given.warn_at
    try:
        require_watched(rule["unit"], rule["window_kind"], soft)
    except ValueError as problem:
        raise Invalid("warn_at", why=f"This cannot be watched: {problem}.") from None
    await require_own(conn, caller, rule, amount)
    row = await conn.fetchrow(sql.load()["limit_edit"], rule["id"], amount, soft)
    assert row is not None
    return Done(shown(row))


def _amount(unit: str, given: int | str | None) -> int:
    try:
        return amount_of(unit, "" if given is None else given)
    except ValueError as problem:
        raise Invalid("amount", why=f"The amount cannot be used: {problem}.") from None


# Who may ------------------------------------------------------------------------------


async def govern(
    conn: Connection, caller: Caller, organisation: UUID, level: str, subject: str
) -> None:
    """Keys and people: whoever stands above them. The rest: administrators."""
    if level == "key":
        person, role = await _key(conn, organisation, subject)
        if person != caller.person:
            require_above(caller, role)
    elif level == "person":
        require_above(caller, await _role(conn, organisation, subject))
    else:
        require_admin(caller)
        if level == "team":
            await team(conn, organisation, _id(subject, "team"))


def require_admin(caller: Caller) -> None:
    if not caller.platform and caller.role != "admin":
        raise RoleMissing(needed="admin", held=caller.role)


async def require_own(
    conn: Connection, caller: Caller, rule: asyncpg.Record, amount: int | None
) -> None:
    """What the platform set is not loosened by others, nor anything by a key that has limits of
    its own; `amount` None: it is taken away."""
    if amount is not None and amount <= rule["amount"]:
        return
    if rule["by_platform"] and not caller.platform:
        raise GrantTooHigh(why="the platform set this limit; you may add a tighter one beside it")
    if await rules_of_caller(conn, caller):
        raise GrantTooHigh(why="the key that you use has limits of its own, so it loosens none")


async def rules_of_caller(conn: Connection, caller: Caller) -> list[asyncpg.Record]:
    """Those of the key that calls; a person who signed in has none here."""
    if not caller.actor.startswith("key:"):
        return []
    return await conn.fetch(sql.load()["limit_of_key"], caller.actor.removeprefix("key:"))


async def team(conn: Connection, organisation: UUID, id: UUID) -> asyncpg.Record:
    row = await conn.fetchrow(sql.load()["team_list"], organisation, id, None, 1)
    if row is None:
        raise NotFound(what="team", listing="opscenter team list")
    return row


async def _key(conn: Connection, organisation: UUID, kid: str) -> tuple[UUID, str]:
    row = await conn.fetchrow(sql.load()["limit_key"], organisation, kid)
    if row is None:
        raise NotFound(what="API key", listing="opscenter key list")
    return row["person"], row["role"]


async def _role(conn: Connection, organisation: UUID, person: str) -> str:
    who = _id(person, "user")
    row = await conn.fetchrow(sql.load()["membership_get"], organisation, who)
    if row is None:
        raise NotFound(what="user in this organisation", listing="opscenter user list")
    return str(row["role"])


def _id(text: str, what: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Invalid("subject", why=f"The subject of this limit is the id of a {what}.") from None


# What changes with them ---------------------------------------------------------------


async def changes_of(
    conn: Connection, organisation: UUID, level: str, subject: str
) -> list[Change]:
    """The records that name a limit of this subject."""
    query = sql.load()
    if level == "key":
        return [Change("key", subject)]
    if level == "person":
        return await changes_of_people(conn, organisation, [UUID(subject)])
    if level == "team":
        rows = await conn.fetch(query["team_people"], organisation, UUID(subject))
        return await changes_of_people(conn, organisation, [row["person"] for row in rows])
    return [Change("organisation", str(organisation))]


async def changes_of_people(
    conn: Connection, organisation: UUID, people: Sequence[UUID]
) -> list[Change]:
    rows = await conn.fetch(sql.load()["records_of_members"], organisation, list(people))
    return [Change(row["kind"], row["id"]) for row in rows]
