"""The proof that Redis, the ledger and the usage agree to the micro-credit."""

from dataclasses import asdict

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from control.api.shapes import PlatformAnalyst
from control.books.verify import verify as verify_all
from control.state import state_of

router = APIRouter(prefix="/api/v1/admin/ledger", tags=["ledger"])


@router.get("/verify", response_class=JSONResponse)
async def verify(request: Request, caller: PlatformAnalyst) -> Response:
    """Compares balances, transfers, usage and Redis; changes nothing."""
    state = state_of(request)
    report = await verify_all(state.pool, state.redis)
    return JSONResponse(asdict(report))
