"""Deadlines of many by one look: who waits for the same thing waits equally long, so the order in
which they began is the order in which they are due. Starting and stopping cost an entry in a dict.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

Who = TypeVar("Who")


class Watch(Generic[Who]):
    """Rings for whoever has waited for longer than `seconds`."""

    __slots__ = ("_clock", "_due", "_ring", "_seconds")

    def __init__(
        self, seconds: float, ring: Callable[[Who], None], clock: Callable[[], float]
    ) -> None:
        self._seconds = seconds
        self._ring = ring
        self._clock = clock
        self._due: dict[Who, float] = {}

    def __len__(self) -> int:
        return len(self._due)

    def start(self, who: Who) -> None:
        """From now on; who waited already begins anew."""
        self._due.pop(who, None)
        self._due[who] = self._clock() + self._seconds

    def stop(self, who: Who) -> None:
        self._due.pop(who, None)

    def first(self) -> Who:
        """Who has waited longest; he waits no more."""
        who = next(iter(self._due))
        del self._due[who]
        return who

    def last(self) -> Who | None:
        """Who began to wait last."""
        return next(reversed(self._due), None)

    def all(self) -> list[Who]:
        return list(self._due)

    def look(self, most: int) -> bool:
        """Rings for so many at one time, and says whether there may be more."""
        now = self._clock()
        late: list[Who] = []
        for who, due in self._due.items():
            if due > now or len(late) == most:
                break
            late.append(who)
        for who in late:
            # the ring of another may have ended its wait
            if self._due.pop(who, None) is not None:
                self._ring(who)
        return len(late) == most
