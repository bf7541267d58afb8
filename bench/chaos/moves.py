"""Credits that move between pools while everything burns. Some moves are told twice, and some
tellers die between the reservation and the commit: each move is booked once or not at all, and once
where its teller heard so. What was asked for and heard stands in `moves.jsonl`.
"""

import asyncio
import contextlib
import random
from dataclasses import dataclass
from pathlib import Path

import orjson

from bench.chaos.fleet import Organisation
from bench.chaos.topups import TROUBLE
from control.books.ledger import LedgerError, Purse
from control.books.moves import Move, move
from control.books.outflows import RedisNotReady, TooFew
from control.database import Pool
from control.store import Store

AMOUNT_MAX = 2_000_000  # ucr
TIMES_MAX = 3  # that one move is told
DEATHS = 0.3  # of tellers, after the reservation
PAUSE_S = 0.1


class Died(Exception):
    """The teller did, before its commit."""


@dataclass(slots=True)
class Moves:
    pool: Pool
    redis: Store
    purses: list[Purse]
    file: Path
    dice: random.Random
    over: bool = False
    asked: int = 0

    @classmethod
    def of(
        cls, pool: Pool, redis: Store, organisations: list[Organisation], truth: Path, seed: int
    ) -> "Moves":
        """Between organisations, and with what a member of each has of his own."""
        purses = [Purse(one.id) for one in organisations]
        purses += [Purse(one.id, one.person) for one in organisations]
        file = truth / "moves.jsonl"
        file.touch()
        return cls(pool, redis, purses, file, random.Random(f"moves/{seed}"))

    async def keep_moving(self) -> None:
        while not self.over:
            await self._some()
            await asyncio.sleep(PAUSE_S)

    async def _some(self) -> None:
        source, target = self.dice.sample(self.purses, 2)
        self.asked += 1
        amount = self.dice.randint(1, AMOUNT_MAX)
        wanted = Move(source, target, amount, f"move {self.asked}")
        self._note(wanted, heard=False)
        for _ in range(self.dice.randint(1, TIMES_MAX)):
            with contextlib.suppress(*TROUBLE, LedgerError, TooFew, RedisNotReady, Died):
                await self._tell(wanted)
                self._note(wanted, heard=True)

    async def _tell(self, wanted: Move) -> None:
        async with self.pool.acquire(timeout=5) as conn, conn.transaction():
            await move(conn, self.redis, wanted, "chaos")
            if self.dice.random() < DEATHS:
                raise Died

    def _note(self, wanted: Move, heard: bool) -> None:
        sides = {"source": wanted.source.owner, "target": wanted.target.owner}
        row = {"ref": wanted.ref, **sides, "amount": wanted.amount, "heard": heard}
        with self.file.open("ab") as file:
            file.write(orjson.dumps(row) + b"\n")
