"""What a plugin is given: its name, its configuration, a logger, and what its permissions open.

The permissions bound what the host hands over. They are no sandbox: a plugin is Python in this
process, and what it imports by itself nobody stops.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Generic, TypeAlias, TypeVar

import asyncpg
from pydantic import BaseModel

from plugins import access

ROUTES = "routes"
DATABASE = "database"
PERMISSIONS = {
    ROUTES: "answers requests under /api/v1/",
    DATABASE: "reads and writes this Ops-Center's database",
}

QUERY_SECONDS_MAX = 10.0
ROWS_MAX = 10_000
CONNECTIONS_MAX = 2  # of the control plane's pool, for one plugin at one time

Config = TypeVar("Config", bound=BaseModel)
Result = TypeVar("Result")
Row = dict[str, object]
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


class PermissionMissing(PermissionError):
    """A plugin reached for something that its distribution does not declare."""


class TooManyRows(ValueError):
    """A query of a plugin returned more rows than one answer may hold."""


class Database:
    """The product's database for one plugin: few connections, every query with a deadline.

    It may be used from every event loop; the work is done on the one that the pool belongs to.
    """

    def __init__(self, pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self._turns = asyncio.Semaphore(CONNECTIONS_MAX)

    async def fetch(self, query: str, *values: object) -> list[Row]:
        """The rows of one statement, at most ROWS_MAX of them."""
        return await self._at_home(self._fetch(query, values))

    async def execute(self, query: str, *values: object) -> str:
        """Runs one statement and returns Postgres' word for what it did, such as `UPDATE 1`."""
        return await self._at_home(self._execute(query, values))

    async def _at_home(self, work: Coroutine[Any, Any, Result]) -> Result:
        if asyncio.get_running_loop() is self._loop:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def _fetch(self, query: str, values: Sequence[object]) -> list[Row]:
        async with self._turn() as conn, conn.transaction():
            cursor = await conn.cursor(query, *values)
            rows = await cursor.fetch(ROWS_MAX + 1)
        if len(rows) > ROWS_MAX:
            raise TooManyRows(f"The query has more than {ROWS_MAX} rows; ask for them in pages.")
        return [dict(row) for row in rows]

    async def _execute(self, query: str, values: Sequence[object]) -> str:
        async with self._turn() as conn:
            return await conn.execute(query, *values)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[Connection]:
        async with asyncio.timeout(QUERY_SECONDS_MAX), self._turns, self._pool.acquire() as conn:
            yield conn


@dataclass(frozen=True, slots=True)
class Context(Generic[Config]):
    """What every hook is given. One per life: a plugin that is configured anew gets a new one."""

    name: str
    config: Config  # of the type that the hook `configuration` returned
    log: logging.Logger
    permissions: frozenset[str] = frozenset()
    opened: Database | None = None  # ask for `database`
    state: SimpleNamespace = field(default_factory=SimpleNamespace)  # the plugin's own

    @property
    def database(self) -> Database:
        """The product's database; needs the permission `database`."""
        if DATABASE not in self.permissions or self.opened is None:
            raise PermissionMissing(
                f"The plugin {self.name} does not declare the permission {DATABASE!r}; its author "
                f"adds it to the entry-point group opscenter.permissions.{DATABASE}."
            )
        return self.opened

    def needs(self, role: str, *, platform: bool = False) -> Any:
        """For a route's dependencies: callers must hold at least this role."""
        return access.needs(role, platform=platform)

    def public(self) -> Any:
        """For a route's dependencies: it is for everybody."""
        return access.public()
