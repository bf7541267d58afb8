"""Alive, ready, metrics: what machines ask, and what errors mean. Alive and ready tell nothing
more than that."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from control import sql
from control.api.shapes import PlatformAnalyst
from control.books import drift
from control.errors import PathUnknown
from control.state import State, state_of
from control.store import AWAY
from plugins.access import public
from proxy import errors

router = APIRouter(tags=["health"])

METRICS = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/healthz", dependencies=[public()], response_class=PlainTextResponse)
async def healthz() -> str:
    """This process is alive."""
    return "ok\n"


@router.get("/readyz", dependencies=[public()], response_class=JSONResponse)
async def readyz(request: Request) -> Response:
    """200 when everything is there to work with; else 503 with the names of what is missing."""
    missing = await request.app.state.readiness.missing()
    body = {"ready": not missing, "missing": sorted(missing)}
    return JSONResponse(body, 503 if missing else 200)


@router.get("/errors/{code}", dependencies=[public()], response_class=PlainTextResponse)
async def error(code: str) -> str:
    """What an error's code means; errors name this page as their `docs`."""
    page = errors.explained(code)
    if page is None:
        raise PathUnknown
    return page


@router.get("/metrics", tags=["system"], response_class=PlainTextResponse)
async def metrics(request: Request, caller: PlatformAnalyst) -> Response:
    """In Prometheus' text form; no key, no prompt, no name of anybody."""
    state = state_of(request)
    depth = await state.pool.fetchrow(sql.load()["outbox_depth"])
    assert depth is not None
    lines = [*_requests(state), *_pool(state), *_backlog(dict(depth)), *await _drift(state)]
    return Response("\n".join(lines) + "\n", media_type=METRICS)


async def _drift(state: State) -> list[str]:
    """Nothing where Redis is away: a figure that is not known is not zero."""
    try:
        off = await drift.known(state.redis)
    except AWAY:
        return []
    name = "opscenter_ledger_drift_ucr"
    return [
        f"# HELP {name} By how much Redis was found to differ.",
        f"# TYPE {name} gauge",
        f"{name} {off}",
    ]


def _requests(state: State) -> list[str]:
    counters = state.counters
    answered = [
        f'opscenter_control_requests_total{{status="{name}"}} {count}'
        for name, count in sorted(counters.answers.items())
    ]
    return [
        "# HELP opscenter_control_requests_total Answers of the control API by class of status.",
        "# TYPE opscenter_control_requests_total counter",
        *answered,
        *_gauge("control_requests_running", "Requests being served.", counters.running),
        *_gauge("control_started_seconds", "When this process began.", counters.started_at),
        *_gauge(
            "control_snapshot_published_seconds",
            "When the snapshot last reached Redis; 0: not yet.",
            counters.snapshot_published_at,
        ),
    ]


def _pool(state: State) -> list[str]:
    size, idle = state.pool.get_size(), state.pool.get_idle_size()
    return [
        *_gauge("control_database_connections", "Open connections to PostgreSQL.", size),
        *_gauge("control_database_connections_busy", "Of these, in use.", size - idle),
    ]


def _backlog(depth: dict[str, float]) -> list[str]:
    return [
        *_gauge("control_outbox_records", "Records that Redis may lack.", depth["records"]),
        *_gauge("control_publish_lag_seconds", "Age of the oldest of them.", depth["lag_s"]),
        *_gauge("control_dead_letters", "Usage that could not be booked.", depth["dead_letters"]),
    ]


def _gauge(name: str, help: str, value: float) -> list[str]:
    return [
        f"# HELP opscenter_{name} {help}",
        f"# TYPE opscenter_{name} gauge",
        f"opscenter_{name} {value}",
    ]
