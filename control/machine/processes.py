"""The children of `opscenter up`: started, watched, started again when they die, stopped in order.

Knows nothing of what they do. `step` does what is due and never waits.
"""

import logging
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final

from control.machine.embedded.base import Escalation, ServerError
from control.providers.table import VARIABLES
from control.settings import ControlSettings
from proxy.declared import PREFIX, env_name
from proxy.machine import children
from proxy.machine.backoff import Backoff
from proxy.settings import Settings

log = logging.getLogger("opscenter.control.machine.processes")

START_FAILURES_MAX: Final = 3  # before the first readiness; then the start is given up
FORCED: Final = ((signal.SIGKILL, 5.0),)


@dataclass(slots=True)
class Unit:
    """One child: how it is started, and where it runs."""

    name: str
    start: Callable[[], children.Child]
    log: Path
    escalation: Escalation
    process: children.Child | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    failures: int = 0
    backoff: Backoff = field(default_factory=Backoff)

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def begin(self) -> None:
        self.started_at = time.monotonic()
        self.process = self.start()


class Household:
    """All units, in the order in which they are started; they stop in the reverse one."""

    def __init__(self) -> None:
        self.units: list[Unit] = []
        self.hurry = False

    def add(self, unit: Unit) -> None:
        """Takes on a unit, started now where it is not yet."""
        self.units.append(unit)
        if unit.process is None:
            unit.begin()

    def step(self, now: float) -> None:
        """Starts again whatever died, after a pause that grows while it keeps dying."""
        for unit in self.units:
            if unit.process is None:
                if now >= unit.start_at:
                    self._begin_again(unit, now)
            elif (status := unit.process.poll()) is not None:
                self._died(unit, now, children.ended(status))

    def given_up(self) -> Unit | None:
        """A unit that died too often since the beginning, if there is one."""
        return next((u for u in self.units if u.failures >= START_FAILURES_MAX), None)

    def force(self) -> None:
        """Ends at once what would drain; the servers still end in good order."""
        self.hurry = True
        for unit in self.units:
            if unit.runs and unit.process is not None and unit.escalation[-1:] == FORCED:
                unit.process.kill()

    def stop(self) -> list[str]:
        """Stops all in the reverse order; returns the names of those that had to be killed."""
        killed = []
        for unit in reversed(self.units):
            if unit.process is None or unit.process.poll() is not None:
                continue
            children.stop(unit.process, FORCED if self.hurry else unit.escalation)
            if unit.process.returncode == -signal.SIGKILL:
                killed.append(unit.name)
        return killed

    def _begin_again(self, unit: Unit, now: float) -> None:
        try:
            unit.begin()
        except (OSError, ServerError) as problem:
            self._died(unit, now, f"cannot be started: {problem}")

    def _died(self, unit: Unit, now: float, how: str) -> None:
        pause = unit.backoff.pause(now - unit.started_at)
        unit.process, unit.start_at = None, now + pause
        unit.failures += 1
        log.warning("%s %s; it starts again in %.1f s (see %s)", unit.name, how, pause, unit.log)


def python(
    name: str,
    module: Sequence[str],
    env: Mapping[str, str],
    log: Path,
    family: int,
    seconds: float,
) -> Unit:
    """A unit that runs one of our own modules and ends within `seconds` of SIGTERM."""
    argv = [*children.module(module[0]), *module[1:]]

    def start() -> children.Child:
        return children.spawn(argv, env=env, log=log, pass_fds=[family], cwd="/")

    return Unit(name, start, log, ((signal.SIGTERM, seconds), *FORCED))


def environment(settings: ControlSettings, environ: Mapping[str, str]) -> dict[str, str]:
    """What a child reads its settings from: ours, with the addresses that this start found."""
    found = {
        "HOME": settings.home,
        "RUN_DIR": settings.run_dir,
        "REDIS_URL": settings.redis_url,
        "DATABASE_URL": settings.database_url,
        "DOOR_PORT": settings.door_port,
        "CONTROL_PORT": settings.control_port,
        "HEALTH_PORT": settings.health_port,
        "IDP_EXCHANGE_URL": settings.idp_exchange_url or _control_url(settings),
    }
    return {**environ, **{PREFIX + name: str(value) for name, value in found.items()}}


def _control_url(settings: ControlSettings) -> str:
    """Where the door asks whom a token of the identity provider names."""
    if not settings.idp_issuer:
        return ""
    everywhere = settings.control_host in ("", "0.0.0.0", "::")  # noqa: S104 - where to call
    host = "127.0.0.1" if everywhere else settings.control_host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.control_port}"


def only_for_proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """Without what proxies may not hold: the database, the root key, all of the control plane's,
    and keys of providers."""
    known = {env_name(one) for one in fields(Settings)}
    return {
        name: value
        for name, value in environ.items()
        if (not name.startswith(PREFIX) or name in known) and name not in VARIABLES
    }
