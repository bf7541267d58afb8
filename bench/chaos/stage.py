"""Everything of a run in one temporary home: servers, cables, proxies, drains, provider, load.

Nothing outlives the `async with`: processes die with this one, mounts and files are removed.
"""

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from bench.chaos import fleet
from bench.chaos.crew import Supervisor
from bench.chaos.parts import Cables, Module, Part, Postgres, Valkey
from bench.chaos.plan import CABLES, SETS, Plan
from control import migrate, settings
from control.books.publish import Publisher
from control.database import Pool, connect_patiently
from control.store import Store
from proxy.machine import children, listen

WORKERS = 2  # of each set of proxies; the last set has a supervisor
REDIS_DISK_MB, JOURNAL_DISK_MB = 768, 96
KEEP_S = 0.03
UPSTREAM_WORKERS = 1
_LISTENING = re.compile(r"listening on (\S+)")


class Stage:
    """The parts by name, and the folder with the truth that the checker reads."""

    def __init__(self, home: Path, plan: Plan) -> None:
        self.home, self.plan = home, plan
        self.run = home / "run"
        self.truth = home / "truth"
        self.logs = home / "logs"
        self.disks: dict[str, Path] = {}  # small file systems that can be filled
        self.notes: list[str] = []
        self.parts: list[Part] = []
        self.workers: list[Part] = []
        self.sets: list[list[Part]] = []  # what dies when a machine of proxies dies
        self.drains: list[Module] = []
        self.bills = self.truth / "bills.jsonl"
        self._password = secrets.token_hex(16)
        self.lengths: dict[str, list[tuple[float, int]]] = {}  # of Redis' files, by time
        self._sockets: list[socket.socket] = []
        self._bills_read = self._bills_count = 0
        self._running = True

    # building ---------------------------------------------------------------

    async def build(self, connections: int) -> None:
        for folder in (self.run, self.truth, self.logs, self.home / "secrets"):
            folder.mkdir(mode=0o700, parents=True)
        data = self._disk("redis", REDIS_DISK_MB)
        log = self.logs
        self.redis = Valkey(
            log / "redis.log", data, self.run, self._password, self.plan.appendfsync
        )
        self.postgres = Postgres(log / "postgres.log", self.home / "pg", self.run, self._password)
        self.cables = Cables(
            log / "cables.log", self.redis.socket, CABLES, children.with_our_code(os.environ)
        )
        first: list[Part] = [self.redis, self.postgres, self.cables]
        for part in first:
            self.parts.append(part)
            await part.begin()
        upstream = await self._upstream()
        await self._fill(upstream)
        self._add_control()
        self._add_drains()
        self._add_proxies()
        for part in self.parts[4:]:
            await part.begin()
        self.load = Module(
            "load", log / "load.log", self._load_words(connections), self._environment({})
        )

    async def _upstream(self) -> str:
        words = ["bench.upstream", "--ledger", str(self.bills), "--workers", str(UPSTREAM_WORKERS)]
        part = Module("upstream", self.logs / "upstream.log", words, self._environment({}))
        self.parts.append(part)
        await part.begin()
        await part.until(lambda: bool(_LISTENING.search(part.log.read_text())))
        found = _LISTENING.search(part.log.read_text())
        assert found is not None
        return f"{found[1]}/v1"

    async def _fill(self, upstream: str) -> None:
        """Schema, callers, models; the drains bring all of it to Redis."""
        self.settings = settings.load(self._control_environment())
        await migrate.migrate(self.settings.database)
        self.pool: Pool = await connect_patiently(self.settings)
        self.organisations = await fleet.make(self.pool, self.settings, upstream, self.truth)
        store = Store(self.redis.url)
        await Publisher(self.pool, store).snapshot()
        await store.close()

    def _add_control(self) -> None:
        env = self._environment(self._control_environment())
        words = ["control.machine.child", "control"]
        self.control = Module("control", self.logs / "control.log", words, env)
        self.parts.append(self.control)

    def _add_drains(self) -> None:
        env = self._environment(self._control_environment())
        for nth in range(self.plan.drains):
            log = self.logs / f"drain{nth}.log"
            self.drains.append(Module(f"drain{nth}", log, ["control.machine.child", "drain"], env))
        self.parts += self.drains

    def _add_proxies(self) -> None:
        """The doors' sockets stay open here while workers come and go; with the last set a
        supervisor does that, and is killed too.
        """
        self.urls = []
        for nth in range(SETS - 1):
            sockets = listen.at("127.0.0.1", 0, WORKERS, "door")
            self._sockets += sockets
            self.urls.append(listen.url(sockets[0]))
            env = self._proxy_environment(nth)
            self.sets.append([
                self._worker(nth, slot, env, one.fileno()) for slot, one in enumerate(sockets)
            ])  # fmt: skip
            self.workers += self.sets[-1]
        log, env = self.logs / "supervisor.log", self._proxy_environment(SETS - 1)
        self.supervisor = Supervisor("supervisor", log, env, WORKERS)
        self.urls.append(self.supervisor.url)
        self.workers += self.supervisor.workers
        self.sets.append([*self.supervisor.workers, self.supervisor])
        self.parts += [part for one in self.sets for part in one]

    def _proxy_environment(self, nth: int) -> dict[str, str]:
        home = self.home / f"proxies{nth}"
        home.mkdir(mode=0o700)
        self._disk(f"journal{nth}", JOURNAL_DISK_MB, home / "journal")
        (home / "run").mkdir(mode=0o700)
        port = self.cables.ports[f"proxies{nth}"]
        return self._environment({
            "OPSCENTER_HOME": str(home),
            "OPSCENTER_RUN_DIR": str(home / "run"),
            "OPSCENTER_PROXY_KEY_FILE": str(self.settings.proxy_keys),
            "OPSCENTER_REDIS_URL": f"redis://:{self._password}@127.0.0.1:{port}/0",
        })  # fmt: skip

    def _worker(self, nth: int, slot: int, env: dict[str, str], fd: int) -> Module:
        words = ["proxy.worker", "--slot", str(slot), "--fd", str(fd)]
        name = f"worker{nth}.{slot}"
        return Module(name, self.logs / f"{name}.log", words, env, [fd])

    def _control_environment(self) -> dict[str, str]:
        port = self.cables.ports["drains"]
        return {
            "OPSCENTER_HOME": str(self.home),
            "OPSCENTER_RUN_DIR": str(self.run),
            "OPSCENTER_CATALOGUE": "off",
            "OPSCENTER_CONTROL_PORT": "0",
            "OPSCENTER_REDIS_URL": f"redis://:{self._password}@127.0.0.1:{port}/0",
            "OPSCENTER_DATABASE_URL": self.postgres.url,
            "OPSCENTER_LEASE_MS": str(self.plan.lease_ms),
            "OPSCENTER_RENEW_MS": str(self.plan.renew_ms),
        }

    def _environment(self, ours: dict[str, str]) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("OPSCENTER_")}
        common = {
            "OPSCENTER_LOG_LEVEL": "warning",
            "OPSCENTER_LEASE_MS": str(self.plan.lease_ms),
            "OPSCENTER_RENEW_MS": str(self.plan.renew_ms),
            "OPSCENTER_DRAIN_MS": "2000",
            "PYTHONUNBUFFERED": "1",
        }
        return children.with_our_code(inherited) | common | ours

    def _load_words(self, connections: int) -> list[str]:
        return [
            *("bench.chaos.load", "--truth", str(self.truth), "--urls", ",".join(self.urls)),
            *("--seed", str(self.plan.seed), "--connections", str(connections)),
        ]

    def _disk(self, name: str, megabytes: int, at: Path | None = None) -> Path:
        """A folder on a file system of its own where this user may mount one."""
        folder = at or self.home / name
        folder.mkdir(mode=0o700)
        options = f"size={megabytes}m,mode=0700"
        argv = ["mount", "-t", "tmpfs", "-o", options, "chaos", str(folder)]
        if os.geteuid() == 0 and sys.platform == "linux":
            if subprocess.run(argv, capture_output=True, check=False).returncode == 0:
                self.disks[name] = folder
                return folder
        self.notes.append(f"{name}: no disk of its own can be mounted, so it is never full")
        return folder

    # living -----------------------------------------------------------------

    async def keep(self) -> None:
        """Starts again whatever ended by itself, as a supervisor would."""
        while self._running:
            self.redis_writes_seen()
            for part in self.parts:
                await part.keep()
            await asyncio.sleep(KEEP_S)

    def redis_writes_seen(self) -> None:
        """Remembers how long the append-only file was, for the loss of its last moments."""
        now = asyncio.get_running_loop().time()
        for file in (self.redis.data / "appendonlydir").glob("*.incr.aof"):
            with contextlib.suppress(OSError):
                seen = self.lengths.setdefault(file.name, [])
                seen.append((now, file.stat().st_size))
                del seen[:-100]

    def billed(self) -> int:
        """How many lines the provider has written; read on from the last time."""
        with self.bills.open("rb") as file:
            file.seek(self._bills_read)
            while piece := file.read(2**20):
                self._bills_read += len(piece)
                self._bills_count += piece.count(b"\n")
        return self._bills_count

    async def close(self) -> None:
        self._running = False
        with contextlib.suppress(AttributeError):
            self.pool.terminate()
        for part in self.sets[-1] if self.sets else ():  # a supervisor's workers outlive it a while
            part.strike()
        parts = [*self.parts, *([self.load] if hasattr(self, "load") else [])]
        for part in reversed(parts):
            part.send(signal.SIGCONT)
            await part.kill()
            if isinstance(part, Postgres):
                await asyncio.sleep(0.2)  # its own processes see that it is gone
        for one in self._sockets:
            one.close()
        if hasattr(self, "supervisor"):
            self.supervisor.close()
        for folder in self.disks.values():
            subprocess.run(["umount", "-l", str(folder)], check=False)  # noqa: ASYNC221


@contextlib.asynccontextmanager
async def staged(plan: Plan, connections: int, keep_files: bool) -> AsyncIterator[Stage]:
    home = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))
    stage = Stage(home, plan)
    try:
        await stage.build(connections)
        yield stage
    finally:
        await stage.close()
        if not keep_files:
            shutil.rmtree(home, ignore_errors=True)
