"""Which core runs what, and how busy each is: gateways get one for themselves, the rest goes to
the others. With a single core nothing is pinned.
"""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass

from bench.machine import PROC


@dataclass(frozen=True, slots=True)
class Layout:
    """The core of the gateway under test, and those of everything else."""

    gateway: frozenset[int]
    others: frozenset[int]


def layout() -> Layout:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return Layout(frozenset(cores), frozenset(cores))
    return Layout(frozenset(cores[:1]), frozenset(cores[1:]))


def pin(pids: Iterable[int], cores: frozenset[int]) -> None:
    """All threads of these processes; what they start later inherits it."""
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for thread in (PROC / str(pid) / "task").iterdir():
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread.name), cores)


@dataclass(frozen=True, slots=True)
class Clock:
    """Ticks of each core since the machine started: busy, and all."""

    busy: dict[int, int]
    total: dict[int, int]


def clock() -> Clock:
    busy, total = {}, {}
    for line in (PROC / "stat").read_text().splitlines():
        name, *numbers = line.split()
        if name.startswith("cpu") and name != "cpu":
            ticks = [int(number) for number in numbers[:8]]  # guests are within user
            total[int(name[3:])] = sum(ticks)
            busy[int(name[3:])] = sum(ticks) - ticks[3] - ticks[4]  # idle and iowait
    return Clock(busy, total)


def busy_share(before: Clock, after: Clock, cores: frozenset[int]) -> float:
    """Of the time of these cores, 0 to 1."""
    total = sum(after.total[core] - before.total[core] for core in cores)
    return sum(after.busy[core] - before.busy[core] for core in cores) / max(total, 1)
