"""The processes of a run: started, killed, stopped and started again, each by the id it was given.

Every child dies with this process, however it ends. Restarts are asked for here and nowhere else.
"""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from control.machine.embedded import postgres, valkey
from proxy.machine import children

READY_S = 60.0
LOOK_S = 0.01
ENDED_S = 10.0

Environment = Mapping[str, str]


class PartError(RuntimeError):
    """A process of the run does not come up; the message holds the end of its log."""


class Part:
    """One process; `down` while a fault keeps it dead, so that the keeper leaves it alone."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self.down = False
        self.stopped = False
        self.deaths: list[str] = []  # those that no fault of ours explains
        self.busy = asyncio.Lock()
        self.process: children.Child | None = None

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        raise AssertionError(f"{self.name} cannot be started")

    async def ready(self) -> None:
        """Returns when the process does its work."""

    def pids(self) -> list[int]:
        return [self.process.pid] if self.process is not None and self.runs else []

    @property
    def life(self) -> object:
        """Another value after each start."""
        return self.process

    def send(self, number: signal.Signals) -> None:
        for pid in self.pids():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def strike(self) -> None:
        """SIGKILL for the process; what stands still of its own is let go, so that it sees it."""
        self.send(signal.SIGCONT)
        self._end()

    def _end(self) -> None:
        if self.process is not None and self.runs:
            self.process.kill()

    async def kill(self) -> None:
        self.strike()
        await self.ended()

    async def ended(self) -> None:
        async with asyncio.timeout(ENDED_S):
            while self.runs:  # noqa: ASYNC110 - only polling tells of another process
                await asyncio.sleep(LOOK_S)

    async def begin(self) -> None:
        self.start()
        self.down = self.stopped = False
        await self.ready()

    async def keep(self) -> None:
        """Starts again what ended by itself, and remembers that it did."""
        if self.down or self.busy.locked() or self.runs:
            return
        async with self.busy:
            if self.process is not None:
                self.deaths.append(children.ended(self.process.returncode or 0))
            await self.begin()

    async def until(self, condition: Callable[[], bool]) -> None:
        deadline = asyncio.get_running_loop().time() + READY_S
        while not condition():
            if asyncio.get_running_loop().time() > deadline:
                raise PartError(f"{self.name} is not ready: {children.tail(self.log)}")
            if not self.runs:
                return  # the keeper sees to it
            await asyncio.sleep(LOOK_S)


class Module(Part):
    """One of our own modules."""

    def __init__(
        self, name: str, log: Path, words: Sequence[str], env: Environment, fds: Sequence[int] = ()
    ) -> None:
        super().__init__(name, log)
        self._argv = [*children.module(words[0]), *words[1:]]
        self._env = env
        self._fds = fds

    def start(self) -> None:
        self.process = children.spawn(
            self._argv,
            env=self._env,
            log=self.log,
            pass_fds=self._fds,
            death_signal=signal.SIGKILL,
        )


class Cables(Part):
    """The fault proxy; its ports are known once it is ready."""

    def __init__(self, log: Path, target: Path, names: Sequence[str], env: Environment) -> None:
        super().__init__("cables", log)
        words = ["--target", str(target), "--names", ",".join(names)]
        self._argv = [*children.module("bench.chaos.cable"), *words]
        self._env = env
        self._names = names
        self.ports: dict[str, int] = {}

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._argv,
                env=dict(self._env),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        self.ports = json.loads(self.process.stdout.readline())

    def change(self, name: str, mode: str, ms: int = 0) -> None:
        assert self.process is not None
        pipe: IO[bytes] | None = self.process.stdin
        assert pipe is not None
        pipe.write(json.dumps({"cable": name, "mode": mode, "ms": ms}).encode() + b"\n")
        pipe.flush()

    def mend(self) -> None:
        for name in self._names:
            self.change(name, "open")


class Valkey(Part):
    """The Redis of the run, with its append-only file in a folder that can be wiped or filled."""

    def __init__(self, log: Path, data: Path, run: Path, password: str, fsync: str) -> None:
        super().__init__("redis", log)
        self.data, self.run, self.fsync = data, run, fsync
        self.password = password
        self.socket = run / valkey.SOCKET
        self.url = valkey.url_of(run, password)
        self._probe = valkey.Probe(self.socket, password)
        self._binary = str(valkey.find_binary())

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        argv = [self._binary, "-", "--dir", str(self.data)]
        self.process = children.spawn(
            argv,
            env={"LC_ALL": "C"},
            stdin=subprocess.PIPE,
            log=self.log,
            cwd="/",
            death_signal=signal.SIGKILL,
        )
        text = valkey.configuration(self.data, self.socket, self.password, 1)
        text = text.replace("appendfsync everysec", f"appendfsync {self.fsync}")
        assert self.process.stdin is not None
        try:
            with self.process.stdin as pipe:
                pipe.write(text.encode())
        except BrokenPipeError:
            pass

    async def ready(self) -> None:
        await self.until(self._probe)


class Postgres(Part):
    def __init__(self, log: Path, data: Path, run: Path, password: str) -> None:
        super().__init__("postgres", log)
        self._data, self._run, self._password = data, run, password
        self._server: postgres.PostgresServer | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return self._server.url

    def start(self) -> None:
        """No fault here cuts the power, so the data need not reach the disk itself."""
        self._server = postgres.launch(
            self._data, self._run, self._password, log=self.log, durable=False
        )
        self.process = self._server.process

    async def ready(self) -> None:
        assert self._server is not None
        await self.until(self._server.is_ready)

    def pids(self) -> list[int]:
        return [*super().pids(), *self.backends("")]

    def backends(self, word: str) -> list[int]:
        """Its own processes whose title holds the word."""
        if self.process is None or not self.runs:
            return []
        return [pid for pid, title in children_of(self.process.pid) if word in title]


def children_of(parent: int) -> list[tuple[int, str]]:
    """Ids and titles of a process's children."""
    found = []
    try:
        listed = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    except OSError:
        return []
    for pid in listed:
        try:
            title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        found.append((int(pid), title))
    return found
