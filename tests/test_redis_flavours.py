"""The whole story on the Redis that people really have: what is on this machine, what a restricted
user leaves of it, and whatever OPSCENTER_TEST_REDIS_URL names (it is emptied!).
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis

from control.books import ledger
from control.books.verify import verify
from control.machine.embedded.valkey import find_binary
from control.store import Store
from proxy.machine.children import spawn
from tests.door_stage import DoorStage, door

PASSWORD = "only-for-tests"
PATIENCE_S = 10.0
GRANT, COST, CALLS = 10_000_000_000, 9_000, 10
ELSEWHERE = os.environ.get("OPSCENTER_TEST_REDIS_URL", "")
BINARY = os.environ.get("OPSCENTER_TEST_REDIS_SERVER", "")  # a program, say of another version


@contextmanager
def started(binary: str) -> Iterator[str]:
    """A server of its own, for one test."""
    folder = Path(tempfile.mkdtemp(prefix="oc-", dir="/tmp"))
    path = folder / "s"
    options = ("--port", "0", "--unixsocket", str(path), "--dir", str(folder), "--save", "")
    argv = [binary, *options, "--requirepass", PASSWORD, "--maxmemory-policy", "noeviction"]
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        process = spawn(
            argv, env={"LC_ALL": "C"}, stdin=subprocess.DEVNULL, log=folder / "log", cwd="/"
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        until(lambda: answers(path))
        yield f"unix://{path}?password={PASSWORD}"


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as one:
        return one.connect_ex(str(path)) == 0


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.01)


@contextmanager
def valkey() -> Iterator[str]:
    with started(str(find_binary())) as url:
        yield url


@contextmanager
def restricted(*rules: str) -> Iterator[str]:
    """A user of Valkey who may not do everything."""
    with started(str(find_binary())) as url, redis.Redis.from_url(url) as admin:
        admin.execute_command("ACL", "SETUSER", "poor", "on", ">pw", "~*", "+@all", *rules)
        yield url.replace(f"password={PASSWORD}", "username=poor&password=pw")


@contextmanager
def on_path(name: str) -> Iterator[str]:
    binary = name and shutil.which(name)
    if not binary:
        pytest.skip(f"no {name or 'OPSCENTER_TEST_REDIS_SERVER'} here")
    with started(binary) as url:
        yield url


@contextmanager
def elsewhere() -> Iterator[str]:
    if not ELSEWHERE:
        pytest.skip("OPSCENTER_TEST_REDIS_URL names no server")
    with redis.Redis.from_url(ELSEWHERE) as client:
        client.flushdb()
    yield ELSEWHERE


FLAVOURS = {
    "valkey": valkey,
    "no script load": lambda: restricted("-script"),
    "no evalsha": lambda: restricted("-script", "-evalsha"),
    "nothing dangerous": lambda: restricted("-@dangerous", "+info"),
    "redis on PATH": lambda: on_path("redis-server"),
    "a given program": lambda: on_path(BINARY),
    "a given url": elsewhere,
}


@pytest.fixture(params=FLAVOURS)
def flavour(request: pytest.FixtureRequest) -> Iterator[str]:
    with FLAVOURS[request.param]() as url:
        yield url


async def test_p37_redis_flavours(flavour: str, home: Path, database_url: str) -> None:
    """Admitted, settled, booked and verified, with the scripts forgotten in between."""
    async with door(home, flavour, database_url) as stage:
        for _ in range(CALLS):
            assert (await stage.chat()).status_code == 200
        await stage.quiesce()
        assert await balance(stage) == GRANT - CALLS * COST
        assert await stage.pool_in_redis() == {"b": await balance(stage), "h": 0}
        report = await verify(stage.pool, stage.redis)
        assert report.ok, report


async def test_doctor_can_tell_which_one_it_is(flavour: str) -> None:
    store = Store(flavour)
    told = await store.server()
    await store.close()
    assert told.mode == "a single server"
    assert told.product in ("Valkey", "Redis")
    assert told.version.count(".") == 2


async def balance(stage: DoorStage) -> int:
    async with stage.pool.acquire() as conn:
        return await ledger.balance(conn, await stage.organisation())
