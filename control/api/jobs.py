"""Jobs with a ceiling of cost, made before their first request, which names them in X-Job-Id."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import StringConstraints

from control import sql
from control.api.credits import AnyOrganisation, readable
from control.api.shapes import (
    PAGE_DEFAULT,
    Credits,
    CreditsIn,
    Developer,
    Input,
    Limit,
    Output,
    Page,
)
from control.api.write import Act, Change, Done, write
from control.auth import rank
from control.database import Connection
from control.errors import Conflict, NotFound, RoleMissing
from control.state import State, state_of
from control.store import AWAY
from plugins.access import Caller
from proxy.bounds.meters import Job
from proxy.bounds.standing import job_owner
from proxy.costs.pricing import credits_text

router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"])

JOBS_MAX = 100_000  # open ones of an organisation that the API has made
NAME = r"^[A-Za-z0-9._-]{1,128}$"

JobId = Annotated[str, StringConstraints(pattern=NAME)]
JobPath = Annotated[str, Path(pattern=NAME)]


class JobWanted(Input):
    """`max_cost` is the most, in credits, that all requests of the job may cost together."""

    id: JobId
    max_cost: CreditsIn
    organisation: UUID | None = None  # only for the platform's moderators


class JobShown(Output):
    id: str
    organisation: UUID
    max_cost: Credits
    used: Credits  # as far as it is booked
    status: str  # open, or closed
    made_by: str  # api, or request: by the headers of the first one
    user: UUID | None
    created_at: datetime
    closed_at: datetime | None


@router.get("")
async def list_jobs(
    request: Request,
    caller: Developer,
    organisation: AnyOrganisation = None,
    limit: Limit = PAGE_DEFAULT,
    cursor: Annotated[str | None, Query(pattern=NAME)] = None,
) -> Page[JobShown]:
    """Jobs that have a ceiling, by their ids."""
    async with state_of(request).pool.acquire() as conn:
        chosen = await readable(conn, caller, organisation)
        rows = await conn.fetch(sql.load()["job_list"], chosen, None, cursor, limit + 1)
    more = rows[limit - 1]["id"] if len(rows) > limit else None
    return Page(data=[_shown(row) for row in rows[:limit]], next=more)


@router.post("", status_code=201, response_model=JobShown)
async def create_job(request: Request, caller: Developer, given: JobWanted) -> Response:
    """A job, in force for the next request. Its ceiling is never changed: the same one again is
    answered 200, another one 409."""
    state = state_of(request)
    async with state.pool.acquire() as conn:
        chosen = await readable(conn, caller, given.organisation)

    async def effect(conn: Connection) -> Done:
        query = sql.load()
        await conn.fetchrow(query["organisation_lock"], chosen)
        runs = await _require_free(conn, state, chosen, given)
        owner = None if runs else caller.person  # others' requests may run under it
        made = await conn.fetchval(query["job_add"], chosen, given.id, given.max_cost, owner)
        if made is None:
            await conn.execute(query["job_keep"], chosen, given.id)
        row = await _found(conn, chosen, given.id)
        return Done(_shown(row), 200 if made is None else 201, [_change(chosen, given.id)])

    detail = {"id": given.id, "max_cost": credits_text(given.max_cost)}
    act = Act("job.create", f"job:{given.id}", chosen, detail)
    return await write(request, caller, act, effect)


@router.get("/{job}")
async def show_job(
    request: Request, caller: Developer, job: JobPath, organisation: AnyOrganisation = None
) -> JobShown:
    async with state_of(request).pool.acquire() as conn:
        return _shown(await _found(conn, await readable(conn, caller, organisation), job))


@router.post("/{job}/close", response_model=JobShown)
async def close_job(
    request: Request, caller: Developer, job: JobPath, organisation: AnyOrganisation = None
) -> Response:
    """No further request of it is taken; those that run go on. Others' jobs are closed by
    moderators."""
    async with state_of(request).pool.acquire() as conn:
        chosen = await readable(conn, caller, organisation)

    async def effect(conn: Connection) -> Done:
        before = await conn.fetchrow(sql.load()["job_lock"], chosen, job)
        if before is not None and before["person"] != caller.person:
            _require_moderator(caller)
        await conn.execute(sql.load()["job_close"], chosen, job)
        return Done(_shown(await _found(conn, chosen, job)), changes=[_change(chosen, job)])

    return await write(request, caller, Act("job.close", f"job:{job}", chosen), effect)


def _require_moderator(caller: Caller) -> None:
    if rank(caller.role) < rank("moderator"):
        raise RoleMissing(needed="moderator", held=caller.role)


async def _require_free(conn: Connection, state: State, chosen: UUID, given: JobWanted) -> bool:
    """The name is new, or it has this ceiling already: then true."""
    before = await conn.fetchrow(sql.load()["job_lock"], chosen, given.id)
    if before is not None and before["closed_at"] is not None:
        raise Conflict(why=f"The job {given.id} is closed. Take another id.")
    ceiling = before["ceiling"] if before is not None else await _set(conn, state, chosen, given.id)
    if ceiling not in (None, given.max_cost):
        raise Conflict(
            why=f"The job {given.id} has a ceiling of {credits_text(ceiling)} credits already, and "
            "the first one stands. Take another id."
        )
    open_ones = await conn.fetchval(sql.load()["job_count"], chosen)
    if open_ones >= JOBS_MAX and not (before is not None and before["kept"]):
        raise Conflict(why=f"No organisation has more than {JOBS_MAX} open jobs; close some.")
    return ceiling is not None


async def _set(conn: Connection, state: State, chosen: UUID, job: str) -> int | None:
    """The ceiling that a request has named and that is not booked yet."""
    shard = await conn.fetchval(sql.load()["organisation_shard"], chosen)
    try:
        owner = job_owner(shard, str(chosen), Job(job, None))
        found = await state.redis.command("HGET", owner, "bud.l")
    except AWAY:
        return None
    return None if found is None else int(found)


async def _found(conn: Connection, organisation: UUID, job: str) -> asyncpg.Record:
    row = await conn.fetchrow(sql.load()["job_list"], organisation, job, None, 1)
    if row is None:
        raise NotFound(what="job", listing="opscenter job list")
    return row


def _change(organisation: UUID, job: str) -> Change:
    return Change("job", f"{organisation}:{job}")


def _shown(row: asyncpg.Record) -> JobShown:
    named = {
        "max_cost": row["ceiling"],
        "user": row["person"],
        "status": "open" if row["closed_at"] is None else "closed",
        "made_by": "request" if row["person"] is None and not row["kept"] else "api",
    }
    return JobShown.model_validate({**dict(row), **named})
