"""Asks whether this installation has had its first day, and makes it where it has not.

Apart from bootstrap, whose imports a later start need not wait for.
"""

from typing import TYPE_CHECKING, Final

import asyncpg

from control import sql
from control.settings import ControlSettings

if TYPE_CHECKING:
    from control.bootstrap import FirstAccess

CONNECT_SECONDS_MAX: Final = 10.0


async def make(settings: ControlSettings) -> "FirstAccess | None":
    """The first administrator's access, once; None on every later start."""
    if await _was_made(settings) and settings.proxy_keys.exists():
        return None
    from control import bootstrap, database, secrets

    secrets.unlock(settings)  # writes the proxies' key file, which may be missing on a new machine
    pool = await database.connect(settings)
    try:
        async with pool.acquire() as connection:
            return await bootstrap.setup(settings, connection)
    finally:
        await pool.close()


async def _was_made(settings: ControlSettings) -> bool:
    connection = await asyncpg.connect(settings.database, timeout=CONNECT_SECONDS_MAX)
    try:
        return await connection.fetchrow(sql.load()["organisation_any"]) is not None
    finally:
        await connection.close(timeout=CONNECT_SECONDS_MAX)
