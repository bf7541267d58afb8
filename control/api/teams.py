"""Teams of an organisation: whoever is in one counts on its limits too. Nobody is in two."""

import uuid
from datetime import datetime
from typing import Annotated
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Query, Request, Response

from control import sql
from control.api import limit_acts
from control.api.shapes import (
    PAGE_DEFAULT,
    Admin,
    Input,
    Label,
    Limit,
    Moderator,
    Output,
    Page,
    Removed,
)
from control.api.write import Act, Done, write
from control.database import Connection
from control.errors import Conflict, NotFound
from control.state import state_of
from plugins.access import Caller

router = APIRouter(prefix="/api/v1/admin/organisations/{organisation}/teams", tags=["limits"])

TEAMS_MAX = 1000  # of an organisation
ONE = "/{team}"
MEMBER = "/{team}/members/{user}"


class NewTeam(Input):
    name: Label


class Team(Output):
    id: UUID
    name: str
    members: int
    created_at: datetime


class TeamMember(Output):
    id: UUID
    email: str
    name: str
    role: str


@router.get("")
async def list_teams(
    request: Request,
    caller: Moderator,
    organisation: UUID,
    limit: Limit = PAGE_DEFAULT,
    cursor: Annotated[UUID | None, Query()] = None,
) -> Page[Team]:
    await limit_acts.require_there(state_of(request).pool, caller, organisation)
    rows = await state_of(request).pool.fetch(
        sql.load()["team_list"], organisation, None, cursor, limit + 1
    )
    more = str(rows[limit - 1]["id"]) if len(rows) > limit else None
    return Page(data=[Team.model_validate(dict(row)) for row in rows[:limit]], next=more)


@router.post("", status_code=201, response_model=Team)
async def create_team(
    request: Request, caller: Admin, organisation: UUID, given: NewTeam
) -> Response:
    made = uuid.uuid4()

    async def effect(conn: Connection) -> Done:
        query = sql.load()
        await limit_acts.lock_organisation(conn, caller, organisation)
        if await conn.fetchval(query["team_count"], organisation) >= TEAMS_MAX:
            raise Conflict(why=f"No organisation has more than {TEAMS_MAX} teams; remove one.")
        await _named(conn, "team_add", given.name, made, organisation, given.name)
        return Done(await _shown(conn, organisation, made), 201)

    act = Act("team.create", f"team:{made}", organisation, given.model_dump())
    return await write(request, caller, act, effect)


@router.patch(ONE, response_model=Team)
async def rename_team(
    request: Request, caller: Admin, organisation: UUID, team: UUID, given: NewTeam
) -> Response:
    async def effect(conn: Connection) -> Done:
        await _lock(conn, caller, organisation, team)
        await _named(conn, "team_rename", given.name, team, given.name)
        changes = await limit_acts.changes_of(conn, organisation, "team", str(team))
        return Done(await _shown(conn, organisation, team), changes=changes)

    act = Act("team.rename", f"team:{team}", organisation, given.model_dump())
    return await write(request, caller, act, effect)


@router.delete(ONE, response_model=Removed)
async def remove_team(request: Request, caller: Admin, organisation: UUID, team: UUID) -> Response:
    """The team with its limits; its members stay where they are."""

    async def effect(conn: Connection) -> Done:
        query, of = sql.load(), (organisation, "team", str(team))
        await _lock(conn, caller, organisation, team)
        for rule in await conn.fetch(query["limit_of_subject"], *of):
            await limit_acts.require_own(conn, caller, rule, None)
        changes = await limit_acts.changes_of(conn, *of)
        await conn.execute(query["limit_remove_of"], *of)
        await conn.execute(query["team_leave"], organisation, team)
        await conn.execute(query["team_remove"], team)
        return Done(Removed(removed=str(team)), changes=changes)

    return await write(request, caller, Act("team.remove", f"team:{team}", organisation), effect)


# Who is in it ---------------------------------------------------------------------------


@router.get(ONE + "/members")
async def list_team_members(
    request: Request,
    caller: Moderator,
    organisation: UUID,
    team: UUID,
    limit: Limit = PAGE_DEFAULT,
    cursor: Annotated[str | None, Query(max_length=320)] = None,
) -> Page[TeamMember]:
    """By e-mail."""
    await limit_acts.require_there(state_of(request).pool, caller, organisation)
    async with state_of(request).pool.acquire() as conn:
        await limit_acts.team(conn, organisation, team)
        rows = await conn.fetch(sql.load()["team_members"], organisation, team, cursor, limit + 1)
    more = rows[limit - 1]["email"] if len(rows) > limit else None
    return Page(data=[TeamMember.model_validate(dict(row)) for row in rows[:limit]], next=more)


@router.put(MEMBER, response_model=Team)
async def add_team_member(
    request: Request, caller: Admin, organisation: UUID, team: UUID, user: UUID
) -> Response:
    """From the next request on the member counts on this team, and on no other."""
    return await _move(request, caller, organisation, team, user, team)


@router.delete(MEMBER, response_model=Team)
async def remove_team_member(
    request: Request, caller: Admin, organisation: UUID, team: UUID, user: UUID
) -> Response:
    return await _move(request, caller, organisation, team, user, None)


async def _move(
    request: Request,
    caller: Caller,
    organisation: UUID,
    team: UUID,
    user: UUID,
    into: UUID | None,
) -> Response:
    async def effect(conn: Connection) -> Done:
        await _lock(conn, caller, organisation, team)
        await _leave(conn, caller, organisation, user, into, team)
        await conn.execute(sql.load()["membership_team"], organisation, user, into)
        changes = await limit_acts.changes_of_people(conn, organisation, [user])
        return Done(await _shown(conn, organisation, team), changes=changes)

    action = "team.leave" if into is None else "team.join"
    act = Act(action, f"team:{team}", organisation, {"user": str(user)})
    return await write(request, caller, act, effect)


async def _lock(conn: Connection, caller: Caller, organisation: UUID, team: UUID) -> None:
    await limit_acts.lock_organisation(conn, caller, organisation)
    await limit_acts.team(conn, organisation, team)


async def _leave(
    conn: Connection, caller: Caller, organisation: UUID, user: UUID, into: UUID | None, left: UUID
) -> None:
    """Whoever leaves a team leaves its limits behind, so these must be the caller's to loosen."""
    query = sql.load()
    found = await conn.fetchrow(query["membership_in_team"], organisation, user)
    if found is None or (into is None and found["team"] != left):
        raise NotFound(what="member of this team", listing="opscenter team show")
    if found["team"] not in (None, into):
        of = (organisation, "team", str(found["team"]))
        for rule in await conn.fetch(query["limit_of_subject"], *of):
            await limit_acts.require_own(conn, caller, rule, None)


async def _named(conn: Connection, query: str, name: str, *row: object) -> None:
    try:
        async with conn.transaction():
            await conn.execute(sql.load()[query], *row)
    except asyncpg.UniqueViolationError:
        raise Conflict(why=f"There is a team {name} already.") from None


async def _shown(conn: Connection, organisation: UUID, team: UUID) -> Team:
    return Team.model_validate(dict(await limit_acts.team(conn, organisation, team)))
