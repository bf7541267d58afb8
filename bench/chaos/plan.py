"""What a seed makes of a run: its settings, and every fault with its time. Pure."""

import random
from dataclasses import dataclass, field

SETS = 2  # of proxies, each with a home and a cable of its own
CABLES = (*(f"proxies{n}" for n in range(SETS)), "drains")

#: Kills other than wipes, by weight.
KILLS = {
    "kill-worker": 42,
    "kill-set": 9,
    "kill-supervisor": 4,
    "kill-drain": 23,
    "kill-redis": 11,
    "kill-postgres": 5,
    "kill-backend": 4,
    "kill-control": 2,
}
#: Faults beside the kills, by weight.
TROUBLES = {
    "stop-worker": 14,
    "stop-drain": 8,
    "stop-redis": 6,
    "stop-postgres": 5,
    "cable": 34,
    "script-flush": 10,
    "flush": 3,
    "topup": 18,
    "disk-full-redis": 2,
    "disk-full-journal": 2,
}
TROUBLES_PER_KILL = 0.8
STOP_MIN_S, STOP_MAX_S = 0.1, 20.0
QUIET_S = 1.0  # before the first fault


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is done to the stage, `at` seconds after the storm begins."""

    at: float
    kind: str
    which: int = 0  # of several of its kind, modulo their number
    seconds: float = 0.0  # how long it lasts, or how long the victim stays dead
    detail: str = ""
    amount: int = 0

    @property
    def is_kill(self) -> bool:
        return self.kind.startswith(("kill-", "wipe"))


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    appendfsync: str
    lease_ms: int
    renew_ms: int
    drains: int
    seconds: float
    faults: tuple[Fault, ...] = field(repr=False)

    def count(self, kind: str) -> int:
        return sum(fault.kind == kind for fault in self.faults)


def plan(seed: int, seconds: float, kills: int, wipes: int) -> Plan:
    """Kills and wipes spread over the run; other faults in the gaps and on top of them."""
    dice = random.Random(seed)
    fsync = dice.choice(("everysec", "everysec", "always"))
    lease_ms = dice.choice((3_000, 4_000, 6_000))
    drains = dice.choice((1, 2, 2, 3))
    kinds = ["wipe"] * wipes + _drawn(dice, KILLS, max(kills - wipes, 0))
    dice.shuffle(kinds)
    times = _times(dice, len(kinds), seconds)
    faults = [_fault(dice, kind, at) for kind, at in zip(kinds, times, strict=True)]
    others = _drawn(dice, TROUBLES, round(kills * TROUBLES_PER_KILL))
    faults += [_fault(dice, kind, dice.uniform(QUIET_S, seconds)) for kind in others]
    faults.sort(key=lambda fault: fault.at)
    return Plan(seed, fsync, lease_ms, lease_ms // 3, drains, seconds, tuple(faults))


def _drawn(dice: random.Random, weights: dict[str, int], count: int) -> list[str]:
    return dice.choices(list(weights), list(weights.values()), k=count)


def _times(dice: random.Random, count: int, seconds: float) -> list[float]:
    """Even on the whole, each shifted so that some fall together."""
    pace = max(seconds - QUIET_S, 0.0) / max(count, 1)
    return sorted(QUIET_S + (n + dice.random()) * pace for n in range(count))


def _fault(dice: random.Random, kind: str, at: float) -> Fault:
    which, detail, amount = dice.randrange(1_000_000), "", 0
    if kind.startswith("stop-"):
        seconds = _log_uniform(dice, STOP_MIN_S, STOP_MAX_S)
    elif kind in ("kill-redis", "wipe", "kill-postgres"):
        seconds = _pause(dice)
        # of the last writes, how much never reached the disk
        amount = dice.randrange(2000) if kind == "kill-redis" and dice.random() < 0.4 else 0
    elif kind == "cable":
        detail = dice.choice(("delay", "delay", "drip", "half", "blackhole", "reset", "cut"))
        seconds = _log_uniform(dice, 0.05, 4.0)
        amount = dice.choice((2, 20, 80, 150, 400))
    elif kind.startswith("disk-full"):
        seconds = _log_uniform(dice, 0.3, 3.0)
    elif kind == "topup":
        seconds, amount = 0.0, dice.randrange(1, 5_000_000_000)
    else:
        seconds = dice.uniform(0.0, 0.4)
    return Fault(round(at, 3), kind, which, round(seconds, 3), detail, amount)


def _pause(dice: random.Random) -> float:
    """Mostly back at once, as a supervisor would; now and then away for seconds."""
    return dice.uniform(0.0, 0.2) if dice.random() < 0.85 else _log_uniform(dice, 0.5, 8.0)


def _log_uniform(dice: random.Random, low: float, high: float) -> float:
    return float(low * (high / low) ** (dice.random() ** 1.5))
