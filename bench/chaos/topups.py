"""Credits that come in while everything burns, some of them told twice or more: each of them must
be booked exactly once. What was asked for stands in `topups.jsonl`.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import orjson

from bench.chaos.fleet import Organisation
from bench.chaos.plan import Fault
from control.books import ledger
from control.database import Pool

REPEATS_MAX = 3
# what asyncpg raises when its server is killed, also in the middle of giving a connection back
TROUBLE = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)


@dataclass(slots=True)
class TopUp:
    organisation: Organisation
    amount: int
    ref: str
    times: int  # that it is still to be told


class TopUps:
    def __init__(
        self, pool: Pool, organisations: list[Organisation], truth: Path, seed: int
    ) -> None:
        self._pool = pool
        self._organisations = organisations
        self._file = truth / "topups.jsonl"
        self._dice = random.Random(f"topups/{seed}")
        self._due: list[TopUp] = []
        self.made = self.told = 0
        self.over = False
        self._file.touch()

    def plan(self, fault: Fault) -> bool:
        """One payment, told one to three times; the last may come long after the first."""
        chosen = self._organisations[fault.which % len(self._organisations)]
        self.made += 1
        ref = f"payment {self.made}"
        times = self._dice.randint(1, REPEATS_MAX)
        row = {"organisation": str(chosen.id), "amount": fault.amount, "ref": ref}
        with self._file.open("ab") as file:
            file.write(orjson.dumps(row) + b"\n")
        self._due.append(TopUp(chosen, fault.amount, ref, times))
        return True

    async def turn(self) -> None:
        """Tells one of those that are due; one that failed stays due."""
        if not self._due:
            return
        at = self._dice.randrange(len(self._due))
        one = self._due[at]
        async with self._pool.acquire(timeout=5) as conn, conn.transaction():
            await ledger.grant(conn, one.organisation.id, one.amount, one.ref, "chaos", "purchase")
        self.told += 1
        one.times -= 1
        if not one.times:
            self._due.remove(one)

    async def finish(self) -> None:
        """All that is due, now that Postgres is back."""
        self.over = True
        while self._due:
            try:
                await self.turn()
            except TROUBLE:
                continue
