"""Organisations: listed, made, suspended, resumed, limited."""

import uuid
from dataclasses import replace
from datetime import datetime
from typing import Annotated
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Query, Request, Response

from control import sql
from control.access import add_organisation
from control.api.byok_terms import changes_of_keys
from control.api.shapes import (
    PAGE_DEFAULT,
    Credits,
    CreditsIn,
    Input,
    Label,
    Limit,
    Moderator,
    Output,
    Page,
    Parallel,
    PlatformAdmin,
    PlatformModerator,
    Slug,
)
from control.api.write import Act, Change, Done, write
from control.auth import scope
from control.database import Connection
from control.errors import Conflict, Invalid, NotFound
from control.state import state_of
from plugins.access import Caller

router = APIRouter(prefix="/api/v1/admin/organisations", tags=["organisations"])


class NewOrganisation(Input):
    name: Label
    parallel_max: Parallel | None = None


class OrganisationEdit(Input):
    """Fields that are not sent stay as they are; null takes a limit away."""

    name: Label = ""
    parallel_max: Parallel | None = None
    budget: CreditsIn | None = None
    plan: Slug | None = None


class Organisation(Output):
    id: UUID
    name: str
    platform: bool
    status: str
    parallel_max: int | None
    budget: Credits | None
    budget_used: Credits | None  # as far as it is booked
    plan: str | None
    created_at: datetime


def shown(row: asyncpg.Record | None) -> Organisation:
    if row is None:
        raise NotFound(what="organisation", listing="opscenter org list")
    return Organisation.model_validate(dict(row))


@router.get("")
async def list_organisations(
    request: Request,
    caller: Moderator,
    limit: Limit = PAGE_DEFAULT,
    cursor: Annotated[UUID | None, Query()] = None,
) -> Page[Organisation]:
    """Your organisation; for moderators of the platform, all of them."""
    rows = await state_of(request).pool.fetch(
        sql.load()["organisation_list"], scope(caller), cursor, limit + 1
    )
    more = str(rows[limit - 1]["id"]) if len(rows) > limit else None
    return Page(data=[shown(row) for row in rows[:limit]], next=more)


@router.get("/{organisation}")
async def show_organisation(
    request: Request, caller: Moderator, organisation: UUID
) -> Organisation:
    row = await state_of(request).pool.fetchrow(
        sql.load()["organisation_show"], organisation, scope(caller)
    )
    return shown(row)


@router.post("", status_code=201, response_model=Organisation)
async def create_organisation(
    request: Request, caller: PlatformAdmin, given: NewOrganisation
) -> Response:
    """A new organisation gets a shard for life and an empty pool of credits."""
    made = uuid.uuid4()

    async def effect(conn: Connection) -> Done:
        await add_organisation(conn, made, given.name, platform=False, parallel=given.parallel_max)
        return await _done(conn, made, 201)

    act = Act("organisation.create", f"organisation:{made}", made, given.model_dump())
    return await write(request, caller, act, effect)


@router.post("/{organisation}/suspend", response_model=Organisation)
async def suspend(request: Request, caller: PlatformModerator, organisation: UUID) -> Response:
    """From the next request on, none of its keys is admitted. The platform's own cannot be."""
    return await _set_status(request, caller, organisation, "suspended")


@router.post("/{organisation}/resume", response_model=Organisation)
async def resume(request: Request, caller: PlatformModerator, organisation: UUID) -> Response:
    return await _set_status(request, caller, organisation, "active")


@router.patch("/{organisation}", response_model=Organisation)
async def edit(
    request: Request, caller: PlatformModerator, organisation: UUID, given: OrganisationEdit
) -> Response:
    """Its name, how many of its requests run at one time, what it may spend in all, its plan."""
    sent = given.model_fields_set
    if "name" in sent and not given.name:
        raise Invalid("name", why="An organisation has a name of 1 to 200 letters.")

    async def effect(conn: Connection) -> Done:
        query = sql.load()
        if given.plan and await conn.fetchrow(query["plan_share"], given.plan) is None:
            raise NotFound(what="plan", listing="opscenter plan list")
        await conn.fetchrow(query["organisation_lock"], organisation)
        present = shown(await conn.fetchrow(query["organisation_show"], organisation, None))
        new = present.__dict__ | {name: getattr(given, name) for name in sent}
        limits = (new["name"], new["parallel_max"], new["budget"], new["plan"])
        await conn.execute(query["organisation_edit"], organisation, *limits)
        done = await _done(conn, organisation)
        if "plan" not in sent:
            return done
        return replace(done, changes=[*done.changes, *await changes_of_keys(conn, [organisation])])

    detail = given.model_dump(mode="json", include=sent)
    act = Act("organisation.edit", f"organisation:{organisation}", organisation, detail)
    return await write(request, caller, act, effect)


async def _set_status(
    request: Request, caller: Caller, organisation: UUID, status: str
) -> Response:
    async def effect(conn: Connection) -> Done:
        query = sql.load()
        present = shown(await conn.fetchrow(query["organisation_show"], organisation, None))
        if present.platform:
            raise Conflict(why="The platform's own organisation cannot be suspended.")
        await conn.execute(query["organisation_status"], organisation, status)
        return await _done(conn, organisation)

    act = Act(f"organisation.{status}", f"organisation:{organisation}", organisation)
    return await write(request, caller, act, effect)


async def _done(conn: Connection, organisation: UUID, status: int = 200) -> Done:
    row = await conn.fetchrow(sql.load()["organisation_show"], organisation, None)
    return Done(shown(row), status, [Change("organisation", str(organisation))])
