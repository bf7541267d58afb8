"""Whether this control plane can do its work: Postgres, schema, Redis, a published snapshot."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import asyncpg
import redis.exceptions

from control import migrate
from control.database import AWAY
from control.state import State

CHECK_TIMEOUT_S = 3
FRESH_S = 1.0  # the answer is kept this long: everybody may ask


class Readiness:
    """Asks at most once in FRESH_S, however many want to know."""

    def __init__(self, state: State, now: Callable[[], float] = time.monotonic) -> None:
        self._state = state
        self._now = now
        self._lock = asyncio.Lock()
        self._asked_at = float("-inf")
        self._missing: dict[str, str] = {}

    async def missing(self) -> dict[str, str]:
        """What is not ready, by name, each with its reason; empty when all is."""
        async with self._lock:
            if self._now() - self._asked_at >= FRESH_S:
                self._missing = await self._ask()
                self._asked_at = self._now()
        return self._missing

    async def _ask(self) -> dict[str, str]:
        answers = {
            "postgres": await _reason(self._postgres),
            "redis": await _reason(self._redis),
        }
        if not self._state.counters.snapshot_published_at:
            answers["snapshot"] = "the snapshot is not published yet"
        return {name: reason for name, reason in answers.items() if reason}

    async def _postgres(self) -> None:
        async with self._state.pool.acquire(timeout=CHECK_TIMEOUT_S) as conn:
            await migrate.check(conn)

    async def _redis(self) -> None:
        await self._state.redis.ping()


async def _reason(check: Callable[[], Awaitable[None]]) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await check()
    except (asyncpg.PostgresError, redis.exceptions.RedisError, migrate.SchemaError, *AWAY) as why:
        return str(why) or type(why).__name__
    return ""
