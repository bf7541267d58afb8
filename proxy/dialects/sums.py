"""A usage's disjoint classes, added up as dialects tell them. Pure."""

from dataclasses import dataclass

from proxy.costs import price
from proxy.types import Usage

WRITTEN = ("cache_write", "cache_write_1h")


@dataclass(frozen=True, slots=True)
class Sums:
    """Of the tokens that came in, which were read from a cache or written to one; and of those
    that went out, which were thought.
    """

    all_in: int
    cached: int
    written: int
    written_1h: int  # a part of `written`
    all_out: int
    thought: int

    @property
    def fresh(self) -> int:
        return self.all_in - self.cached - self.written


def sums(usage: Usage) -> Sums:
    counts = usage.tokens
    return Sums(
        all_in=price.tokens_in(counts),
        cached=price.tokens_cached(counts),
        written=sum(counts.get(name, 0) for name in WRITTEN),
        written_1h=counts.get("cache_write_1h", 0),
        all_out=price.tokens_out(counts),
        thought=counts.get("reasoning", 0),
    )
