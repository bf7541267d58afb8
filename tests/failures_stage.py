"""Servers of a test's own, which may be killed, stopped, filled and misled."""

import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import redis

from bench.chaos.parts import Postgres, Valkey
from control import migrate
from control.books import ledger
from control.books.verify import verify
from tests.conftest import PASSWORD, short_folder
from tests.door_stage import DoorStage


@contextlib.asynccontextmanager
async def own_valkey() -> AsyncIterator[Valkey]:
    """With an append-only file, as `up` starts it."""
    folder = short_folder()
    (folder / "data").mkdir()
    server = Valkey(folder / "log", folder / "data", folder, PASSWORD, "everysec")
    try:
        await server.begin()
        yield server
    finally:
        await server.kill()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def own_postgres() -> AsyncIterator[Postgres]:
    """Migrated."""
    folder = short_folder()
    server = Postgres(folder / "log", folder / "pg", folder / "run", PASSWORD)
    try:
        await server.begin()
        await migrate.migrate(server.url)
        yield server
    finally:
        await server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def ask(server: Valkey, *words: Any) -> Any:
    """By a connection of its own, so that nothing of ours is in the way."""
    with redis.Redis.from_url(server.url) as client:
        return client.execute_command(*words)


def content(server: Valkey) -> dict[bytes, bytes]:
    """Every key and what lies in it."""
    with redis.Redis.from_url(server.url) as client:
        return {name: client.dump(name) or b"" for name in client.scan_iter()}


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def balance(stage: DoorStage) -> int:
    async with stage.pool.acquire() as conn:
        return await ledger.balance(conn, await stage.organisation())


async def agreed(stage: DoorStage) -> None:
    report = await verify(stage.pool, stage.redis)
    assert report.ok, report


def folder_of(stage: DoorStage) -> Path:
    return stage.worker.settings.journal
