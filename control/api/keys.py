"""API keys: made and shown once, listed masked, edited, blocked, rotated, revoked; one's own and
others'. What is done is in key_acts.py.
"""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from control.api import key_acts
from control.api.key_shapes import ApiKey, KeyEdit, KeyMade, KeyRotation, KeyWanted, KeyWantedFor
from control.api.shapes import KID, PAGE_DEFAULT, Developer, KidPath, Limit, Moderator, Page
from control.auth import home, scope
from control.errors import Invalid
from control.state import state_of
from plugins.access import Caller

router = APIRouter(tags=["keys"])

OWN = "/api/v1/keys"
OTHERS = "/api/v1/admin/users/{user}/api-keys"
ONE = "/{key}"

Cursor = Annotated[str | None, Query(pattern=KID)]


# One's own --------------------------------------------------------------------------


@router.get(OWN)
async def list_keys(
    request: Request, caller: Developer, limit: Limit = PAGE_DEFAULT, cursor: Cursor = None
) -> Page[ApiKey]:
    """Your keys in this organisation, masked."""
    return await key_acts.list_(request, _self(caller), home(caller), limit, cursor)


@router.post(OWN, status_code=201, response_model=KeyMade)
async def create_key(request: Request, caller: Developer, given: KeyWanted) -> Response:
    """A new key for yourself. It is shown in this answer and never again."""
    return await key_acts.create(request, caller, _self(caller), home(caller), given)


@router.get(OWN + ONE)
async def show_key(request: Request, caller: Developer, key: KidPath) -> ApiKey:
    return await key_acts.show(request, _self(caller), home(caller), key)


@router.patch(OWN + ONE, response_model=ApiKey)
async def edit_key(request: Request, caller: Developer, key: KidPath, given: KeyEdit) -> Response:
    """Other limits, in force for the next request. What is not sent stays; null takes it away."""
    return await key_acts.edit(request, caller, _self(caller), home(caller), key, given)


@router.post(OWN + ONE + "/block", response_model=ApiKey)
async def block_key(request: Request, caller: Developer, key: KidPath) -> Response:
    """From the next request on it is refused, until it is let in again."""
    return await _status(request, caller, key, "blocked")


@router.post(OWN + ONE + "/unblock", response_model=ApiKey)
async def unblock_key(request: Request, caller: Developer, key: KidPath) -> Response:
    return await _status(request, caller, key, "active")


@router.post(OWN + ONE + "/rotate", response_model=KeyMade)
async def rotate_key(
    request: Request, caller: Developer, key: KidPath, given: KeyRotation
) -> Response:
    """A new secret for the same key, shown this once; the old one is good for `overlap_s` yet."""
    return await key_acts.rotate(request, caller, _self(caller), home(caller), key, given.overlap_s)


@router.delete(OWN + ONE, response_model=ApiKey)
async def revoke_key(request: Request, caller: Developer, key: KidPath) -> Response:
    """When this answers 200, no request is admitted with the key any more."""
    return await _status(request, caller, key, "revoked")


async def _status(request: Request, caller: Caller, key: str, status: str) -> Response:
    return await key_acts.set_status(request, caller, _self(caller), home(caller), key, status)


# Others' ----------------------------------------------------------------------------


@router.get(OTHERS)
async def list_keys_of(
    request: Request,
    caller: Moderator,
    user: UUID,
    limit: Limit = PAGE_DEFAULT,
    cursor: Cursor = None,
) -> Page[ApiKey]:
    await _seen(request, caller, user)
    return await key_acts.list_(request, user, scope(caller), limit, cursor)


@router.post(OTHERS, status_code=201, response_model=KeyMade)
async def create_key_of(
    request: Request, caller: Moderator, user: UUID, given: KeyWantedFor
) -> Response:
    """A key that acts as this person: only for people below yourself, unless you are admin."""
    return await key_acts.create(request, caller, user, given.organisation, given)


@router.get(OTHERS + ONE)
async def show_key_of(request: Request, caller: Moderator, user: UUID, key: KidPath) -> ApiKey:
    await _seen(request, caller, user)
    return await key_acts.show(request, user, scope(caller), key)


@router.patch(OTHERS + ONE, response_model=ApiKey)
async def edit_key_of(
    request: Request, caller: Moderator, user: UUID, key: KidPath, given: KeyEdit
) -> Response:
    return await key_acts.edit(request, caller, user, scope(caller), key, given)


@router.post(OTHERS + ONE + "/block", response_model=ApiKey)
async def block_key_of(request: Request, caller: Moderator, user: UUID, key: KidPath) -> Response:
    return await key_acts.set_status(request, caller, user, scope(caller), key, "blocked")


@router.post(OTHERS + ONE + "/unblock", response_model=ApiKey)
async def unblock_key_of(request: Request, caller: Moderator, user: UUID, key: KidPath) -> Response:
    return await key_acts.set_status(request, caller, user, scope(caller), key, "active")


@router.post(OTHERS + ONE + "/rotate", response_model=KeyMade)
async def rotate_key_of(
    request: Request, caller: Moderator, user: UUID, key: KidPath, given: KeyRotation
) -> Response:
    return await key_acts.rotate(request, caller, user, scope(caller), key, given.overlap_s)


@router.delete(OTHERS + ONE, response_model=ApiKey)
async def revoke_key_of(request: Request, caller: Moderator, user: UUID, key: KidPath) -> Response:
    return await key_acts.set_status(request, caller, user, scope(caller), key, "revoked")


# What they share ----------------------------------------------------------------------


def _self(caller: Caller) -> UUID:
    if caller.person is None:
        raise Invalid(why="The platform has no owner whose key this could be; name a user.")
    return caller.person


async def _seen(request: Request, caller: Caller, user: UUID) -> None:
    async with state_of(request).pool.acquire() as conn:
        await key_acts.member_of(conn, caller, user, None)
