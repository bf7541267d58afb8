"""The catalogue in the database: filled from the package and from providers' lists, then served."""

import asyncio
import sys
from collections.abc import Sequence
from importlib.metadata import version

import orjson

from control import sql
from control.catalogue.fields import Listed
from control.catalogue.package import Row
from control.catalogue.seen import merged
from control.database import Connection

PACKAGE = "genai-prices"
READ_TIMEOUT_S = 60


class FillError(Exception):
    """The package could not be read; the message says why."""


def package_version() -> str:
    """What a fill is known by; ours counts too, as it changes with the product."""
    return f"{PACKAGE} {version(PACKAGE)}, opscenter {version('opscenter')}"


async def is_filled(conn: Connection) -> bool:
    """Whether it has what this package says: no more than one look-up at each start."""
    note = await conn.fetchval(sql.load()["catalogue_source_note"], "package")
    return bool(note == package_version())


async def read_package() -> bytes:
    """In a process of its own, which gives its memory back."""
    command = (sys.executable, "-P", "-m", "control.catalogue.package")
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            said, trouble = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        lines = trouble.decode("utf-8", "replace").strip().splitlines()
        raise FillError(lines[-1] if lines else f"exit status {process.returncode}")
    return said


async def fill(conn: Connection, rows: bytes) -> int:
    """All that the package says, in one transaction; how many models these are."""
    query, source = sql.load(), package_version()
    known: Sequence[Row] = orjson.loads(rows)
    async with conn.transaction():
        await conn.execute(query["catalogue_lock"])
        await conn.execute(query["catalogue_fill"], known, source)
        await conn.execute(query["catalogue_same"])
        await conn.execute(query["catalogue_forget"], source)
        await conn.execute(query["catalogue_source_put"], "package", source, len(known))
        await conn.execute(query["catalogue_serve"])
    return len(known)


async def serve(conn: Connection) -> None:
    """Prices may begin to hold by the calendar."""
    await conn.execute(sql.load()["catalogue_serve"])


async def merge(conn: Connection, provider: str, listed: Sequence[Listed]) -> int:
    """What the list of a provider says, by the catalogue's name of it; how many models are new."""
    query = sql.load()
    async with conn.transaction():
        await conn.execute(query["catalogue_lock"])
        names = await conn.fetch(query["catalogue_names"], provider)
        known = [str(row["upstream_model"]) for row in names]
        rows, also = merged(listed, known)
        await conn.execute(query["catalogue_list_merge"], rows, provider)
        await conn.execute(query["catalogue_list_also"], provider, also)
        await conn.execute(query["catalogue_list_gone"], provider)
        await conn.execute(query["catalogue_source_put"], f"list:{provider}", "", len(rows))
        await conn.execute(query["catalogue_serve"])
    return len({row["upstream_model"] for row in rows} - set(known))
