"""A host for plugins on a real database, and toy distributions to install on it.

Third-party plugins are real distributions: a module and a dist-info folder on sys.path.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse

from control.database import Pool
from control.lifecycle import Lifecycle
from control.secrets import Secrets
from plugins.access import public
from plugins.testing import ROLE_HEADER, Answer, request, stage_gate
from proxy.errors import OpsError

FIXTURES = Path(__file__).parent / "fixtures" / "plugins"
SECRETS = Secrets(b"a root key that is only for tests, 48 characters")
WAIT_S = 10.0  # for what happens by itself; far more than it takes

Install = Callable[..., None]


class Host:
    """What control/app.py is to the lifecycle: an application that is made anew and swapped."""

    def __init__(self, pool: Pool, *, third_party: bool = True) -> None:
        self.swaps = 0
        self.refuse = False  # the application cannot be made
        self.core = APIRouter()
        self.core.add_api_route("/api/v1/core", lambda: "core", dependencies=[public()])
        self.core.add_api_route("/api/v1/core/{name}", lambda name: name, dependencies=[public()])
        self.plugins = Lifecycle(
            pool, SECRETS, core=[self.core], on_change=self.swap, third_party=third_party
        )
        self.swap([])

    def swap(self, routers: Sequence[APIRouter]) -> None:
        if self.refuse:
            raise RuntimeError("the application cannot be made")
        app = FastAPI()
        app.state.gate = stage_gate
        app.add_exception_handler(OpsError, _told)
        for router in [self.core, *routers]:
            app.include_router(router)
        self.app = app
        self.swaps += 1

    async def get(self, path: str, role: str = "admin") -> Answer:
        return await request(self.app, "GET", path, headers={ROLE_HEADER: role} if role else {})

    def state(self, name: str) -> str:
        return self.plugins.state(name).state

    def error(self, name: str) -> str:
        return self.plugins.state(name).error


async def _told(_: Request, problem: Exception) -> JSONResponse:
    assert isinstance(problem, OpsError)
    return JSONResponse({"code": problem.code, "message": problem.sentence}, problem.status)


@asynccontextmanager
async def running(pool: Pool, **given: Any) -> AsyncIterator[Host]:
    made = Host(pool, **given)
    await made.plugins.start()
    try:
        yield made
    finally:
        await made.plugins.stop()


async def becomes(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110  # what is waited for knows of no event
            await asyncio.sleep(0.01)


async def configured(host: Host, name: str, config: Mapping[str, object]) -> None:
    await host.plugins.configure(name, config)
    await host.plugins.enable(name)
