"""How the whole stands: versions, servers, proxies, what waits to be carried over."""

import asyncio
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import asyncpg
import redis.exceptions
from fastapi import APIRouter, Request

from control import sql
from control.api.shapes import Output, PlatformAnalyst
from control.database import AWAY
from control.state import State, state_of

router = APIRouter(prefix="/api/v1/system", tags=["system"])

ASK_TIMEOUT_S = 2
ANSWER_MAX = 4096  # bytes of the proxies' answer

DATABASE_TROUBLE = (asyncpg.PostgresError, *AWAY)


class Part(Output):
    """One part of the whole: whether it answers, its version, what it says."""

    ok: bool
    version: str | None = None
    says: str = ""


class Backlog(Output):
    """What the drain has still to do."""

    records: int
    lag_s: float
    dead_letters: int


class Status(Output):
    version: str
    uptime_s: int
    schema_version: int | None  # number of the newest migration
    snapshot_version: int | None
    postgres: Part
    redis: Part
    proxies: Part
    drain: Backlog | None
    missing: dict[str, str]  # what is not ready, with the reason


@router.get("/status")
async def status(request: Request, caller: PlatformAnalyst) -> Status:
    """Asks every part; one that does not answer is shown as such."""
    state = state_of(request)
    postgres, server, proxies, missing = await asyncio.gather(
        _postgres(state), _redis(state), _proxies(state), request.app.state.readiness.missing()
    )
    rows = await _rows(state) if postgres.ok else {}
    return Status(
        version=own_version(),
        uptime_s=int(time.time() - state.counters.started_at),
        schema_version=rows.get("schema"),
        snapshot_version=rows.get("snapshot"),
        postgres=postgres,
        redis=server,
        proxies=proxies,
        drain=Backlog(**rows["depth"]) if "depth" in rows else None,
        missing=missing,
    )


def own_version() -> str:
    try:
        return version("opscenter")
    except PackageNotFoundError:
        return "unknown"


async def _postgres(state: State) -> Part:
    try:
        async with asyncio.timeout(ASK_TIMEOUT_S):
            found = await state.pool.fetchval(sql.load()["server_version"])
    except DATABASE_TROUBLE as problem:
        return Part(ok=False, says=str(problem) or "no answer in time")
    return Part(ok=True, version=found.split(" ")[0])


async def _redis(state: State) -> Part:
    try:
        async with asyncio.timeout(ASK_TIMEOUT_S):
            found = await state.redis.info("server")
    except (redis.exceptions.RedisError, OSError, TimeoutError) as problem:
        return Part(ok=False, says=str(problem) or "no answer in time")
    return Part(ok=True, version=found.get("valkey_version") or found.get("redis_version"))


async def _proxies(state: State) -> Part:
    """What the supervisor of this machine's proxies says."""
    settings = state.settings
    try:
        async with asyncio.timeout(ASK_TIMEOUT_S):
            answer = await _ask(settings.health_host, settings.health_port, "/readyz")
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as problem:
        where = f"{settings.health_host}:{settings.health_port}"
        return Part(ok=False, says=f"nobody answers at {where}: {str(problem) or 'no answer'}")
    head, _, body = answer.partition(b"\r\n\r\n")
    return Part(ok=b" 200 " in head.split(b"\r\n")[0], says=body.decode("utf-8", "replace").strip())


async def _ask(host: str, port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        request = f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
        writer.write(request.encode())
        await writer.drain()
        answer = b""
        while len(answer) < ANSWER_MAX and (chunk := await reader.read(ANSWER_MAX)):
            answer += chunk
        return answer
    finally:
        writer.close()


async def _rows(state: State) -> dict[str, Any]:
    query = sql.load()
    try:
        return {
            "schema": await state.pool.fetchval(query["migration_newest"]),
            "snapshot": await state.pool.fetchval(query["snapshot_version"]),
            "depth": dict(await state.pool.fetchrow(query["outbox_depth"]) or {}),
        }
    except DATABASE_TROUBLE:
        return {}
