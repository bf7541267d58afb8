"""What is done to API keys, for their owners and for others: each in one transaction, and in force
for the next request when it is answered.
"""

from collections.abc import Sequence
from uuid import UUID

import asyncpg
from fastapi import Request, Response

from control import sql
from control.access import NewKey, add_key, listed
from control.api import limit_acts
from control.api.bounds import RULE, Rule, Terms, require_within, terms_of
from control.api.key_shapes import ApiKey, KeyEdit, KeyTerms, KeyWanted, masked, whole
from control.api.shapes import Page
from control.api.write import Act, Change, Done, write
from control.auth import require_above, scope
from control.database import Connection
from control.errors import Conflict, Invalid, NotFound
from control.state import state_of
from plugins.access import Caller
from proxy.who import keys

KEYS_MAX = 1000  # living ones per person


async def list_(
    request: Request, person: UUID, organisation: UUID | None, limit: int, cursor: str | None
) -> Page[ApiKey]:
    rows = await state_of(request).pool.fetch(
        sql.load()["api_key_list"], person, organisation, cursor, limit + 1
    )
    more = rows[limit - 1]["kid"] if len(rows) > limit else None
    return Page(data=[masked(row) for row in rows[:limit]], next=more)


async def show(request: Request, person: UUID, organisation: UUID | None, kid: str) -> ApiKey:
    async with state_of(request).pool.acquire() as conn:
        return masked(await _found(conn, person, organisation, kid))


async def create(
    request: Request, caller: Caller, person: UUID, organisation: UUID | None, given: KeyWanted
) -> Response:
    state = state_of(request)
    async with state.pool.acquire() as conn:
        member = await member_of(conn, caller, person, organisation)
    key = keys.mint(member["shard"])
    terms = _terms(given, [one.columns()[: len(RULE)] for one in given.limits])
    wanted = NewKey(
        organisation=member["organisation"],
        shard=member["shard"],
        person=person,
        name=given.name,
        models=terms.models,
        parallel_max=terms.parallel_max,
        expires_at=terms.expires_at,
        budget_ucr=terms.budget_ucr,
        routes=terms.routes,
        addresses=terms.addresses,
        tags=given.tags,
        pay=terms.pay,
        scopes=terms.scopes,
    )

    async def effect(conn: Connection) -> Done:
        if person != caller.person:
            require_above(caller, member["role"])
        if await conn.fetchval(sql.load()["api_key_count"], person) >= KEYS_MAX:
            raise Conflict(why=f"Nobody has more than {KEYS_MAX} keys; revoke one first.")
        await _check(conn, caller, terms)
        await conn.execute(sql.load()["organisation_share"], wanted.organisation)
        await add_key(conn, state.keys, key, wanted)
        for one in given.limits:
            of = (wanted.organisation, "key", key.kid)
            await limit_acts.add(conn, *of, one, caller.platform)
        row = await _found(conn, person, None, key.kid)
        return Done(whole(row, key), 201, [Change("key", key.kid)])

    detail = given.model_dump(mode="json") | {"user": str(person)}
    act = Act("key.create", f"key:{key.kid}", wanted.organisation, detail)
    return await write(request, caller, act, effect)


async def edit(
    request: Request,
    caller: Caller,
    person: UUID,
    organisation: UUID | None,
    kid: str,
    given: KeyEdit,
) -> Response:
    sent = given.model_fields_set
    if "name" in sent and not given.name:
        raise Invalid("name", why="A key has a name of 1 to 200 letters.")

    async def effect(conn: Connection) -> Done:
        row = await _governed(conn, caller, person, organisation, kid)
        new = {**dict(row), **{name: getattr(given, name) for name in sent}}
        if "budget" in sent:
            new["budget_ucr"] = given.budget
        await _check(conn, caller, terms_of(new))
        lists = [listed(new[name]) for name in ("models", "routes", "addresses")]
        named = ("tags", "parallel_max", "budget_ucr", "expires_at", "pay", "scopes")
        rest = [new[name] for name in named]
        await conn.execute(sql.load()["api_key_edit"], kid, new["name"], *lists, *rest)
        return await _done(conn, person, kid)

    detail = given.model_dump(mode="json", include=sent)
    act = Act("key.edit", f"key:{kid}", organisation or caller.organisation, detail)
    return await write(request, caller, act, effect)


