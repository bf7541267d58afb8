"""`opscenter control` as a process: two listeners, one stop, the snapshot kept published."""

import asyncio
import http.client
import re
import signal
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread
import asyncpg
import pytest

from control import bootstrap, database, main, settings
from control.books.publish import Publisher
from control.cli.client import Api
from control.listen import StartError
from control.migrate import SchemaError
from control.settings import ControlSettings
from control.store import Store
from proxy.redis.scripts import SNAPSHOT_KEY

WAIT_S = 20


@dataclass(frozen=True, slots=True)
class Running:
    settings: ControlSettings
    local: Api
    first: bootstrap.FirstAccess


def environ(home: Path, database_url: str, redis_url: str) -> dict[str, str]:
    return {
        "OPSCENTER_HOME": str(home),
        "OPSCENTER_DATABASE_URL": database_url,
        "OPSCENTER_REDIS_URL": redis_url,
        "OPSCENTER_CONTROL_PORT": "0",
        "OPSCENTER_CONTROL_WAIT_S": "5",
        "OPSCENTER_DATABASE_POOL_MAX": "4",
        "OPSCENTER_PLUGINS": "off",
    }


@asynccontextmanager
async def running(home: Path, database_url: str, redis_url: str) -> AsyncIterator[Running]:
    wanted = settings.load(environ(home, database_url, redis_url))
    pool = await database.connect(wanted)
    async with pool.acquire() as conn:
        first = await bootstrap.setup(wanted, conn)
    await pool.close()
    assert first is not None
    stop = asyncio.Event()
    serving = asyncio.create_task(main.serve(wanted, stop))
    try:
        await until(lambda: answers(wanted, serving))
        yield Running(wanted, Api("", socket=wanted.socket), first)
    finally:
        stop.set()
        await asyncio.wait_for(serving, WAIT_S)


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            if await true():
                return
            await asyncio.sleep(0.02)


async def answers(wanted: ControlSettings, serving: "asyncio.Task[None]") -> bool:
    if serving.done():
        serving.result()
    if not wanted.socket.exists():
        return False
    _, writer = await asyncio.open_unix_connection(str(wanted.socket))
    writer.close()
    return True


async def test_the_socket_is_for_its_owner_alone_and_gone_at_the_end(
    home: Path, database_url: str, redis_url: str
) -> None:
    async with running(home, database_url, redis_url) as here:
        assert stat.S_IMODE(here.settings.socket.stat().st_mode) == 0o600
        me = await anyio.to_thread.run_sync(lambda: here.local.get("/api/v1/auth/me"))
        assert me["actor"] == "local"
    assert not here.settings.socket.exists()


async def test_the_snapshot_is_published_at_start_and_after_a_loss(
    home: Path, database_url: str, redis_url: str
) -> None:
    redis = Store(redis_url)
    key = SNAPSHOT_KEY.decode()
    async with running(home, database_url, redis_url):
        await published(redis, key)
        await redis.command("DEL", key)
        await published(redis, key)
    await redis.close()


async def test_the_snapshot_is_published_after_any_trouble(
    home: Path, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it no proxy serves, so nothing may end the loop that sees to it."""
    redis, troubles = Store(redis_url), ["the handler is closed"]
    current = Publisher.snapshot_current

    async def troubled(publisher: Publisher) -> bool:
        if troubles:
            raise RuntimeError(troubles.pop())
        return await current(publisher)

    monkeypatch.setattr(Publisher, "snapshot_current", troubled)
    async with running(home, database_url, redis_url):
        await published(redis, SNAPSHOT_KEY.decode())
    assert not troubles
    await redis.close()


async def published(redis: Store, key: str) -> None:
    async def is_there() -> bool:
        return await redis.command("HGET", key, "ver") is not None

    await until(is_there)


async def test_nobody_on_tcp_is_the_local_administrator(
    home: Path, database_url: str, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    def ask(port: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
        connection.request("GET", "/api/v1/auth/me", headers={"opscenter.local": "1"})
        status = connection.getresponse().status
        connection.close()
        return status

    async def is_told() -> bool:
        return "127.0.0.1:" in caplog.text

    with caplog.at_level("INFO", "opscenter.control.listen"):
        async with running(home, database_url, redis_url):
            await until(is_told)
            port = int(re.findall(r"127\.0\.0\.1:(\d+)", caplog.text)[-1])
            assert await anyio.to_thread.run_sync(ask, port) == 401


async def test_a_taken_port_is_told_with_the_cure(
    home: Path, database_url: str, redis_url: str
) -> None:
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    given = environ(home, database_url, redis_url) | {"OPSCENTER_CONTROL_PORT": str(port)}
    with pytest.raises(StartError, match="OPSCENTER_CONTROL_PORT"):
        await main.serve(settings.load(given))
    server.close()


async def test_a_second_one_does_not_take_the_socket_of_the_first(
    home: Path, database_url: str, redis_url: str
) -> None:
    """Otherwise the owner would be locked out of the one that runs."""
    async with running(home, database_url, redis_url) as here:
        with pytest.raises(StartError, match="OPSCENTER_RUN_DIR"):
            await main.serve(here.settings)
        me = await anyio.to_thread.run_sync(lambda: here.local.get("/api/v1/auth/me"))
        assert me["actor"] == "local"


async def test_an_empty_database_is_refused(
    home: Path, empty_database_url: str, redis_url: str
) -> None:
    with pytest.raises(SchemaError, match="opscenter migrate"):
        await main.serve(settings.load(environ(home, empty_database_url, redis_url)))


async def test_a_server_that_never_comes_is_waited_for_within_a_limit(
    home: Path, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    given = environ(home, database_url, f"unix://{home}/nobody.sock")
    wanted = settings.load(given | {"OPSCENTER_CONTROL_WAIT_S": "1"})
    with pytest.raises(StartError, match="OPSCENTER_REDIS_URL"):
        await main.serve(wanted)
    assert caplog.text.count("waiting up to 1 s for Redis") == 1


async def test_sigterm_ends_the_process_in_good_order(
    home: Path, database_url: str, redis_url: str
) -> None:
    given = environ(home, database_url, redis_url)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "control", "control", env=given, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    async with asyncio.timeout(WAIT_S):
        while b"control API answers" not in (line := await process.stderr.readline()):
            assert line, "it ended before it answered"
        process.send_signal(signal.SIGTERM)
        await process.stderr.read()
        assert await process.wait() == 0


async def test_what_has_run_out_is_taken_away(
    home: Path, database_url: str, redis_url: str
) -> None:
    conn = await asyncpg.connect(database_url)

    async def is_tidy() -> bool:
        return not await conn.fetch("SELECT FROM idempotency")

    await conn.execute(
        "INSERT INTO idempotency (actor, key, digest, status, body, at)"
        " VALUES ('a', 'k', '', 200, '', now() - interval '25 hours')"
    )
    async with running(home, database_url, redis_url):
        await until(is_tidy)
    await conn.close()
