"""The proof that Redis, the ledger and the usage agree to the micro-credit."""

from dataclasses import asdict
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse, Response

from control import sql
from control.api.shapes import Output, PlatformAdmin, PlatformAnalyst
from control.api.write import Act, Done, write
from control.books.explain import explain as explain_one
from control.books.rebuild import lacking
from control.books.verify import verify as verify_all
from control.database import Connection
from control.state import state_of

router = APIRouter(prefix="/api/v1/admin/ledger", tags=["ledger"])


@router.get("/verify", response_class=JSONResponse)
async def verify(request: Request, caller: PlatformAnalyst) -> Response:
    """Compares balances, transfers, usage and Redis; changes nothing."""
    state = state_of(request)
    report = await verify_all(state.pool, state.redis)
    return JSONResponse(asdict(report))


class Rebuilding(Output):
    """The generations that Redis has when it has been filled anew."""

    generations: dict[int, int]


@router.get("/requests/{request_id}", response_class=JSONResponse)
async def explain(request: Request, caller: PlatformAnalyst, request_id: UUID) -> Response:
    """The life of one request: its hold, its settlement, its rows, its price computed again."""
    state = state_of(request)
    life = await explain_one(state.pool, state.redis, request_id)
    return JSONResponse(jsonable_encoder(asdict(life)))


class Filling(Output):
    """How many shards Redis does not hold yet as the ledger knows them."""

    waiting: int


@router.get("/rebuild-redis")
async def rebuild_state(request: Request, caller: PlatformAnalyst) -> Filling:
    """How far filling Redis has come."""
    state = state_of(request)
    rows = await state.pool.fetch(sql.load()["shard_list"])
    generations = {row["id"]: row["generation"] for row in rows}
    found, _ = await lacking(state.redis, generations)
    return Filling(waiting=len(found))


@router.post("/rebuild-redis", status_code=202, response_model=Rebuilding)
async def rebuild_redis(request: Request, caller: PlatformAdmin) -> Response:
    """Has the drains fill Redis anew from the ledger; a shard admits nothing while it is filled."""

    async def effect(conn: Connection) -> Done:
        raised = await conn.fetch(sql.load()["shard_raise"])
        return Done(Rebuilding(generations={r["id"]: r["generation"] for r in raised}), 202)

    return await write(request, caller, Act("ledger.rebuild-redis", "ledger"), effect)
