"""A set of proxies under the real supervisor, which is killed too. Its workers are its children and
found by its id; nobody here starts them.
"""

import asyncio
import re
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from bench.chaos.parts import LOOK_S, READY_S, Environment, Module, Part, PartError, children_of
from proxy.machine import children

TRY_AGAIN_S = 0.05
_serving = re.compile(rb"^door http", re.M).findall
_ended = re.compile(
    rb" worker \d+ \(process \d+\) (ended with status \d+|was ended by \w+)"
).findall


class Supervisor(Module):
    """`opscenter proxy` on a port that stays its own while it is dead."""

    def __init__(self, name: str, log: Path, env: Environment, workers: int) -> None:
        self._reserved = _reserve(), _reserve()
        door, health = (one.getsockname()[1] for one in self._reserved)
        ports = {"OPSCENTER_DOOR_PORT": str(door), "OPSCENTER_HEALTH_PORT": str(health)}
        super().__init__(
            name,
            log,
            ["proxy.machine.supervisor"],
            {**env, **ports, "OPSCENTER_WORKERS": str(workers)},
        )
        self.url = f"http://127.0.0.1:{door}"
        self.workers = [Supervised(f"{name}.{nth}", log, self, nth) for nth in range(workers)]

    async def begin(self) -> None:
        """While the workers of one that was killed still listen, none starts."""
        deadline = asyncio.get_running_loop().time() + READY_S
        while asyncio.get_running_loop().time() < deadline:
            told = len(_serving(self._text()))
            self.start()
            while self.runs:
                if len(_serving(self._text())) > told:
                    self.down = self.stopped = False
                    return
                await asyncio.sleep(TRY_AGAIN_S)
            await asyncio.sleep(TRY_AGAIN_S)
        raise PartError(f"{self.name} is not ready: {children.tail(self.log)}")

    def deaths_of_workers(self) -> list[str]:
        """Of those that no fault of ours explains; only its log tells of them."""
        told = (how.decode() for how in _ended(self._text()))
        return [how for how in told if not how.endswith("SIGKILL")]

    def _text(self) -> bytes:
        return self.log.read_bytes() if self.log.exists() else b""

    def close(self) -> None:
        for one in self._reserved:
            one.close()


class Supervised(Part):
    """One of its workers: the supervisor starts it again, nobody else."""

    def __init__(self, name: str, log: Path, supervisor: Supervisor, nth: int) -> None:
        super().__init__(name, log)
        self._supervisor = supervisor
        self._nth = nth
        self._struck: Sequence[int] = ()

    @property
    def runs(self) -> bool:
        return bool(self.pids())

    @property
    def life(self) -> object:
        return tuple(self.pids())

    def pids(self) -> list[int]:
        process = self._supervisor.process
        if process is None:
            return []
        found = sorted(pid for pid, title in children_of(process.pid) if "proxy.worker" in title)
        return found[self._nth : self._nth + 1]

    def _end(self) -> None:
        self._struck = self.pids()
        self.send(signal.SIGKILL)

    async def ended(self) -> None:
        while any(map(_has_files, self._struck)):  # noqa: ASYNC110 - only polling tells of another
            await asyncio.sleep(LOOK_S)

    async def begin(self) -> None:
        """Its supervisor sees to it."""

    async def keep(self) -> None:
        """Its supervisor sees to it."""


def _has_files(pid: int) -> bool:
    """It lives, or is about to die; a process that has died has none, also before it is reaped."""
    return Path(f"/proc/{pid}/fd/0").exists()


def _reserve() -> socket.socket:
    """A port of its own that nobody listens on: whoever shares it may."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", 0))
    return made
