"""Brings the secrets in the database under the newest root key, some at a time; what the rows
themselves say is all that has to be known to go on.

Never reads a secret's text: what it is bound to stays inside, as it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from control import sql
from control.database import Connection
from control.hosting.rows import SEALED
from control.secrets import Box
from control.state import Seals

BATCH = 200  # keys of people and organisations in one transaction
LOOK_BATCH = 2_000  # rows that are looked at together


@dataclass(frozen=True, slots=True)
class Moved:
    """What one call has done. `owners` have to be told to the proxies anew."""

    count: int
    owners: Sequence[tuple[UUID, UUID | None]]  # organisation, person
    providers: bool  # whether any of the platform's was moved
    next: UUID | None  # where to go on


@dataclass(frozen=True, slots=True)
class Standing:
    left: int  # under a former root key
    unreadable: int  # under none that there is


async def move(conn: Connection, seals: Seals, after: UUID | None) -> Moved:
    """The platform's own first, then a batch of those that people and organisations brought."""
    await conn.execute(sql.load()["reseal_lock"])
    providers = plugins = 0
    if after is None:
        providers = await _providers(conn, seals.providers)
        plugins = await _plugins(conn, seals.plugins)
    rows = await conn.fetch(sql.load()["reseal_byok"], after, BATCH)
    owners = list[tuple[UUID, UUID | None]]()
    for row in rows:
        sealed = _anew(seals.providers, row["secret"])
        if sealed is not None:
            await conn.execute(sql.load()["reseal_byok_put"], row["id"], sealed)
            owners.append((row["organisation"], row["person"]))
    more = rows[-1]["id"] if len(rows) == BATCH else None
    return Moved(providers + plugins + len(owners), owners, providers > 0, more)


async def _providers(conn: Connection, box: Box) -> int:
    moved = 0
    for row in await conn.fetch(sql.load()["reseal_providers"]):
        anew = [_anew(box, row[name]) for name in ("secret", "env_secret")]
        if any(anew):
            await conn.execute(sql.load()["reseal_provider_put"], row["name"], *anew)
            moved += sum(one is not None for one in anew)
    return moved


async def _plugins(conn: Connection, box: Box) -> int:
    moved = 0
    for row in await conn.fetch(sql.load()["reseal_plugins"]):
        anew = _anew(box, row["config"][SEALED].encode())
        if anew is not None:
            await conn.execute(
                sql.load()["reseal_plugin_put"], row["name"], {SEALED: anew.decode()}
            )
            moved += 1
    return moved


def _anew(box: Box, sealed: bytes | None) -> bytes | None:
    """Sealed by the newest key; None where that is so, or cannot be."""
    return None if sealed is None or box.is_newest(sealed) else box.resealed(sealed)


async def standing(conn: Connection, seals: Seals) -> Standing:
    """Looks at every row: one may have been written by a process that knows no newer key."""
    query = sql.load()
    found: list[bool | None] = []  # whether it can be read, of those that are not the newest's
    for row in await conn.fetch(query["reseal_providers"]):
        found += [_old(seals.providers, row[name]) for name in ("secret", "env_secret")]
    for row in await conn.fetch(query["reseal_plugins"]):
        found.append(_old(seals.plugins, row["config"][SEALED].encode()))
    after: UUID | None = None
    while rows := await _looked(conn, after):
        found += [_old(seals.providers, row["secret"]) for row in rows]
        after = rows[-1]["id"]
    return Standing(found.count(True), found.count(False))


async def _looked(conn: Connection, after: UUID | None) -> Sequence[asyncpg.Record]:
    return list(await conn.fetch(sql.load()["reseal_look"], after, LOOK_BATCH))


def _old(box: Box, sealed: bytes | None) -> bool | None:
    if sealed is None or box.is_newest(sealed):
        return None
    return box.open(sealed) is not None
