"""The gate: a piece's time over that of a reference in the same run, against the recorded ratio.

A ratio holds on machines of other speeds, and the fastest of many rounds holds on busy ones.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

RECORDED = Path(__file__).with_name("ratios.json")
DEARER_MAX = 1.6  # times what is recorded
ROUNDS = 60
ROUND_S = 0.0005  # so short that many rounds run without interruption
TRIES = 4  # a piece that seems too dear is measured anew, for a machine that was busy
ANEW = "make micro ARGS=--record, on a quiet machine"

Work = Callable[[], object]


def reference() -> int:
    """Plain Python: numbers, bytes, a dictionary. Never change it: all ratios would be others."""
    table: dict[bytes, int] = {}
    for number in range(200):
        name = b"%d" % (number % 17)
        table[name] = table.get(name, 0) + number
    return len(table)


def nothing() -> None:
    """Before a round, where nothing has to be made ready."""


def fastest(work: Work, iterations: int, prepare: Work = nothing, rounds: int = ROUNDS) -> float:
    """Seconds for one call, in the fastest round."""
    best = float("inf")
    for _ in range(rounds):
        prepare()
        started = perf_counter()
        for _ in range(iterations):
            work()
        best = min(best, perf_counter() - started)
    return best / iterations


def iterations_of(work: Work) -> int:
    """How many calls fill a round."""
    return max(1, int(ROUND_S / fastest(work, 1, rounds=5)))


@dataclass(slots=True)
class Gate:
    """The ratios of one run, and those that are recorded."""

    recorded: dict[str, float]
    recording: bool
    found: dict[str, float] = field(default_factory=dict)

    def judge(self, name: str, ratio: float, again: Callable[[], float]) -> str | None:
        """What is wrong with a piece; `again` measures it anew."""
        known = self.recorded.get(name)
        limit = float("inf") if self.recording or known is None else known * DEARER_MAX
        for _ in range(TRIES):
            if ratio <= limit:
                break
            ratio = min(ratio, again())
        self.found[name] = ratio
        if ratio > limit:
            return (
                f"{name} takes {ratio:.4f} of its reference, more than {DEARER_MAX} times the"
                f" {known:.4f} that are recorded. Make it cheaper, or say why not: {ANEW}"
            )
        if known is None and not self.recording:
            return f"{name} has no recorded ratio: {ANEW}"
        return None

    def record(self) -> None:
        rows = {name: round(ratio, 5) for name, ratio in self.found.items()}
        RECORDED.write_text(json.dumps(self.recorded | rows, indent=2, sort_keys=True) + "\n")


def load(recording: bool) -> Gate:
    return Gate(json.loads(RECORDED.read_text()) if RECORDED.exists() else {}, recording)
