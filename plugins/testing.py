"""For the tests of plugin authors: a ready-made context, and a plugin's life on a small stage.

    async with rehearse(my_plugin, {"greeting": "Hi"}) as stage:
        answer = await stage.request("GET", "/api/v1/hello", role="viewer")
        assert answer.status == 200

Needs no server and no database. Never used by the product itself.
"""

import logging
from collections.abc import AsyncIterator, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from plugins.access import ROLES, Access, Caller, access_of
from plugins.context import ROUTES, Context, Database
from plugins.registry import Hooks

NAME = "rehearsed"
ROLE_HEADER = "x-rehearsed-role"


class Empty(BaseModel):
    """The configuration of a plugin that takes none."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass(slots=True)
class Stage:
    """A plugin that has started, and an application that serves nothing but its routes."""

    context: Context[Any]
    hooks: Hooks
    app: FastAPI = field(repr=False)

    async def health(self) -> str:
        said = await _given(self.hooks.call("health", context=self.context))
        return str(said) if said is not None else ""

    async def request(
        self, method: str, path: str, *, role: str = "", body: object = None
    ) -> Answer:
        """One request, as somebody with that role; without one, as nobody."""
        headers = {ROLE_HEADER: role} if role else {}
        return await request(self.app, method, path, headers=headers, body=body)


def context_for(
    config: BaseModel | None = None,
    *,
    name: str = NAME,
    permissions: Sequence[str] = (),
    database: Database | None = None,
) -> Context[Any]:
    """What the host would give to a plugin with this name, configuration and permissions."""
    return Context(
        name=name,
        config=config or Empty(),
        log=logging.getLogger(f"opscenter.plugins.{name}"),
        permissions=frozenset(permissions),
        opened=database,
    )


@asynccontextmanager
async def rehearse(
    plugin: object,
    config: Mapping[str, object] | None = None,
    *,
    permissions: Sequence[str] = (ROUTES,),
    database: Database | None = None,
) -> AsyncIterator[Stage]:
    """Configures, checks and starts a plugin in the host's order; stops it in the end."""
    hooks = Hooks(NAME, plugin)
    model: Any = hooks.call("configuration") or Empty
    context = context_for(
        model.model_validate(dict(config or {})), permissions=permissions, database=database
    )
    app = _application(hooks.call("routes", context=context))
    try:
        await _given(hooks.call("start", context=context))
        yield Stage(context, hooks, app)
    finally:
        await _given(hooks.call("stop", context=context))


def _application(router: object) -> FastAPI:
    app = FastAPI(openapi_url=None)
    app.state.gate = stage_gate
    if isinstance(router, APIRouter):
        for route in router.routes:
            assert isinstance(route, APIRoute), f"{route!r} is no plain HTTP route"
            access_of(route)
        app.include_router(router)
    return app


async def stage_gate(connection: HTTPConnection, access: Access) -> Caller:
    """Believes the header ROLE_HEADER: for rehearsals alone."""
    role = connection.headers.get(ROLE_HEADER, "")
    if role not in ROLES:
        raise HTTPException(401, "Nobody is signed in.")
    if ROLES.index(role) < ROLES.index(access.role):
        raise HTTPException(403, f"This needs the role {access.role}.")
    return Caller("person:rehearsed", role, None, None, platform=True)


async def _given(result: object) -> object:
    return await result if isawaitable(result) else result


# One request to an ASGI application, without a socket ----------------------------------


async def request(
    app: Any,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: object = None,
) -> Answer:
    """The whole answer; `body` is sent as JSON."""
    sent: list[MutableMapping[str, Any]] = []
    content = b"" if body is None else orjson.dumps(body)
    messages = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive() -> MutableMapping[str, Any]:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app(_scope(method, path, headers or {}), receive, send)
    status = next(one["status"] for one in sent if one["type"] == "http.response.start")
    return Answer(status, b"".join(one.get("body", b"") for one in sent))


def _scope(method: str, path: str, headers: Mapping[str, str]) -> dict[str, Any]:
    path, _, query = path.partition("?")
    given = {"host": "localhost", "content-type": "application/json", **headers}
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
    }
