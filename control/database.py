"""Connections to Postgres: a bounded pool with deadlines, JSON as objects. Knows no query."""

import asyncio
import logging
from typing import TYPE_CHECKING

import asyncpg
import orjson

from control import sql
from control.settings import ControlSettings

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = (
        asyncpg.pool.PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]
    )
else:
    Pool, Connection = asyncpg.Pool, asyncpg.Connection

log = logging.getLogger("opscenter.control.database")

POOL_MIN = 1
CONNECT_TIMEOUT_S = 5
ACQUIRE_TIMEOUT_S = 5
RETRY_PAUSE_S = 0.2

# What asyncpg raises when the server is away, starting, stopping or full.
AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that ends while it is given back
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)


class DatabaseError(Exception):
    """Postgres cannot be used; the message says why and what helps."""


def _in_one_line(record: logging.LogRecord) -> bool:
    """asyncpg tells of each try to reconnect with a whole trace."""
    if record.exc_info and record.exc_info[1] is not None:
        why = str(record.exc_info[1]) or type(record.exc_info[1]).__name__
        record.msg, record.args = "%s: %s", (record.getMessage(), why)
        record.exc_info = record.exc_text = None
    return True


asyncpg.pool.logger.addFilter(_in_one_line)  # type: ignore[attr-defined]


async def connect(settings: ControlSettings) -> Pool:
    """A pool of connections; the first one is opened now."""
    try:
        pool: Pool = await asyncpg.create_pool(
            settings.database,
            min_size=POOL_MIN,
            max_size=settings.database_pool_max,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=settings.database_timeout_s,
            init=_prepare,
            server_settings={"application_name": "opscenter", "timezone": "UTC"},
        )
    except AWAY as problem:
        raise DatabaseError(_away(problem)) from problem
    except (asyncpg.PostgresError, ValueError) as problem:
        raise DatabaseError(
            f"PostgreSQL refused the connection: {problem}. Check OPSCENTER_DATABASE_URL."
        ) from problem
    return pool


async def connect_patiently(settings: ControlSettings) -> Pool:
    """Like connect, but waits for a server that is still starting, within control_wait_s."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + settings.control_wait_s
    told = False
    while True:
        try:
            return await connect(settings)
        except DatabaseError as problem:
            if loop.time() >= deadline or not isinstance(problem.__cause__, AWAY):
                raise
            if not told:
                log.warning("waiting up to %d s: %s", settings.control_wait_s, problem)
                told = True
            await asyncio.sleep(RETRY_PAUSE_S)


async def _prepare(conn: asyncpg.Connection) -> None:
    # as the role that may not change the ledger, where there is one
    if await conn.fetchval(sql.load()["app_role"]):
        await conn.execute("SET ROLE opscenter_app")
    # in the binary form, which COPY needs: jsonb is a version byte, then the text
    await conn.set_type_codec(
        "json", encoder=orjson.dumps, decoder=orjson.loads, schema="pg_catalog", format="binary"
    )
    await conn.set_type_codec(
        "jsonb", encoder=_encode, decoder=_decode, schema="pg_catalog", format="binary"
    )


def _encode(value: object) -> bytes:
    return b"\x01" + orjson.dumps(value)


def _decode(value: bytes) -> object:
    return orjson.loads(value[1:])


def _away(problem: BaseException) -> str:
    return (
        f"PostgreSQL cannot be reached: {str(problem) or type(problem).__name__}. "
        "Start it, or mend OPSCENTER_DATABASE_URL."
    )