async def set_status(
    request: Request,
    caller: Caller,
    person: UUID,
    organisation: UUID | None,
    kid: str,
    status: str,
) -> Response:
    """Revoked is for good, and again is no mistake."""

    async def effect(conn: Connection) -> Done:
        row = await _governed(conn, caller, person, organisation, kid, alive=status != "revoked")
        if status == "active":
            await _check(conn, caller, terms_of(dict(row)))
        await conn.execute(sql.load()["api_key_status"], kid, status)
        return await _done(conn, person, kid)

    action = {"active": "unblock", "blocked": "block", "revoked": "revoke"}[status]
    act = Act(f"key.{action}", f"key:{kid}", organisation or caller.organisation)
    return await write(request, caller, act, effect)


async def rotate(
    request: Request,
    caller: Caller,
    person: UUID,
    organisation: UUID | None,
    kid: str,
    overlap_s: int,
) -> Response:
    """A new secret; name, limits, budget and what was used stay the key's."""
    ring = state_of(request).keys

    async def effect(conn: Connection) -> Done:
        row = await _governed(conn, caller, person, organisation, kid)
        await _check(conn, caller, terms_of(dict(row)))
        held = await conn.fetchrow(sql.load()["api_key_lock"], kid)
        assert held is not None
        key, pepper = keys.mint(held["shard"], kid), ring.pepper_version
        digest = ring.digest(key.text, pepper)
        rotated = (kid, digest, pepper, key.text[-4:], overlap_s)
        await conn.execute(sql.load()["api_key_rotate"], *rotated)
        row = await _found(conn, person, None, kid)
        return Done(whole(row, key), changes=[Change("key", kid)])

    where = organisation or caller.organisation
    act = Act("key.rotate", f"key:{kid}", where, {"overlap_s": overlap_s})
    return await write(request, caller, act, effect)


# What they share ----------------------------------------------------------------------


async def member_of(
    conn: Connection, caller: Caller, person: UUID, organisation: UUID | None
) -> asyncpg.Record:
    row = await conn.fetchrow(sql.load()["person_in"], person, organisation, scope(caller))
    if row is None:
        raise NotFound(what="user in this organisation", listing="opscenter user list")
    return row


async def _found(
    conn: Connection, person: UUID, organisation: UUID | None, kid: str
) -> asyncpg.Record:
    row = await conn.fetchrow(sql.load()["api_key_show"], kid, person, organisation)
    if row is None:
        raise NotFound(what="API key", listing="opscenter key list")
    return row


async def _governed(
    conn: Connection,
    caller: Caller,
    person: UUID,
    organisation: UUID | None,
    kid: str,
    alive: bool = True,
) -> asyncpg.Record:
    """The key, where the caller may change it; nobody else does at this moment."""
    await conn.fetchrow(sql.load()["api_key_lock"], kid)
    row = await _found(conn, person, organisation, kid)
    if person != caller.person:
        member = await member_of(conn, caller, person, row["organisation"])
        require_above(caller, member["role"])
    if alive and row["status"] == "revoked":
        raise Conflict(why="This key is revoked, for good. Make a new one.")
    return row


async def _done(conn: Connection, person: UUID, kid: str) -> Done:
    return Done(masked(await _found(conn, person, None, kid)), changes=[Change("key", kid)])


async def _check(conn: Connection, caller: Caller, terms: Terms) -> None:
    """The models are there, and a key gives no more than it has."""
    named = [name for name in terms.models or () if not name.endswith("*")]
    if unknown := await conn.fetch(sql.load()["models_unknown"], named):
        names = ", ".join(row["given"] for row in unknown[:5])
        raise Invalid("models", why=f"There is no model {names} here; see `opscenter models list`.")
    if caller.actor.startswith("key:"):
        kid = caller.actor.removeprefix("key:")
        limits = await conn.fetchrow(sql.load()["api_key_limits"], kid)
        assert limits is not None
        require_within(terms_of(dict(limits)), terms)


def _terms(given: KeyTerms, rules: Sequence[Rule]) -> Terms:
    return Terms(
        given.models,
        given.routes,
        given.addresses,
        given.parallel_max,
        given.budget,
        given.expires_at,
        rules,
        given.pay,
        given.scopes,
    )
