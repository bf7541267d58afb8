"""Brings the database to this program's schema: numbered files, in order, each in one transaction.

Never goes backwards and never edits what is applied: what does not fit is refused with its cure.
"""

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from control import sql
from control.database import Connection

log = logging.getLogger("opscenter.control.migrate")

CONNECT_TIMEOUT_S = 10
LOCK_TIMEOUT_S = 120
MIGRATION_TIMEOUT_S = 3600

_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
# A file that ends its own transaction could be half applied.
_OWN_TRANSACTION = re.compile(r"^\s*(BEGIN|COMMIT|ROLLBACK)\s*(WORK|TRANSACTION)?\s*;", re.I | re.M)


class SchemaError(Exception):
    """The database and this program do not fit each other; the message says why and what helps."""


@dataclass(frozen=True, slots=True)
class Migration:
    number: int
    name: str
    checksum: str
    statements: str


@dataclass(frozen=True, slots=True)
class Applied:
    number: int
    name: str
    checksum: str


def migrations(folder: Path | None = None) -> list[Migration]:
    """This program's migrations, numbered from 1 without a gap."""
    found = [_read(file) for file in sorted((folder or sql.schema_folder()).glob("*.sql"))]
    if not found or [one.number for one in found] != list(range(1, len(found) + 1)):
        numbers = [one.number for one in found]
        raise SchemaError(
            f"This program's migrations are not numbered from 1 without a gap: {numbers}. "
            "Install the program again, or renumber the new file."
        )
    return found


def _read(file: Path) -> Migration:
    match = _FILE.fullmatch(file.name)
    if match is None:
        raise SchemaError(f"{file.name} is no migration; call it NNNN_what_it_does.sql.")
    statements = file.read_text("utf-8")
    if _OWN_TRANSACTION.search(statements):
        raise SchemaError(
            f"{file.name} begins or ends a transaction itself, so it could be half applied; "
            "take BEGIN, COMMIT and ROLLBACK out of it."
        )
    checksum = hashlib.sha256(statements.encode()).hexdigest()
    return Migration(int(match[1]), match[2], checksum, statements)


async def migrate(dsn: str, folder: Path | None = None) -> list[str]:
    """Applies what is missing and returns the names; at one time only one process does."""
    wanted = migrations(folder)
    query = sql.load()
    conn = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S)
    try:
        await _lock(conn)
        try:
            await _refuse_strangers(conn)
            await conn.execute(query["migration_table"])
            applied = await _applied(conn)
            compare(wanted, applied)
            return [await _apply(conn, one) for one in wanted[len(applied) :]]
        finally:
            await conn.execute(query["migration_unlock"])
    finally:
        await conn.close(timeout=CONNECT_TIMEOUT_S)


async def _lock(conn: asyncpg.Connection) -> None:
    try:
        await conn.execute(sql.load()["migration_lock"], timeout=LOCK_TIMEOUT_S)
    except TimeoutError:
        raise SchemaError(
            f"Another process has been migrating this database for more than {LOCK_TIMEOUT_S} s. "
            "Wait for it or end it, then start again."
        ) from None


async def _refuse_strangers(conn: Connection) -> None:
    state = await conn.fetchrow(sql.load()["migration_state"])
    assert state is not None
    if state["populated"] and not state["recorded"]:
        raise SchemaError(
            "The database holds tables of Ops-Center but no record of migrations: it was half "
            "restored or filled by hand. Restore the backup whole, or name an empty database."
        )


async def _applied(conn: Connection) -> list[Applied]:
    rows = await conn.fetch(sql.load()["migration_list"])
    return [Applied(row["number"], row["name"], row["checksum"]) for row in rows]


async def _apply(conn: asyncpg.Connection, one: Migration) -> str:
    name = f"{one.number:04d}_{one.name}"
    try:
        async with conn.transaction():
            await conn.execute(one.statements, timeout=MIGRATION_TIMEOUT_S)
            await conn.execute(sql.load()["migration_add"], one.number, one.name, one.checksum)
    except asyncpg.PostgresError as error:
        raise SchemaError(
            f"Migration {name} failed and was taken back whole: {error}. "
            "Mend what it names in the database, then start again."
        ) from error
    log.info("migrated to %s", name)
    return name


def compare(wanted: Sequence[Migration], applied: Sequence[Applied]) -> None:
    """Raises where what is applied is not the beginning of what this program knows."""
    numbers = [one.number for one in applied]
    if numbers != list(range(1, len(numbers) + 1)):
        raise SchemaError(
            f"The record of migrations has a gap: {numbers}. The database is half migrated; "
            "restore it from a backup."
        )
    if len(applied) > len(wanted):
        newest = applied[-1]
        raise SchemaError(
            f"The database is at migration {newest.number:04d}_{newest.name}, newer than this "
            f"program, which knows {len(wanted)}. Install the newer version of Ops-Center again."
        )
    for ours, theirs in zip(wanted, applied, strict=False):
        if (ours.name, ours.checksum) != (theirs.name, theirs.checksum):
            raise SchemaError(
                f"Migration {theirs.number:04d}_{theirs.name} was applied from another file than "
                f"this program's {ours.number:04d}_{ours.name}. Run the version that applied it, "
                "or restore a backup that fits this one."
            )


async def check(conn: Connection) -> None:
    """Raises unless the database is exactly at this program's schema."""
    await _refuse_strangers(conn)
    wanted = migrations()
    state = await conn.fetchrow(sql.load()["migration_state"])
    assert state is not None
    applied = await _applied(conn) if state["recorded"] else []
    compare(wanted, applied)
    if len(applied) < len(wanted):
        missing = wanted[len(applied)]
        raise SchemaError(
            f"The database lacks migration {missing.number:04d}_{missing.name}. "
            "Run `opscenter migrate`."
        )
