"""Takes away what has run out: sign-ins, answers kept for repetitions, warnings, jobs, and counts
that nobody asks for any more. In batches, so that nobody waits for it.
"""

import asyncio
import logging

import asyncpg

from control import sql
from control.database import AWAY, Pool

log = logging.getLogger("opscenter.control.tidy")

EVERY_S = 600.0
BATCH_ROWS = 2_000
BATCHES_MAX = 50  # in one round; the rest waits for the next
PRUNED = (
    "session_prune",
    "sign_in_prune",
    "token_key_prune",
    "idempotency_prune",
    "limit_event_prune",
    "job_prune",
)
PRUNED_IN_BATCHES = ("meter_use_prune", "key_use_prune")


async def keep(pool: Pool) -> None:
    """For as long as the control plane runs."""
    while True:
        try:
            await tidy_once(pool)
        except (asyncpg.PostgresError, *AWAY) as problem:
            log.warning("tidying waits for PostgreSQL: %s", problem)
        except Exception:
            log.exception("tidying met what it does not know, and is tried again")
        await asyncio.sleep(EVERY_S)


async def tidy_once(pool: Pool) -> None:
    query = sql.load()
    for name in PRUNED:
        await pool.execute(query[name])
    for name in PRUNED_IN_BATCHES:
        for _ in range(BATCHES_MAX):
            if len(await pool.fetch(query[name], BATCH_ROWS)) < BATCH_ROWS:
                break
