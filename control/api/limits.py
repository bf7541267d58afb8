"""Limits of an organisation: of its keys, people and teams, of itself, of its end users."""

import time
from typing import Annotated
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Query, Request, Response

from control import sql
from control.api import limit_acts
from control.api.limit_shapes import (
    LimitEdit,
    LimitEvent,
    LimitListed,
    LimitShown,
    LimitWanted,
    event,
    listed,
    shown,
)
from control.api.shapes import PAGE_DEFAULT, Limit, Moderator, Page, Removed
from control.api.write import Act, Change, Done, write
from control.database import Connection
from control.state import state_of
from plugins.access import Caller

router = APIRouter(prefix="/api/v1/admin/organisations/{organisation}", tags=["limits"])

ONE = "/limits/{limit}"
Number = Annotated[int, Query(ge=0, le=2**63 - 1)]


@router.get("/limits")
async def list_limits(
    request: Request,
    caller: Moderator,
    organisation: UUID,
    level: Annotated[str | None, Query(max_length=20)] = None,
    subject: Annotated[str | None, Query(max_length=64)] = None,
    limit: Limit = PAGE_DEFAULT,
    cursor: Number = 0,
) -> Page[LimitListed]:
    """Every limit of an organisation, with those of its plan."""
    await limit_acts.require_there(state_of(request).pool, caller, organisation)
    where = (organisation, None, level, subject, cursor, limit + 1)
    rows = await state_of(request).pool.fetch(sql.load()["limit_list"], *where)
    more = str(rows[limit - 1]["id"]) if len(rows) > limit else None
    now_ms = int(time.time() * 1000)
    return Page(data=[listed(row, now_ms) for row in rows[:limit]], next=more)


@router.get("/limit-events")
async def list_limit_events(
    request: Request,
    caller: Moderator,
    organisation: UUID,
    limit: Limit = PAGE_DEFAULT,
    cursor: Annotated[int | None, Query(ge=0, le=2**63 - 1)] = None,
) -> Page[LimitEvent]:
    """When use came near a limit (`warn_at`), newest first."""
    await limit_acts.require_there(state_of(request).pool, caller, organisation)
    rows = await state_of(request).pool.fetch(
        sql.load()["limit_event_list"], organisation, cursor, limit + 1
    )
    more = str(rows[limit - 1]["id"]) if len(rows) > limit else None
    return Page(data=[event(row) for row in rows[:limit]], next=more)


@router.post("/limits", status_code=201, response_model=LimitShown)
async def add_limit(
    request: Request, caller: Moderator, organisation: UUID, given: LimitWanted
) -> Response:
    """A further limit, in force for the next request. Of keys and people: by those who stand above
    them; of the organisation, its teams and end users: by administrators."""

    async def effect(conn: Connection) -> Done:
        await limit_acts.lock_organisation(conn, caller, organisation)
        await limit_acts.govern(conn, caller, organisation, given.level, given.subject)
        of = (organisation, given.level, given.subject)
        row = await limit_acts.add(conn, *of, given, caller.platform)
        return Done(shown(row), 201, await limit_acts.changes_of(conn, *of))

    detail = given.model_dump(mode="json")
    act = Act("limit.add", f"organisation:{organisation}", organisation, detail)
    return await write(request, caller, act, effect)


@router.patch(ONE, response_model=LimitShown)
async def edit_limit(
    request: Request, caller: Moderator, organisation: UUID, limit: int, given: LimitEdit
) -> Response:
    """Another amount or other thresholds, in force for the next request; what was counted stays."""

    async def effect(conn: Connection) -> Done:
        rule = await _found(conn, caller, organisation, limit)
        done = await limit_acts.edit(conn, caller, rule, given)
        return Done(done.answer, changes=await _changes(conn, rule))

    detail = given.model_dump(mode="json", include=given.model_fields_set)
    act = Act("limit.edit", f"limit:{limit}", organisation, detail)
    return await write(request, caller, act, effect)


@router.delete(ONE, response_model=Removed)
async def remove_limit(
    request: Request, caller: Moderator, organisation: UUID, limit: int
) -> Response:
    async def effect(conn: Connection) -> Done:
        rule = await _found(conn, caller, organisation, limit)
        await limit_acts.require_own(conn, caller, rule, None)
        await conn.execute(sql.load()["limit_remove"], limit)
        return Done(Removed(removed=str(limit)), changes=await _changes(conn, rule))

    act = Act("limit.remove", f"limit:{limit}", organisation)
    return await write(request, caller, act, effect)


async def _found(
    conn: Connection, caller: Caller, organisation: UUID, limit: int
) -> asyncpg.Record:
    """The limit, where the caller may change it; nobody else does at this moment."""
    await limit_acts.lock_organisation(conn, caller, organisation)
    rule = await conn.fetchrow(sql.load()["limit_get"], limit, organisation)
    if rule is None:
        raise limit_acts.missing()
    await limit_acts.govern(conn, caller, organisation, rule["level"], rule["subject"])
    return rule


async def _changes(conn: Connection, rule: asyncpg.Record) -> list[Change]:
    return await limit_acts.changes_of(conn, rule["organisation"], rule["level"], rule["subject"])
