"""Real servers for every test: one Valkey and one PostgreSQL per worker, a database of it per test.

They come from control/machine/servers.py, live in a short folder and die with pytest, however it
ends.
"""

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import hypothesis
import pytest
import redis

from control.books import publish
from control.machine import servers
from control.machine.embedded import postgres, valkey
from proxy import worker

T = TypeVar("T")

# the same examples everywhere, however busy the machine is
hypothesis.settings.register_profile("calm", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("calm")

REDIS_DATABASES = 16
MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 * 2**30
PASSWORD = "only-for-tests"
PATIENCE_S = 60.0  # what the product does not wait for is not to be judged by a busy machine


@dataclass(frozen=True, slots=True)
class Machine:
    """The servers of one test worker; what needs only one of them starts only that one."""

    folder: Path
    numbers: "itertools.count[int]"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def database(self, name: str) -> str:
        return postgres.url_of(self.run, PASSWORD, name)

    def redis(self, number: int) -> str:
        return valkey.url_of(self.run, PASSWORD, number)


def short_folder() -> Path:
    """A new folder whose sockets stay within the system's 107 bytes; in memory where there is
    room, because files that are written through to a disk are half of what a test waits for."""
    room = shutil.disk_usage(MEMORY).free if MEMORY.is_dir() else 0
    return Path(tempfile.mkdtemp(prefix="oc-", dir=MEMORY if room > ROOM_BYTES else "/tmp"))


def in_own_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs `work` on a thread, so that the test's own event loop never notices."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Tests run on the loop that the product runs on."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session", autouse=True)
def patience() -> None:
    """A write is answered when the drain has applied it, however busy the machine is; a worker of
    this process has no drain that could confirm what it settled."""
    publish.POOL_WAIT_S = PATIENCE_S
    worker.CONFIRM_WAIT_S = 0.0


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    folder = short_folder()
    yield Machine(folder, itertools.count())
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def valkey_server(machine: Machine) -> Iterator[servers.ValkeyServer]:
    server = servers.start_valkey(
        machine.folder / "valkey", machine.run, PASSWORD, databases=REDIS_DATABASES
    )
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_server(machine: Machine) -> Iterator[servers.PostgresServer]:
    server = servers.start_postgres(machine.folder / "pg", machine.run, PASSWORD, durable=False)
    yield server
    server.stop()


@pytest.fixture
def redis_url(machine: Machine, valkey_server: servers.ValkeyServer) -> str:
    """An empty database of a real Valkey."""
    url = machine.redis(next(machine.numbers) % REDIS_DATABASES)
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture(scope="session")
def migrated_template(machine: Machine, postgres_server: servers.PostgresServer) -> str:
    """The name of a database with all migrations applied, for others to be cloned from."""
    from control import migrate

    name = postgres.DATABASE
    in_own_loop(lambda: migrate.migrate(machine.database(name)))
    return name


@pytest.fixture
def database_url(machine: Machine, migrated_template: str) -> Iterator[str]:
    """A migrated PostgreSQL database that nobody else uses."""
    name = f"test_{next(machine.numbers)}"
    _administer(machine, f'CREATE DATABASE "{name}" TEMPLATE "{migrated_template}"')
    yield machine.database(name)
    _administer(machine, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def empty_database_url(machine: Machine, postgres_server: servers.PostgresServer) -> Iterator[str]:
    """A PostgreSQL database without a single table."""
    name = f"test_{next(machine.numbers)}"
    _administer(machine, f'CREATE DATABASE "{name}"')
    yield machine.database(name)
    _administer(machine, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty OPSCENTER_HOME with a short path, and no other setting of this machine."""
    folder = short_folder()
    for name in [name for name in os.environ if name.startswith("OPSCENTER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OPSCENTER_HOME", str(folder))
    monkeypatch.setenv("OPSCENTER_CATALOGUE", "off")  # what tests do not look at is not filled in
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _administer(machine: Machine, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(machine.database("postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    in_own_loop(run)
