"""Keys that were guesses, counted by the address they came from: too many of them, and this worker
looks no further key up for that address. In this worker's memory, because what it saves is Redis.

Each guess puts an address one step further into debt, and time pays the debt off; what was already
on its way when the budget was used up counts too, so that guessing side by side gains nothing.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from proxy.errors import FailedKeysTooMany
from proxy.who.rules import network_of

DEBT_WINDOWS = 2  # nobody waits longer than this less one


class Tries:
    """The debts of a bounded number of addresses; the one that was quiet longest is forgotten."""

    def __init__(
        self,
        tries_max: int,
        window_s: int,
        addresses_max: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`tries_max` 0: nobody is refused."""
        self._step_s = window_s / tries_max if tries_max else 0.0
        self._window_s = window_s
        self._addresses_max = addresses_max
        self._now = now
        self._paid_at: OrderedDict[bytes, float] = OrderedDict()

    def check(self, client: str) -> None:
        """Before Redis is asked for a key: raises where this address has guessed too often."""
        if self._paid_at:
            self._refuse(network_of(client), self._now())

    def guessed(self, client: str) -> None:
        """Redis was asked, and the key was none."""
        self._count(network_of(client), self._now())

    def garbage(self, client: str) -> None:
        """What cannot be a key was sent; raises where that was too often. It is counted by itself:
        it cost no look-up, so it takes nothing from who shares the address.
        """
        name, now = b"!" + network_of(client), self._now()
        self._refuse(name, now)
        self._count(name, now)

    def _refuse(self, name: bytes, now: float) -> None:
        wait_s = self._paid_at.get(name, 0.0) - now + self._step_s - self._window_s
        if self._step_s and wait_s > 0:
            raise FailedKeysTooMany.after(math.ceil(wait_s))

    def _count(self, name: bytes, now: float) -> None:
        if not self._step_s:
            return
        owed = max(self._paid_at.get(name, now), now) + self._step_s
        self._paid_at[name] = min(owed, now + DEBT_WINDOWS * self._window_s)
        self._paid_at.move_to_end(name)
        if len(self._paid_at) > self._addresses_max:
            self._paid_at.popitem(last=False)
