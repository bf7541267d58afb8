"""How long to wait before a child process that died is started again."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

FIRST_S: Final = 0.1
LONGEST_S: Final = 10.0
HEALTHY_AFTER_S: Final = 30.0  # who lived that long has not failed at its start


@dataclass(slots=True)
class Backoff:
    """Doubles with every failure; the jitter keeps several from starting in step."""

    jitter: Callable[[], float] = random.random
    failures: int = 0

    def pause(self, lived_s: float) -> float:
        """The wait after one more failure of a child that lived so long."""
        if lived_s >= HEALTHY_AFTER_S:
            self.failures = 0
        longest = min(LONGEST_S, FIRST_S * (1 << min(self.failures, 16)))
        self.failures += 1
        return longest * (0.5 + self.jitter() / 2)
