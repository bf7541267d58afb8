"""How often the control API may be asked a minute: by an address that shows no sign-in, by a key,
by a person with all keys and sign-ins. Each process counts for itself, in memory.

Each request puts its name one step further into debt, and time pays the debt off.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from control.errors import AskedTooOften
from control.settings import ControlSettings
from plugins.access import Caller
from proxy.bounds.rates import duration
from proxy.who.rules import network_of

RATES: Final = "opscenter.rates"  # in an ASGI scope
TOLD: Final = "opscenter.rates_told"  # there too: what the answer's headers tell
WINDOW_S: Final = 60
NAMES_MAX: Final = 10_000  # that are remembered; the one that was quiet longest is forgotten
UNCOUNTED: Final = frozenset({"/healthz", "/readyz"})  # asked by machines, for nobody

Fields = list[tuple[str, str]]


class Debtor(NamedTuple):
    """Who asks, and how often he may."""

    name: bytes
    label: str
    most: int  # a minute; 0: as often as he likes
    setting: str


class Rates:
    """The debts of a bounded number of names."""

    def __init__(
        self, settings: ControlSettings, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._now = now
        self._paid_at: OrderedDict[bytes, float] = OrderedDict()

    def of_address(self, client: str) -> Fields:
        """One more request that shows no sign-in, or none that is good."""
        most = self._settings.control_address_rate_max
        name = b"a" + network_of(client)
        return self._charge([Debtor(name, "address", most, "CONTROL_ADDRESS_RATE_MAX")])

    def of_caller(self, caller: Caller) -> Fields:
        """One more request of somebody who is known; all of his limits have room, or none is
        charged."""
        debtors = []
        if caller.actor.startswith("key:"):
            most = self._settings.control_key_rate_max
            debtors.append(Debtor(caller.actor.encode(), "key", most, "CONTROL_KEY_RATE_MAX"))
        most = self._settings.control_person_rate_max
        person = f"person:{caller.person}".encode()
        debtors.append(Debtor(person, "person", most, "CONTROL_PERSON_RATE_MAX"))
        return self._charge(debtors)

    def _charge(self, debtors: Sequence[Debtor]) -> Fields:
        now, told = self._now(), list[tuple[int, Fields]]()
        limited = [one for one in debtors if one.most]
        for one in limited:
            self._refuse(one, now)
        for one in limited:
            step_s = WINDOW_S / one.most
            owed_at = max(self._paid_at.get(one.name, now), now) + step_s
            self._paid_at[one.name] = owed_at
            self._paid_at.move_to_end(one.name)
            left = _left(one, owed_at - now)
            told.append((left, _fields(one, left, owed_at - now)))
        while len(self._paid_at) > NAMES_MAX:
            self._paid_at.popitem(last=False)
        return min(told)[1] if told else []

    def _refuse(self, one: Debtor, now: float) -> None:
        owed_s = max(self._paid_at.get(one.name, now) - now, 0.0)
        if _left(one, owed_s) > 0:
            return
        wait_s = max(math.ceil(owed_s + WINDOW_S / one.most - WINDOW_S), 1)
        problem = AskedTooOften(
            owner=one.label,
            limit=one.most,
            seconds=wait_s,
            setting=f"OPSCENTER_{one.setting}",
            headers=tuple(_fields(one, 0, owed_s)),
        )
        problem.retry_after_s = wait_s
        raise problem


def _left(one: Debtor, owed_s: float) -> int:
    """Requests for which there is room now; a hair's breadth is none."""
    return max(math.floor((WINDOW_S - owed_s) * one.most / WINDOW_S + 1e-6), 0)


def _fields(one: Debtor, left: int, owed_s: float) -> Fields:
    return [
        ("x-ratelimit-limit-requests", str(one.most)),
        ("x-ratelimit-remaining-requests", str(left)),
        ("x-ratelimit-reset-requests", duration(math.ceil(owed_s))),
    ]
