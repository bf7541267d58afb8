"""Ops-Center with everything on: its own servers, drain and ledger, and a limit of every kind on
the key, the person and the organisation, so that each request counts against all of them.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import asyncpg

from bench import stack
from bench.compare.gateways import Gateway
from bench.compare.scenes import PRICES, SCENES
from bench.stack import Stack, StackError
from control.machine.servers import addresses

BUDGET_UCR = 4_000_000_000_000_000  # counted, never reached
PARALLEL_MAX = 100_000
PUBLISHED_S = 30.0
METERS = "credits, a budget each of key, person and organisation, parallel requests of key and"
ABOUT = f"one worker; {METERS} organisation; hold, settlement, usage event, ledger"


class Ours:
    """Starts in the same folder again and again; the first time makes everything."""

    def __init__(self) -> None:
        self._key = ""
        self.stack: Stack | None = None  # that runs

    @contextlib.contextmanager
    def start(self, folder: Path, upstream_url: str) -> Iterator[Gateway]:
        with stack.opscenter(folder, 1, upstream_url, self._key) as running:
            self._key, self.stack = running.key, running
            address = running.door_url, running.key, running.pid
            yield Gateway("opscenter", *address, own_models=True, about=ABOUT)
        self.stack = None

    def prepare(self, folder: Path) -> None:
        """The models of all scenes, and the limits."""
        if self.stack is None:
            raise StackError("Ops-Center does not run")
        stack.serve_provider(self.stack)
        for scene in SCENES:
            stack.serve_model(self.stack, scene.model, scene.upstream_model, PRICES)
        asyncio.run(_limit_everything(folder))


async def _limit_everything(folder: Path) -> None:
    """Returns when Redis has the limits."""
    conn = await asyncpg.connect(addresses(folder, folder / "run")[1])
    try:
        for table in ("organisation", "api_key"):
            await conn.execute(
                f"UPDATE {table} SET budget_ucr = $1, parallel_max = $2",  # noqa: S608 - ours
                BUDGET_UCR,
                PARALLEL_MAX,
            )
        await conn.execute("UPDATE membership SET budget_ucr = $1", BUDGET_UCR)
        async with asyncio.timeout(PUBLISHED_S):
            while await conn.fetchval("SELECT count(*) FROM outbox_record"):  # noqa: ASYNC110
                await asyncio.sleep(stack.LOOK_S)
    finally:
        await conn.close()
