"""Counts failed sign-ins per address and per e-mail. Remembers a bounded number of them."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

from control.errors import LoginsTooMany

NAMES_MAX = 10_000


class Logins:
    """A try is counted before the password is looked at, so that parallel ones cannot slip by."""

    def __init__(
        self, tries_max: int, window_s: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._tries_max = tries_max
        self._window_s = window_s
        self._now = now
        self._tries: OrderedDict[str, deque[float]] = OrderedDict()

    def count(self, names: Iterable[str]) -> None:
        """One more try under each name; raises when one of them had too many."""
        now = self._now()
        queues = [self._recent(name, now) for name in names]
        waits = [
            queue[0] + self._window_s - now for queue in queues if len(queue) >= self._tries_max
        ]
        if waits:
            seconds = max(1, round(max(waits)))
            raise LoginsTooMany(seconds=seconds, headers=(("retry-after", str(seconds)),))
        for queue in queues:
            queue.append(now)

    def forget(self, names: Iterable[str]) -> None:
        """A sign-in that succeeded takes its own try back and leaves the failed ones."""
        for name in names:
            queue = self._tries.get(name)
            if queue:
                queue.pop()

    def _recent(self, name: str, now: float) -> deque[float]:
        queue = self._tries.setdefault(name, deque(maxlen=self._tries_max))
        self._tries.move_to_end(name)
        while queue and queue[0] <= now - self._window_s:
            queue.popleft()
        while len(self._tries) > NAMES_MAX:
            self._tries.popitem(last=False)
        return queue
