"""Plans: sets of limits that many organisations have, each for itself. A fresh install has none."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Request, Response
from pydantic import StrictBool, StringConstraints

from control import sql
from control.api import limit_acts
from control.api.byok_terms import changes_of_keys
from control.api.limit_shapes import LimitEdit, LimitShown, LimitTerms, shown
from control.api.shapes import (
    PAGE_MAX,
    VISIBLE,
    Input,
    Output,
    Page,
    PlatformAdmin,
    PlatformAnalyst,
    Removed,
    Slug,
)
from control.api.write import Act, Change, Done, write
from control.database import Connection
from control.errors import Conflict, NotFound
from control.state import state_of

router = APIRouter(prefix="/api/v1/admin/plans", tags=["limits"])

PLANS_MAX = 100
ONE = "/{plan}"
LIMIT = "/{plan}/limits/{limit}"

Note = Annotated[str, StringConstraints(max_length=500, pattern=VISIBLE + "|^$")]


class NewPlan(Input):
    name: Slug
    note: Note = ""
    byok: StrictBool = True


class PlanEdit(Input):
    """Fields that are not sent stay as they are. At most one plan is for new organisations."""

    note: Note | None = None
    for_new: bool | None = None
    byok: StrictBool | None = None


class Plan(Output):
    name: str
    note: str
    organisations: int
    limits: int
    for_new: bool  # new organisations are made with it
    byok: bool  # includes keys of one's own
    created_at: datetime


@router.get("")
async def list_plans(request: Request, caller: PlatformAnalyst) -> Page[Plan]:
    rows = await state_of(request).pool.fetch(sql.load()["plan_list"], None)
    return Page(data=[Plan.model_validate(dict(row)) for row in rows])


@router.post("", status_code=201, response_model=Plan)
async def create_plan(request: Request, caller: PlatformAdmin, given: NewPlan) -> Response:
    """A plan without a limit; it is given to organisations with `PATCH` of them."""

    async def effect(conn: Connection) -> Done:
        query = sql.load()
        if await conn.fetchval(query["plan_count"]) >= PLANS_MAX:
            raise Conflict(why=f"There are no more than {PLANS_MAX} plans; remove one.")
        try:
            async with conn.transaction():
                await conn.execute(query["plan_add"], given.name, given.note, given.byok)
        except asyncpg.UniqueViolationError:
            raise Conflict(why=f"There is a plan {given.name} already.") from None
        return Done(await _shown(conn, given.name), 201)

    act = Act("plan.create", f"plan:{given.name}", None, given.model_dump())
    return await write(request, caller, act, effect)


@router.patch(ONE, response_model=Plan)
async def edit_plan(
    request: Request, caller: PlatformAdmin, plan: Slug, given: PlanEdit
) -> Response:
    """Its note, whether it includes keys of one's own, and whether new organisations are made with
    it; then another one is not."""

    async def effect(conn: Connection) -> Done:
        await _lock(conn, plan)
        query = sql.load()
        if given.for_new:
            await conn.execute(query["plan_not_for_new"], plan)
        try:
            async with conn.transaction():
                await conn.execute(query["plan_edit"], plan, given.note, given.for_new, given.byok)
        except asyncpg.UniqueViolationError:
            raise Conflict(why="Another plan was made that of new organisations now.") from None
        organisations: list[UUID] = []
        if given.byok is not None:
            rows = await conn.fetch(query["plan_organisations"], plan)
            organisations = [row["id"] for row in rows]
        return Done(await _shown(conn, plan), changes=await changes_of_keys(conn, organisations))

    act = Act("plan.edit", f"plan:{plan}", None, given.model_dump())
    return await write(request, caller, act, effect)


@router.delete(ONE, response_model=Removed)
async def remove_plan(request: Request, caller: PlatformAdmin, plan: Slug) -> Response:
    """Of a plan that no organisation has."""

    async def effect(conn: Connection) -> Done:
        query = sql.load()
        await _lock(conn, plan)
        try:
            async with conn.transaction():
                await conn.execute(query["limit_remove_of"], None, "plan", plan)
                await conn.execute(query["plan_remove"], plan)
        except asyncpg.ForeignKeyViolationError:
            raise Conflict(
                why="Organisations have this plan. Give them another, or none, with "
                "`opscenter org edit --plan`."
            ) from None
        return Done(Removed(removed=plan))

    return await write(request, caller, Act("plan.remove", f"plan:{plan}"), effect)


# Its limits -----------------------------------------------------------------------------


@router.get(ONE + "/limits")
async def list_plan_limits(
    request: Request, caller: PlatformAnalyst, plan: Slug
) -> Page[LimitShown]:
    where = (None, plan, None, None, 0, PAGE_MAX)
    rows = await state_of(request).pool.fetch(sql.load()["limit_list"], *where)
    return Page(data=[shown(row) for row in rows])


@router.post(ONE + "/limits", status_code=201, response_model=LimitShown)
async def add_plan_limit(
    request: Request, caller: PlatformAdmin, plan: Slug, given: LimitTerms
) -> Response:
    """In force for the next request of every organisation with this plan."""

    async def effect(conn: Connection) -> Done:
        await _lock(conn, plan)
        row = await limit_acts.add(conn, None, "plan", plan, given, True)
        return Done(shown(row), 201, await _changes(conn, plan))

    act = Act("limit.add", f"plan:{plan}", None, given.model_dump(mode="json"))
    return await write(request, caller, act, effect)


@router.patch(LIMIT, response_model=LimitShown)
async def edit_plan_limit(
    request: Request, caller: PlatformAdmin, plan: Slug, limit: int, given: LimitEdit
) -> Response:
    async def effect(conn: Connection) -> Done:
        rule = await _limit(conn, plan, limit)
        done = await limit_acts.edit(conn, caller, rule, given)
        return Done(done.answer, changes=await _changes(conn, plan))

    detail = given.model_dump(mode="json", include=given.model_fields_set)
    return await write(request, caller, Act("limit.edit", f"limit:{limit}", None, detail), effect)


@router.delete(LIMIT, response_model=Removed)
async def remove_plan_limit(
    request: Request, caller: PlatformAdmin, plan: Slug, limit: int
) -> Response:
    async def effect(conn: Connection) -> Done:
        rule = await _limit(conn, plan, limit)
        await limit_acts.require_own(conn, caller, rule, None)
        await conn.execute(sql.load()["limit_remove"], limit)
        return Done(Removed(removed=str(limit)), changes=await _changes(conn, plan))

    return await write(request, caller, Act("limit.remove", f"limit:{limit}"), effect)


async def _lock(conn: Connection, plan: str) -> None:
    if await conn.fetchrow(sql.load()["plan_lock"], plan) is None:
        raise missing()


def missing() -> NotFound:
    return NotFound(what="plan", listing="opscenter plan list")


async def _shown(conn: Connection, plan: str) -> Plan:
    row = await conn.fetchrow(sql.load()["plan_list"], plan)
    assert row is not None
    return Plan.model_validate(dict(row))


async def _limit(conn: Connection, plan: str, limit: int) -> asyncpg.Record:
    await _lock(conn, plan)
    rule = await conn.fetchrow(sql.load()["limit_get"], limit, None)
    if rule is None or rule["subject"] != plan:
        raise limit_acts.missing()
    return rule


async def _changes(conn: Connection, plan: str) -> list[Change]:
    rows = await conn.fetch(sql.load()["plan_organisations"], plan)
    return [Change("organisation", str(row["id"])) for row in rows]
