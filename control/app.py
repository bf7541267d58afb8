"""Assembles the control API: routers, the gate, one rendering of errors; swapped as a whole.

A route that declares neither a role nor that it is public does not start.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import asyncpg
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from control.api import (
    auth,
    byok,
    catalogue,
    corrections,
    credits,
    health,
    identities,
    jobs,
    keys,
    ledger,
    limits,
    models,
    moves,
    organisations,
    plans,
    plugins,
    providers,
    reference,
    secrets,
    services,
    system,
    system_keys,
    teams,
    tokens,
    usage,
    users,
)
from control.api.system import own_version
from control.auth import gate
from control.database import AWAY
from control.edge import REQUEST_ID, rendered
from control.errors import (
    DatabaseAway,
    DatabaseFull,
    FieldsInvalid,
    Invalid,
    MethodUnknown,
    PathUnknown,
)
from control.readiness import Readiness
from control.scopes import check_tagged
from control.state import State
from plugins.access import AccessError, access_of
from proxy.errors import OpsError

if TYPE_CHECKING:
    from control.lifecycle import Lifecycle

log = logging.getLogger("opscenter.control.app")

MISTAKES_SHOWN_MAX = 5

CORE: Sequence[APIRouter] = tuple(
    part.router
    for part in (
        auth,
        tokens,
        identities,
        organisations,
        users,
        services,
        keys,
        limits,
        teams,
        plans,
        jobs,
        credits,
        moves,
        corrections,
        usage,
        providers,
        system_keys,
        byok,
        models,
        catalogue,
        ledger,
        plugins,
        secrets,
        system,
        health,
        reference,
    )
)


def create_app(
    state: State, plugged: Sequence[APIRouter] = (), lifecycle: "Lifecycle | None" = None
) -> FastAPI:
    """The application of the core's routes and those of the plugins that run."""
    app = FastAPI(
        title="Ops-Center control API",
        version=own_version(),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    for router in (*CORE, *plugged):
        app.router.routes.extend(router.routes)
    check_access(app.router.routes)
    check_scopes(CORE)
    app.state.ops = state
    app.state.gate = gate
    app.state.plugins = lifecycle
    app.state.readiness = Readiness(state)
    _explain_errors(app)
    return app


def check_access(routes: Sequence[BaseRoute]) -> None:
    """Raises AccessError for the first route that does not say who may call it."""
    for route in routes:
        if not isinstance(route, APIRoute):
            raise AccessError(
                f"{route!r} cannot say who may call it; serve plain HTTP routes with a role."
            )
        access_of(route)


def check_scopes(routers: Sequence[APIRouter]) -> None:
    """Raises AccessError for the first route that does not say which scope a key needs for it."""
    for router in routers:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            check_tagged(route)


class Swap:
    """The application in force; a plugin that comes or goes puts another in its place."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


# Errors: foreign exceptions become our own here and nowhere else -----------------------


def _explain_errors(app: FastAPI) -> None:
    app.add_exception_handler(OpsError, _own)
    app.add_exception_handler(RequestValidationError, _fields)
    app.add_exception_handler(HTTPException, _route)
    app.add_exception_handler(asyncpg.DataError, _data)
    app.add_exception_handler(asyncpg.DiskFullError, _full)
    for kind in AWAY:
        app.add_exception_handler(kind, _database)
    app.add_exception_handler(Exception, _ours)


async def _own(request: Request, error: Exception) -> Response:
    assert isinstance(error, OpsError)
    return rendered(error, request.scope[REQUEST_ID])


async def _ours(request: Request, error: Exception) -> Response:
    """Starlette raises it once more after the answer; the edge writes it to the log then."""
    return rendered(OpsError(), request.scope[REQUEST_ID])


async def _fields(request: Request, error: Exception) -> Response:
    """Says which field and why, never what was sent: that may be a secret."""
    assert isinstance(error, RequestValidationError)
    mistakes = [
        (_place(one["loc"]), _reason(one["msg"])) for one in error.errors()[:MISTAKES_SHOWN_MAX]
    ]
    why = "; ".join(f"{place}: {reason}" for place, reason in mistakes)
    param = mistakes[0][0] if mistakes else None
    return rendered(FieldsInvalid(param, why=why), request.scope[REQUEST_ID])


def _reason(message: str) -> str:
    """Without the words by which the library says that a rule is ours."""
    return message.removeprefix("Value error, ")


def _place(loc: Sequence[object]) -> str:
    return ".".join(str(part) for part in loc[1:]) or str(loc[0])


async def _route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    own: OpsError = {404: PathUnknown(), 405: MethodUnknown()}.get(
        error.status_code, Invalid(why=str(error.detail))
    )
    response = rendered(own, request.scope[REQUEST_ID])
    response.status_code = error.status_code
    response.headers.update(dict(error.headers or {}))
    return response


async def _data(request: Request, error: Exception) -> Response:
    log.warning("request %s held a value that PostgreSQL refuses", request.scope[REQUEST_ID])
    why = "A value cannot be stored: it is too large or holds letters that are none."
    return rendered(Invalid(why=why), request.scope[REQUEST_ID])


async def _database(request: Request, error: Exception) -> Response:
    log.warning("request %s: PostgreSQL is away: %r", request.scope[REQUEST_ID], error)
    return rendered(DatabaseAway(), request.scope[REQUEST_ID])


async def _full(request: Request, error: Exception) -> Response:
    log.error("request %s: PostgreSQL is full: %s", request.scope[REQUEST_ID], error)
    return rendered(DatabaseFull(), request.scope[REQUEST_ID])
