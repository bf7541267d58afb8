"""Another root key: what is sealed in the database is sealed anew, while everything is served."""

from uuid import UUID

from fastapi import APIRouter, Request, Response

from control import reseal
from control.api.limit_acts import changes_of_people
from control.api.shapes import Input, Output, PlatformAdmin
from control.api.write import Act, Change, Done, write
from control.database import ACQUIRE_TIMEOUT_S, Connection
from control.errors import Conflict
from control.state import state_of

router = APIRouter(prefix="/api/v1/admin/secrets", tags=["system"])

ALONE = (
    "The control plane that runs knows one root key alone. Make another with `opscenter secrets "
    "new-root`, restart it, then rotate."
)


class Rotation(Input):
    """`after` is the `next` of the answer before; the first call names none."""

    after: UUID | None = None


class Rotated(Output):
    version: int  # of the root key that seals
    moved: int
    next: UUID | None  # null: that was the last batch


class SecretsStanding(Output):
    version: int
    left: int  # sealed by a former root key
    unreadable: int  # sealed by none that there is


@router.get("")
async def secrets_standing(request: Request, caller: PlatformAdmin) -> SecretsStanding:
    """By which root keys the stored secrets are sealed, all of them looked at."""
    state = state_of(request)
    async with state.pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as conn:
        found = await reseal.standing(conn, state.seals)
    return SecretsStanding(
        version=state.seals.version, left=found.left, unreadable=found.unreadable
    )


@router.post("/rotate", response_model=Rotated)
async def rotate_secrets(request: Request, caller: PlatformAdmin, given: Rotation) -> Response:
    """Seals some of the stored secrets anew under the newest root key: providers' keys, those of
    people and organisations, configurations of plugins. Repeat it until `next` is null."""
    state = state_of(request)

    async def effect(conn: Connection) -> Done:
        if len(state.seals.providers.fernets) == 1:
            raise Conflict(why=ALONE)
        moved = await reseal.move(conn, state.seals, given.after)
        if given.after is None:
            await state.tokens.renew(conn)
        changes = [Change("snapshot")] if given.after is None else []
        for organisation, person in moved.owners:
            if person is None:
                changes.append(Change("organisation", str(organisation)))
            else:
                changes += await changes_of_people(conn, organisation, [person])
        answer = Rotated(version=state.seals.version, moved=moved.count, next=moved.next)
        return Done(answer, changes=changes)

    detail = {"version": state.seals.version, "after": str(given.after or "")}
    return await write(request, caller, Act("secrets.rotate", "secrets", None, detail), effect)
