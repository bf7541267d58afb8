"""Keeps the catalogue in step: with the package at the first start, with the days from which prices
hold, and with the providers' lists. Never keeps a process from starting.
"""

import asyncio
import logging
import ssl

import asyncpg

from control import sql
from control.catalogue import refresh, store
from control.catalogue.store import FillError
from control.database import AWAY, Pool
from control.settings import ControlSettings
from control.state import State
from proxy.reach.dial import trust

log = logging.getLogger("opscenter.control.catalogue.keep")

LOOK_EVERY_S = 600.0  # prices begin at midnight
RETRY_S = 10.0  # until the package has been read


async def keep_catalogue(state: State) -> None:
    """One control plane fills; the others see that it is done."""
    tls = trust(state.settings.upstream_ca_file)
    filled = not state.settings.catalogue
    while True:
        try:
            filled = filled or await fill(state.pool)
            await _look(state, tls)
        except (asyncpg.PostgresError, FillError, *AWAY) as problem:
            log.warning("the catalogue waits: %s", problem)
        except Exception:
            log.exception("the catalogue met what it does not know, and is tried again")
        await asyncio.sleep(LOOK_EVERY_S if filled else RETRY_S)


async def fill(pool: Pool) -> bool:
    """Takes what the package says, once for each version of it; True when it is there."""
    async with pool.acquire() as conn:
        if await store.is_filled(conn):
            return True
    rows = await store.read_package()
    async with pool.acquire() as conn:
        count = await store.fill(conn, rows)
    log.info("the catalogue has %d models of %s", count, store.package_version())
    return True


async def _look(state: State, tls: ssl.SSLContext) -> None:
    async with state.pool.acquire() as conn:
        await store.serve(conn)
    due = await _due(state.pool, state.settings)
    if due:
        asked = await refresh.ask(due, state.keys, tls)
        async with state.pool.acquire() as conn:
            await refresh.keep(conn, asked)
        for one in asked:
            if one.problem:
                log.warning("the list of %s cannot be had: %s", one.provider, one.problem)


async def _due(pool: Pool, settings: ControlSettings) -> "list[asyncpg.Record]":
    """Providers with a key whose list is older than wanted; one that was never asked is due when
    it has been here for that long."""
    if not settings.catalogue_refresh_hours:
        return []
    return await pool.fetch(sql.load()["catalogue_due"], settings.catalogue_refresh_hours)
