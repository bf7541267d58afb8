"""Accounts of programs: each with an organisation of its own, in which it is a member that never
signs in. Its keys are made, limited and revoked like everybody's.
"""

import uuid
from typing import Literal
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Request, Response

from control import sql
from control.access import NewKey, add_key, add_organisation
from control.api.shapes import Input, Output, PlatformAdmin, Slug
from control.api.write import Act, Change, Done, write
from control.database import Connection
from control.errors import Conflict
from control.state import state_of
from proxy.who import keys

router = APIRouter(prefix="/api/v1/admin/services", tags=["services"])

MAIL = "@service"  # nothing is ever sent there


class NewService(Input):
    name: Slug
    role: Literal["developer", "analyst", "viewer"] = "viewer"  # on the control API


class ServiceMade(Output):
    """`key` is the whole key, shown this once; the program sends it in X-Service-Key."""

    organisation: UUID
    user: UUID
    name: str
    email: str
    role: str
    key_id: str
    key: str


@router.post("", status_code=201, response_model=ServiceMade)
async def create_service(request: Request, caller: PlatformAdmin, given: NewService) -> Response:
    """A program's account with an organisation of its own, an empty pool of credits and a key."""
    state, home, person = state_of(request), uuid.uuid4(), uuid.uuid4()
    email = given.name + MAIL

    async def effect(conn: Connection) -> Done:
        query = sql.load()
        row = await add_organisation(conn, home, given.name, platform=False, parallel=None)
        try:
            await conn.fetchrow(query["person_add"], person, email, given.name, None, True)
        except asyncpg.UniqueViolationError:
            raise Conflict(why=f"There is a program's account {email} already.") from None
        await conn.execute(query["membership_add"], home, person, given.role, False)
        key = keys.mint(row["shard"])
        await add_key(conn, state.keys, key, NewKey(home, row["shard"], person, given.name))
        made = ServiceMade(
            organisation=home,
            user=person,
            name=given.name,
            email=email,
            role=given.role,
            key_id=key.kid,
            key=key.text,
        )
        return Done(made, 201, [Change("organisation", str(home)), Change("key", key.kid)])

    detail = given.model_dump()
    return await write(
        request, caller, Act("service.create", f"person:{person}", home, detail), effect
    )
