"""What really happened, read from the files of a run: bills, answers, top-ups, faults. Knows no
product code; prices by arithmetic of its own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import orjson

#: A token class without a rate of its own costs what the class does that it is a part of.
_PRICED_AS = {"cache_read": "input", "cache_write": "input", "reasoning": "output"}


class Bill(NamedTuple):
    """All that the provider billed for one request id."""

    model: str  # as the provider knows it
    tokens: tuple[tuple[str, int], ...]
    end: str  # finished, aborted or cut


class Event(NamedTuple):
    """A fault, and the span of wall time in seconds in which it acted."""

    kind: str
    began: float
    ended: float


class TopUp(NamedTuple):
    organisation: str
    amount: int
    ref: str


class Move(NamedTuple):
    """Credits that were to move; told once more when somebody heard that they had."""

    ref: str
    source: str
    target: str
    amount: int
    heard: bool


@dataclass(frozen=True, slots=True)
class Model:
    rates: Mapping[str, int]
    factor_ppm: int
    tells_usage: bool

    known: dict[tuple[tuple[str, int], ...], int] = field(default_factory=dict, compare=False)

    def cost_ucr(self, tokens: tuple[tuple[str, int], ...]) -> int:
        """Rounded up once, from an exact fraction."""
        if tokens not in self.known:
            self.known[tokens] = self._cost_ucr(dict(tokens))
        return self.known[tokens]

    def _cost_ucr(self, tokens: Mapping[str, int]) -> int:
        per_million = sum(
            n * self.rates[name if name in self.rates else _PRICED_AS[name]]
            for name, n in tokens.items()
        )
        exact = Fraction(per_million, 10**6) * Fraction(self.factor_ppm, 10**6)
        return -(-exact.numerator // exact.denominator)


@dataclass(frozen=True, slots=True)
class Organisation:
    shard: int
    kids: frozenset[str]
    grant: int


@dataclass(slots=True)
class Truth:
    models: dict[str, Model]
    organisations: dict[str, Organisation]
    bills: dict[str, Bill] = field(default_factory=dict)
    twice: list[str] = field(default_factory=list)  # request ids that the provider billed again
    topups: list[TopUp] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    same: dict[Bill, Bill] = field(default_factory=dict)  # a run has many equal ones
    told: dict[str, int] = field(default_factory=dict)  # rid -> ucr that the client was told
    refused: set[str] = field(default_factory=set)  # rids that were turned away at the door

    def happened(self, *kinds: str) -> list[Event]:
        return [event for event in self.events if event.kind in kinds]


def read(folder: Path) -> Truth:
    fleet = orjson.loads((folder / "fleet.json").read_bytes())
    truth = Truth(
        {name: _model(row) for name, row in fleet["models"].items()},
        {
            id: Organisation(row["shard"], frozenset(row["kids"]), row["grant"])
            for id, row in fleet["organisations"].items()
        },
    )
    for row in _rows(folder / "bills.jsonl"):
        _bill(truth, row)
    truth.topups += [TopUp(**row) for row in _rows(folder / "topups.jsonl")]
    truth.moves += [Move(**row) for row in _rows(folder / "moves.jsonl")]
    truth.events += [
        Event(row["kind"], row["from"], row["to"]) for row in _rows(folder / "events.jsonl")
    ]
    _answers(truth, folder / "answers.txt")
    return truth


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    if file.exists():
        with file.open("rb") as lines:
            yield from map(orjson.loads, lines)


def _model(row: Mapping[str, Any]) -> Model:
    return Model(row["rates"], row["factor_ppm"], row["tells_usage"])


def _bill(truth: Truth, row: Mapping[str, Any]) -> None:
    """The cache's tokens are a part of the prompt, reasoning a part of the completion."""
    tokens = {
        "input": row["prompt_tokens"] - row["cached_tokens"] - row["cache_write_tokens"],
        "cache_read": row["cached_tokens"],
        "cache_write": row["cache_write_tokens"],
        "output": row["completion_tokens"] - row["reasoning_tokens"],
        "reasoning": row["reasoning_tokens"],
    }
    rid = row["request_id"]
    if rid in truth.bills:
        truth.twice.append(rid)
    used = tuple(sorted((name, n) for name, n in tokens.items() if n))
    bill = Bill(row["model"], used, row["end"])
    truth.bills[rid] = truth.same.setdefault(bill, bill)


def _answers(truth: Truth, file: Path) -> None:
    if not file.exists():
        return
    with file.open() as lines:
        for line in lines:
            rid, status, told = line.split()
            if told != "-":
                whole, _, part = told.partition(".")
                truth.told[rid] = int(whole) * 10**6 + int(part.ljust(6, "0"))
            elif status in ("402", "429", "503") and rid != "-":
                truth.refused.add(rid)
