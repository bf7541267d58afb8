"""The plugins that run in this process, and every change of them, in this order:

    found -> configured -> checked -> started -> swapped in;  then the old one -> stopped

The new life is built completely, then one assignment swaps it in, then the old one is stopped. A
failure anywhere leaves the old one running and says why. What is enabled stands in the table
`plugin`; every process follows it within two seconds. Never enables what nobody enabled by name.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

import asyncpg
from fastapi import APIRouter
from starlette.requests import HTTPConnection

from control.database import AWAY, Connection, Pool
from control.errors import Conflict
from control.hosting.fence import Fence, PluginError
from control.hosting.living import (
    ConfigInvalid,
    Living,
    PluginRefused,
    PluginUnknown,
    begin,
    configure,
    load,
    usable,
)
from control.hosting.rows import Row, Rows, unfit
from control.hosting.serving import OnChange, Serving
from control.hosting.standing import AHEAD_S, PluginState, Record, state_of
from control.secrets import Secrets
from plugins import registry
from plugins.context import Database
from plugins.registry import Found

__all__ = ["Lifecycle", "PluginState", "lifecycle_of"]

log = logging.getLogger("opscenter.control.lifecycle")

POLL_S = 1.0  # so that every process notices a change within two seconds
READY_WITHIN_S = 3.0  # the core does not wait longer for its plugins at start
HEALTH_EVERY_S = 10.0

Wish = Callable[[Row], Row]


class Lifecycle:
    """Runs the plugins of one control process.

    `core` are the routers of the product itself: no plugin may shadow them. `on_change` is given
    the routers of all running plugins and makes the application anew; when it raises, nothing has
    changed. The application keeps this object at `app.state.plugins`.
    """

    def __init__(
        self,
        pool: Pool,
        secrets: Secrets,
        *,
        core: Sequence[APIRouter],
        on_change: OnChange,
        third_party: bool = True,
    ) -> None:
        self._pool = pool
        self._rows = Rows(pool, secrets)
        self._serving = Serving(core, on_change)
        self._third_party = third_party
        self._found: Mapping[str, Found] = {}
        self._records: dict[str, Record] = {}
        self._applying: dict[str, asyncio.Task[None]] = {}
        self._loops: list[asyncio.Task[None]] = []

    # The whole of it ----------------------------------------------------------------

    async def start(self) -> None:
        """Starts what is enabled. Slow ones come later; none keeps the core from being ready."""
        await self.refresh()
        await self._follow()
        if self._applying:
            await asyncio.wait(list(self._applying.values()), timeout=READY_WITHIN_S)
        self._loops = [
            asyncio.create_task(_every(POLL_S, self._follow), name="plugins-follow"),
            asyncio.create_task(_every(HEALTH_EVERY_S, self._ask_health), name="plugins-health"),
        ]

    async def stop(self) -> None:
        """Stops every plugin, each within its deadline."""
        tasks = [*self._loops, *self._applying.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(one.stop() for one in self._serving.clear()))
        for record in self._records.values():
            record.fence.close()

    async def refresh(self) -> None:
        """Looks again at what is installed."""
        self._found = await asyncio.to_thread(registry.find, third_party=self._third_party)

    # What is -------------------------------------------------------------------------

    def routers(self) -> Sequence[APIRouter]:
        """Of all running plugins, by name."""
        return self._serving.routers()

    def list(self) -> Sequence[PluginState]:
        """Every plugin that is installed or enabled, by name."""
        enabled = {name for name, one in self._records.items() if one.row.enabled}
        return [
            self.state(name) for name in sorted({*self._found, *enabled, *self._serving.living})
        ]

    def state(self, name: str) -> PluginState:
        return state_of(
            name, self._found.get(name), self._records.get(name), self._serving.living.get(name)
        )

    # What administrators do -----------------------------------------------------------
    # With a connection the change is part of the caller's transaction. Should that be taken
    # back, this process follows the database again within AHEAD_S.

    async def enable(self, name: str, conn: Connection | None = None) -> PluginState:
        """Starts the plugin and swaps it in; a failure leaves everything as it was."""
        return await self._alter(name, conn, lambda row: replace(row, enabled=True))

    async def disable(self, name: str, conn: Connection | None = None) -> PluginState:
        """Takes the plugin out, then stops it."""
        return await self._alter(name, conn, lambda row: replace(row, enabled=False))

    async def configure(
        self, name: str, config: Mapping[str, object], conn: Connection | None = None
    ) -> PluginState:
        """Gives the plugin another configuration; a running one is replaced by a new life of it."""
        if problem := unfit(config):
            raise ConfigInvalid(name=name, why=problem)
        return await self._alter(name, conn, lambda row: replace(row, config=dict(config)))

    async def reload(self, name: str, conn: Connection | None = None) -> PluginState:
        """Replaces the running life of a plugin by a new one, in every process."""
        return await self._alter(name, conn, lambda row: row, again=True)

    async def _alter(
        self, name: str, conn: Connection | None, wish: Wish, *, again: bool = False
    ) -> PluginState:
        record = await self._known(name)
        async with record.lock:
            old, former, new = self._serving.living.get(name), record.row, None
            try:
                async with self._rows.transaction(conn) as mine:
                    present = await self._rows.get(mine, name)
                    wanted = wish(present)
                    if again and not present.enabled:
                        raise Conflict(why=f"The plugin {name} is not enabled. Enable it instead.")
                    if not again and wanted == present and self._in_force(record, present):
                        return self.state(name)
                    record.fence.reset()
                    new = await self._built(record, wanted, present)
                    record.row = await self._rows.put(mine, wanted)
                    self._serving.swap(name, new)
            except BaseException as problem:
                await self._put_back(record, former, old, new)
                if isinstance(problem, PluginRefused):
                    record.error = problem.sentence
                raise
            record.succeeded(record.row)
            record.ahead_until = asyncio.get_running_loop().time() + AHEAD_S
            await _retire(old)
        return self.state(name)

    async def _known(self, name: str) -> Record:
        if name not in self._found:
            await self.refresh()
        if name not in self._found and name not in self._records:
            raise PluginUnknown(name=name)
        return self._record(name)

    def _in_force(self, record: Record, row: Row) -> bool:
        if not row.enabled:
            return row.name not in self._serving.living
        return row.name in self._serving.living and record.row.stamp == row.stamp

    # Build completely, swap by one assignment, stop the old --------------------------------

    async def _built(self, record: Record, wanted: Row, present: Row) -> Living | None:
        """A new life, or None for a plugin that is not to run; its configuration is checked."""
        found = self._found.get(wanted.name)
        if wanted.enabled:
            database = Database(self._pool, asyncio.get_running_loop())
            installed, config = usable(found, wanted)
            return await begin(
                installed, config, record.fence, database, self._serving.taken(wanted.name)
            )
        if wanted.config != present.config:
            installed, config = usable(found, wanted)
            hooks = await load(installed, record.fence)
            await configure(installed, hooks, config, record.fence)
        return None

    async def _put_back(
        self, record: Record, former: Row, old: Living | None, new: Living | None
    ) -> None:
        name = record.row.name
        record.row = former
        if self._serving.living.get(name) is not old:
            self._serving.swap(name, old)
        await _retire(new)

    def _record(self, name: str) -> Record:
        if name not in self._records:
            found = self._found.get(name)
            fence = Fence(name, own_thread=found is None or not found.builtin)
            self._records[name] = Record(fence, Row(name, config={}))
        return self._records[name]

    # Following the database -----------------------------------------------------------------

    async def _follow(self) -> None:
        """Applies what other processes wrote; a task per plugin, so that none delays another."""
        try:
            rows = await self._rows.all()
        except (asyncpg.PostgresError, *AWAY) as problem:
            log.warning("plugins stay as they are, the database cannot be read: %s", problem)
            return
        for name in {*rows, *self._records}:
            row, record = rows.get(name, Row(name, config={})), self._record(name)
            if name not in self._applying and self._due(record, row):
                task = asyncio.create_task(self._apply(record, row), name=name)
                self._applying[name] = task
                task.add_done_callback(self._applied)

    def _applied(self, task: asyncio.Task[None]) -> None:
        self._applying.pop(task.get_name(), None)

    def _due(self, record: Record, row: Row) -> bool:
        now, living = asyncio.get_running_loop().time(), self._serving.living.get(row.name)
        if living is not None and living.stranded and not record.retry_at:
            record.retry_at = now + record.pause_s  # what it had opened is lost; begin again
        return record.due(row, now)

    async def _apply(self, record: Record, row: Row) -> None:
        async with record.lock:
            if not self._due(record, row):
                return  # an administrator came first
            now, old = asyncio.get_running_loop().time(), self._serving.living.get(row.name)
            new: Living | None = None
            try:
                if row.enabled and row.name not in self._found:
                    await self.refresh()
                new = await self._built(record, row, row)
                if old is not None or new is not None:
                    self._serving.swap(row.name, new)
            except Exception as problem:
                log.error("plugin %s: %s", row.name, problem)
                await _retire(new)
                record.failed(row, str(problem), now)
                return
            record.succeeded(row)
            await _retire(old)

    async def _ask_health(self) -> None:
        await asyncio.gather(*(self._ask(name, one) for name, one in self._serving.living.items()))

    async def _ask(self, name: str, living: Living) -> None:
        try:
            said = await living.health()
        except PluginError as problem:
            said = problem.sentence
        self._records[name].unwell = said


def lifecycle_of(connection: HTTPConnection) -> Lifecycle:
    """The plugins of the application that serves this connection."""
    lifecycle = connection.app.state.plugins
    assert isinstance(lifecycle, Lifecycle)
    return lifecycle


async def _retire(living: Living | None) -> None:
    if living is not None:
        await living.stop()


async def _every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception:  # whatever it is, the next round must come
            log.exception("a round of the plugins' work failed")
