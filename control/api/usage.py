"""Usage: what was called, by whom, and what it cost."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Query, Request

from control import sql
from control.api.credits import AnyOrganisation, readable
from control.api.shapes import PAGE_DEFAULT, Credits, Limit, Output, Page, Viewer
from control.auth import rank
from control.state import state_of

router = APIRouter(prefix="/api/v1/usage", tags=["usage"])


class Usage(Output):
    id: UUID  # the request id
    at: datetime
    kind: str
    mode: str  # platform; byok: with a key of the caller's own, for nothing
    key: str
    user: UUID
    model: str
    provider: str
    tokens: dict[str, int]
    cost: Credits
    hold: Credits
    usage_source: str
    tokenizer: str  # by which an estimate was counted; empty: by bytes
    reason: str
    attempts: int
    price_version: int
    late: bool
    end_user: str | None
    duration_ms: int | None


@router.get("")
async def list_usage(
    request: Request,
    caller: Viewer,
    organisation: AnyOrganisation = None,
    limit: Limit = PAGE_DEFAULT,
    before: Annotated[UUID | None, Query(description="Older than this request.")] = None,
    after: Annotated[UUID | None, Query(description="Newer than this request.")] = None,
) -> Page[Usage]:
    """Requests, newest first. Below analyst these are your own; `next` goes into `before`."""
    own = caller.person if rank(caller.role) < rank("analyst") else None
    async with state_of(request).pool.acquire() as conn:
        chosen = await readable(conn, caller, organisation)
        rows = await conn.fetch(sql.load()["usage_page"], chosen, own, before, after, limit + 1)
    more = str(rows[limit - 1]["rid"]) if len(rows) > limit else None
    return Page(data=[_usage(row) for row in rows[:limit]], next=more)


def _usage(row: asyncpg.Record) -> Usage:
    named = {"id": row["rid"], "key": row["kid"], "user": row["person"]}
    return Usage.model_validate({**dict(row), **named})
