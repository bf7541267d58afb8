"""What usage is counted in, and what a model charges for it. Pure data; integers only.

Usage is disjoint counts by class: tokens that come in or go out, and things that are no tokens.
`a/b` is a kind of `a`: `images/hd/1024x1792` costs what `images/hd` does, unless it has a rate.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

#: A class of tokens without a rate of its own is charged as the first of these that has one.
WITHIN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "cache_read": ("input",),
        "cache_write": ("input",),
        "cache_write_1h": ("cache_write", "input"),
        "audio_in": ("input",),
        "cache_audio_in": ("audio_in", "cache_read", "input"),
        "image_in": ("input",),
        "cache_image_in": ("image_in", "cache_read", "input"),
        "video_in": ("input",),
        "reasoning": ("output",),
        "audio_out": ("output",),
        "image_out": ("output",),
        "video_out": ("output",),
        "citation": ("output",),
    }
)
#: Which side of a call each class of tokens is on.
SIDES: Mapping[str, str] = {
    **{"input": "input", "output": "output"},
    **{name: chain[-1] for name, chain in WITHIN.items()},
}
CACHED = ("cache_read", "cache_audio_in", "cache_image_in")
#: What is counted and is no token; nothing stands in for its rate.
UNITS = (
    "requests",
    "images",
    "seconds",  # of sound; its rate is for a million hours, as everybody sells it
    "characters",
    "pages",
    "searches",  # of a reranker, in its provider's units
    "web_searches",
    "file_searches",
    "code_runs",
)
#: Those of which there are kinds.
VARIED = ("images", "pages", "web_searches")
SECONDS_PER_HOUR = 3_600

Kind = Literal[
    "chat",
    "completions",
    "embeddings",
    "images",
    "speech",
    "transcription",
    "rerank",
    "moderation",
]
#: A price covers a kind of call when it has all classes of one of these.
NEEDED: Mapping[str, tuple[frozenset[str], ...]] = MappingProxyType(
    {
        kind: tuple(frozenset(one.split()) for one in ways)
        for kind, ways in {
            "chat": ("input output",),
            "completions": ("input output",),
            "embeddings": ("input",),
            "images": ("images", "input image_out", "input output"),
            "speech": ("characters", "input audio_out", "input output"),
            "transcription": ("seconds", "input output", "audio_in output"),
            "rerank": ("searches", "requests", "input"),
            "moderation": ("input", "requests"),
        }.items()
    }
)
KINDS: tuple[Kind, ...] = (
    *("chat", "completions", "embeddings", "images"),
    *("speech", "transcription", "rerank", "moderation"),
)

Rates = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Tier:
    """Other rates for all of a request whose whole input is more than so many tokens."""

    above: int
    rates: Rates


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs; usage keeps the version it was charged by."""

    version: int
    rates: Rates  # class -> ucr per 1,000,000
    factor_ppm: int  # 1,000,000 + markup
    tiers: tuple[Tier, ...] = ()  # by how much comes in, lowest first
    charged: Rates = field(init=False, repr=False, compare=False)  # every class that has a rate
    dearest_in: int = field(init=False, repr=False)  # of all classes of that side, in all tiers
    dearest_out: int = field(init=False, repr=False)
    is_plain: bool = field(init=False, repr=False, compare=False)  # nothing by request or by hour
    covered: frozenset[str] = field(init=False, repr=False, compare=False)  # kinds of calls
    _tiered: tuple[Rates, ...] = field(init=False, repr=False, compare=False)
    _lower: tuple["Price", ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        every = [self.rates, *(tier.rates for tier in self.tiers)]
        object.__setattr__(self, "charged", charged(self.rates))
        object.__setattr__(self, "_tiered", tuple(charged(tier.rates) for tier in self.tiers))
        for name, side in (("dearest_in", "input"), ("dearest_out", "output")):
            object.__setattr__(self, name, _dearest(every, side))
        names = frozenset().union(*every)
        object.__setattr__(self, "is_plain", not names & {"requests", "seconds"})
        object.__setattr__(self, "covered", _covered(every))
        lower = (
            Price(self.version, self.rates, self.factor_ppm, self.tiers[:count])
            for count in range(len(self.tiers))
        )
        object.__setattr__(self, "_lower", tuple(lower))

    def covers(self, kind: str) -> bool:
        """Whether all that such a call may use has a rate, and nothing is paid out. That all are 0
        is a price too; that there are none is not."""
        return kind in self.covered

    def reached_by(self, input_max: int) -> "Price":
        """Without the tiers that so many tokens in cannot get to: what a hold goes by."""
        crossed = self._crossed(input_max)
        return self if crossed == len(self.tiers) else self._lower[crossed]

    def at(self, tokens_in: int) -> Rates:
        """What is charged for each class where so much comes in."""
        crossed = self._crossed(tokens_in)
        return self._tiered[crossed - 1] if crossed else self.charged

    @property
    def every(self) -> tuple[Rates, ...]:
        """What is charged for each class, in each tier."""
        return (self.charged, *self._tiered)

    def _crossed(self, tokens_in: int) -> int:
        return bisect_left(self.tiers, tokens_in, key=lambda tier: tier.above)


def read_price(version: int, row: Mapping[str, Any]) -> Price:
    """Of what the table of prices, or a snapshot, says of that version."""
    tiers = tuple(Tier(one["above"], one["rates"]) for one in row.get("tiers") or ())
    return Price(version, row["rates"], row["factor_ppm"], tiers)


def charged(rates: Rates) -> Rates:
    """The rates with those of classes that lie within another one."""
    known = dict(rates)
    for name, chain in WITHIN.items():
        if name not in rates and (stand_in := next((n for n in chain if n in rates), None)):
            known[name] = rates[stand_in]
    return known


def tokens_in(counts: Mapping[str, int]) -> int:
    """All tokens that came in, cached ones too."""
    return tokens_in_and_out(counts)[0]


def tokens_out(counts: Mapping[str, int]) -> int:
    return tokens_in_and_out(counts)[1]


def tokens_in_and_out(counts: Mapping[str, int]) -> tuple[int, int]:
    """Both sides by one look."""
    into = out = 0
    for name, count in counts.items():
        side = SIDES.get(name)
        if side == "input":
            into += count
        elif side == "output":
            out += count
    return into, out


def tokens_cached(counts: Mapping[str, int]) -> int:
    return sum(counts.get(name, 0) for name in CACHED)


def unknown(names: Iterable[str]) -> list[str]:
    """Those that nothing is ever counted in."""
    return [
        name
        for name in names
        if name not in SIDES and name not in UNITS and name.split("/")[0] not in VARIED
    ]


def _makes_sense(rates: Rates) -> bool:
    return bool(rates) and min(rates.values()) >= 0 and not unknown(rates)


def _covered(every: Sequence[Rates]) -> frozenset[str]:
    if not all(map(_makes_sense, every)):
        return frozenset()
    names = frozenset(every[0]).intersection(*every)
    return frozenset(kind for kind in KINDS if any(needed <= names for needed in NEEDED[kind]))


def _dearest(every: Iterable[Rates], side: str) -> int:
    return max(
        (rate for rates in every for name, rate in rates.items() if SIDES.get(name) == side),
        default=0,
    )
