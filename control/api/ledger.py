"""The proof that Redis, the ledger and the usage agree to the micro-credit."""

from dataclasses import asdict

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from control import ledger
from control.api.shapes import PlatformAnalyst
from control.state import state_of

router = APIRouter(prefix="/api/v1/admin/ledger", tags=["ledger"])


@router.get("/verify", response_class=JSONResponse)
async def verify(request: Request, caller: PlatformAnalyst) -> Response:
    """Compares balances, transfers, usage and Redis; changes nothing."""
    state = state_of(request)
    report = await ledger.verify(state.pool, state.redis)
    return JSONResponse(asdict(report))
