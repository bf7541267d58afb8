"""One start of the product: home, ports, servers, database, first day, children, all ready.

What others wait for is started first, and nothing waits that need not. Stops nothing: that is
for `up`, which holds the household.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from control.machine import home as homes
from control.machine import servers
from control.machine.embedded.base import READY_SECONDS_MAX, EmbeddedServer
from control.machine.home import Home
from control.machine.processes import Household, Unit, environment, only_for_proxies, python
from control.machine.welcome import Progress, first_access, later, welcome
from control.settings import ControlSettings
from proxy.machine import children, listen

if TYPE_CHECKING:
    from control.bootstrap import FirstAccess

START_SECONDS_MAX: Final = 60.0  # from the first child to everything ready
STOP_GRACE_SECONDS: Final = 10.0  # beyond a child's own deadline
DRAIN_STOP_SECONDS: Final = 20.0  # usage events on their way to the ledger
LOOK_SECONDS: Final = 0.02


class StartError(Exception):
    """The product cannot be started; the sentence says why and what helps."""


@dataclass(slots=True)
class Start:
    settings: ControlSettings
    household: Household
    progress: Progress
    servers: list[EmbeddedServer] = field(default_factory=list)
    children: list[Unit] = field(default_factory=list)
    access: "FirstAccess | None" = None
    home: Home | None = None

    def open(self) -> None:
        """Home, ports and servers; returns while the servers still load their data."""
        home = self.home = homes.open_home(self.settings)
        if not homes.family_is_gone(home):
            self.progress.say("waiting for the processes of an earlier start to end")
            drain_seconds = self.settings.drain_ms / 1000
            homes.await_family(home, drain_seconds + DRAIN_STOP_SECONDS + STOP_GRACE_SECONDS)
        self.settings = _with_free_ports(self.settings)
        if not self.settings.redis_url:
            url = self._launch("valkey", lambda: servers.launch_valkey(home.path, home.run))
            self.settings = replace(self.settings, redis_url=url)
        if not self.settings.database_url:
            url = self._launch("postgres", lambda: servers.launch_postgres(home.path, home.run))
            self.settings = replace(self.settings, database_url=url)

    def _launch(self, name: str, launch: Callable[[], EmbeddedServer]) -> str:
        server = launch()
        self.servers.append(server)
        unit = Unit(name, lambda: launch().process, server.log, server.escalation)
        unit.process = server.process
        self.household.add(unit)
        return server.url

    async def finish(self) -> None:
        """The rest, in the event loop; everything is ready at its end."""
        if self._children_can_wait():
            self._start_children()
        await self._await_servers()
        try:
            await self._prepare_database()
            if not self.children:
                self._start_children()
            await self._await_ready()
            print(welcome(self.settings), end="", flush=True)
            if self.access is None:
                print(later(), flush=True)
        finally:
            if self.access is not None:  # even if the rest fails: it is never shown again
                print(first_access(self.settings, self.access), flush=True)

    def _children_can_wait(self) -> bool:
        """Whether children may start before the database was looked at: they find it as it was."""
        if not (self.servers and self.settings.proxy_keys.exists()):
            return False
        return homes.schema_is_known(self.settings)

    async def _await_servers(self) -> None:
        import asyncio

        await asyncio.gather(*(_come(server) for server in self.servers))
        brought = {server.name for server in self.servers}
        if len(brought) < 2:
            from control.machine import reach

            if "Valkey" not in brought:
                await reach.check_redis(self.settings.redis_url)
            if "PostgreSQL" not in brought:
                await reach.check_database(self.settings.database_url)
        self.progress.step("Valkey and PostgreSQL answer")

    async def _prepare_database(self) -> None:
        """Migrations, and the first day where there was none."""
        from control import migrate

        applied = await migrate.migrate(self.settings.database)
        if applied:
            self.progress.step(f"database at {applied[-1]}")
        if applied or not homes.schema_is_known(self.settings):
            homes.remember_schema(self.settings)
        from control.machine import first_day

        self.access = await first_day.make(self.settings)
        if self.access is not None:
            self.progress.step("first administrator and API key made")

    def _start_children(self) -> None:
        assert self.home is not None
        everything = children.with_our_code(environment(self.settings, os.environ))
        drain_seconds = self.settings.drain_ms / 1000 + STOP_GRACE_SECONDS
        control_seconds = self.settings.control_stop_s + STOP_GRACE_SECONDS
        for name, module, env, seconds in (
            ("drain", ("control.machine.child", "drain"), everything, DRAIN_STOP_SECONDS),
            ("control", ("control.machine.child", "control"), everything, control_seconds),
            ("proxy", ("proxy.machine.supervisor",), only_for_proxies(everything), drain_seconds),
        ):
            unit = python(name, module, env, self.home.log(name), self.home.family, seconds)
            self.household.add(unit)
            self.children.append(unit)

    async def _await_ready(self) -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_SECONDS_MAX
        waiting = ["control", "proxy"]
        while True:
            self.household.step(loop.time())
            self._check_alive()
            waiting = [name for name in waiting if not await self._is_ready(name)]
            if not waiting:
                break
            if loop.time() > deadline:
                raise self._failed(waiting[0], f"was not ready in {START_SECONDS_MAX:.0f} s")
            await asyncio.sleep(LOOK_SECONDS)
        self.progress.step("control, drain and proxies ready")
        self.progress.say(f"started in {self.progress.seconds:.1f} s")

    def _check_alive(self) -> None:
        failed = self.household.given_up()
        if failed is not None:
            raise self._failed(failed.name, "does not start")

    def _failed(self, name: str, what: str) -> StartError:
        log = next(unit.log for unit in self.household.units if unit.name == name)
        return StartError(f"{name} {what}. {log} says more. Its last lines:\n{children.tail(log)}")

    async def _is_ready(self, name: str) -> bool:
        from control.machine.ports import says_ready

        if name == "control":
            host, port = self.settings.control_host, self.settings.control_port
            known_as = min(self.settings.hosts)
        else:
            host, port, known_as = self.settings.health_host, self.settings.health_port, "localhost"
        return await says_ready(listen.reachable(host).strip("[]"), port, known_as)


def _with_free_ports(settings: ControlSettings) -> ControlSettings:
    from control.machine import ports  # which loads asyncio: the locks above are looked at first

    return ports.settle(settings)


async def _come(server: EmbeddedServer) -> None:
    import asyncio

    loop = asyncio.get_running_loop()
    deadline = loop.time() + READY_SECONDS_MAX
    while True:
        if server.has_come():
            return
        if loop.time() > deadline:
            raise server.too_late()
        await asyncio.sleep(children.POLL_SECONDS)
