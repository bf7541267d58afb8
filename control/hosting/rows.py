"""The table `plugin`: which plugins are enabled and, sealed, how they are configured."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import asyncpg
import orjson

from control import sql
from control.database import ACQUIRE_TIMEOUT_S, Connection, Pool
from control.errors import Conflict
from control.secrets import Secrets

CONFIG_BYTES_MAX = 64 * 1024
SEALED = "sealed"  # the one field of a stored configuration that is not empty


@dataclass(frozen=True, slots=True)
class Row:
    """What the database wants of a plugin. Version 0: it was never spoken of."""

    name: str
    enabled: bool = False
    config: Mapping[str, object] | None = None  # None: sealed under another root key
    version: int = 0
    at: datetime | None = None

    @property
    def stamp(self) -> tuple[int, datetime | None]:
        """Differs whenever anybody wrote, also after a write that was taken back."""
        return self.version, self.at


def unfit(config: Mapping[str, object]) -> str:
    """Why a configuration cannot be stored; "" when it can."""
    try:
        size = len(orjson.dumps(config))
    except orjson.JSONEncodeError as problem:
        return f"it holds a value that cannot be stored ({problem})"
    return f"it is larger than {CONFIG_BYTES_MAX} bytes" if size > CONFIG_BYTES_MAX else ""


class Rows:
    """Reads and writes the table; a configuration may hold secrets, so it is sealed whole."""

    def __init__(self, pool: Pool, secrets: Secrets) -> None:
        self._pool = pool
        self._box = secrets.plugins

    @asynccontextmanager
    async def transaction(self, conn: Connection | None) -> AsyncIterator[Connection]:
        """The caller's own transaction, or else one of this object's."""
        if conn is not None:
            yield conn
            return
        async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as mine, mine.transaction():
            yield mine

    async def all(self) -> dict[str, Row]:
        rows = await self._pool.fetch(sql.load()["plugin_list"])
        return {row["name"]: self._row(row) for row in rows}

    async def get(self, conn: Connection, name: str) -> Row:
        row = await conn.fetchrow(sql.load()["plugin_get"], name)
        return self._row(row) if row is not None else Row(name, config={})

    async def put(self, conn: Connection, wanted: Row) -> Row:
        """Writes over the version that `wanted` was made from, or raises Conflict."""
        row = await conn.fetchrow(
            sql.load()["plugin_put"],
            *(wanted.name, wanted.enabled, self._sealed(wanted.config), wanted.version),
        )
        if row is None:
            raise Conflict(
                why=f"Somebody else changed the plugin {wanted.name} at the same time. Look at it "
                "again, then repeat your change."
            )
        return self._row(row)

    def _row(self, row: asyncpg.Record) -> Row:
        config = self._opened(row["config"])
        return Row(row["name"], row["enabled"], config, row["version"], row["at"])

    def _sealed(self, config: Mapping[str, object] | None) -> dict[str, str] | None:
        if not config:
            return None if config is None else {}
        return {SEALED: self._box.seal(orjson.dumps(config)).decode()}

    def _opened(self, stored: Mapping[str, str]) -> Mapping[str, object] | None:
        if not stored:
            return {}
        plain = self._box.open(stored[SEALED].encode())
        if plain is None:
            return None
        config = orjson.loads(plain)
        assert isinstance(config, dict)
        return config
