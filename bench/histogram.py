"""Times of any number of events in little memory: buckets 1 % wide, percentiles as exact. Pure."""

from collections import Counter
from dataclasses import dataclass, field
from math import ceil, exp, log

_GROWTH = log(1.01)
_UNIT_S = 1e-6  # what is shorter counts as this


@dataclass(slots=True)
class Histogram:
    """Seconds in, percentiles out."""

    counts: Counter[int] = field(default_factory=Counter)
    count: int = 0
    total_s: float = 0.0
    max_s: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[ceil(log(max(seconds, _UNIT_S) / _UNIT_S) / _GROWTH)] += 1
        self.count += 1
        self.total_s += seconds
        self.max_s = max(self.max_s, seconds)

    def percentile(self, percent: float) -> float:
        """The time that `percent` of the events did not pass, in seconds; 0 when there was none."""
        rank, seen = self.count * percent / 100, 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank:
                return min(_UNIT_S * exp(bucket * _GROWTH), self.max_s)
        return 0.0

    def summary(self) -> dict[str, float]:
        """In milliseconds, as reports show it."""
        mean = self.total_s / self.count if self.count else 0.0
        times = {f"p{percent}": self.percentile(percent) for percent in (50, 90, 99)}
        return {
            name: round(value * 1000, 3)
            for name, value in (times | {"max": self.max_s, "mean": mean}).items()
        }
