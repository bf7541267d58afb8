"""Accounts of the company's identity provider and the people here that they belong to."""

from uuid import UUID

from fastapi import APIRouter, Request, Response

from control import sql
from control.api.shapes import Output, PlatformAdmin
from control.api.users import sign_ins
from control.api.write import Act, Done, audit, write
from control.database import ACQUIRE_TIMEOUT_S, Connection
from control.errors import IdentityDiffers, NotFound, PersonUnknown
from control.idp import Named
from control.state import State

router = APIRouter(prefix="/api/v1/admin/users", tags=["users"])


class Unlinked(Output):
    user: UUID
    removed: int  # accounts of the provider


@router.post("/{user}/unlink", response_model=Unlinked)
async def unlink_user(request: Request, caller: PlatformAdmin, user: UUID) -> Response:
    """Forgets which account of the identity provider is this person's, and ends the sign-ins; the
    next account that shows the person's e-mail is taken for it."""

    async def effect(conn: Connection) -> Done:
        query = sql.load()
        if await conn.fetchrow(query["person_show"], user) is None:
            raise NotFound(what="user", listing="opscenter user list")
        removed = await conn.fetch(query["identity_remove"], user)
        await conn.execute(query["session_remove_of_person"], user)
        shown = Unlinked(user=user, removed=len(removed))
        return Done(shown, changes=await sign_ins(conn, user))

    act = Act("identity.unlink", f"person:{user}", caller.organisation)
    return await write(request, caller, act, effect)


async def linked_person(state: State, named: Named) -> UUID:
    """Whose account this is: as it was linked once, else by the e-mail, which links it."""
    query, account = sql.load(), (named.issuer, named.subject)
    async with state.pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as conn, conn.transaction():
        known = await conn.fetchrow(query["identity_person"], *account)
        if known is None:
            person = await conn.fetchval(query["person_named"], named.email)
            if person is None:
                raise PersonUnknown(name=named.email)
            if await conn.fetchval(query["identity_add"], *account, person):
                detail = {"issuer": named.issuer, "subject": named.subject}
                act = Act("identity.link", f"person:{person}", detail=detail)
                await audit(conn, f"person:{person}", act)
            known = await conn.fetchrow(query["identity_person"], *account)
            if known is None:
                raise IdentityDiffers(name=named.email)
        if known["status"] != "active":
            raise PersonUnknown(name=named.email)
        found: UUID = known["person"]
        return found
