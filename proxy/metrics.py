"""Counters of a worker in a file that its supervisor can read: a scrape sums all workers.

Each worker maps one small file of integers and adds to its cells; nothing is sent, and what a
worker counted survives its death. "Overhead" is the time inside us less the time in which an
upstream was working.
"""

import mmap
import os
import time
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from proxy.errors import OpsError, leaves

HEARTBEAT_MS = 1_000
HEARTBEAT_STALE_MS = 5_000
BUCKETS_US = (250, 500, 1_000, 2_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000)
FIRST_BYTE_US = (5_000, 10_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000)


@dataclass(frozen=True, slots=True)
class Family:
    name: str
    kind: str  # counter, gauge, histogram
    help: str
    labels: tuple[str, ...] = ("",)  # rendered label sets, or the bounds of a histogram
    scale: int = 1  # cells hold value * scale


def _codes() -> tuple[str, ...]:
    return tuple(dict.fromkeys(f'code="{leaf.code}"' for leaf in leaves()))


def _bounds(microseconds: tuple[int, ...]) -> tuple[str, ...]:
    return (*(f"{us / 1_000_000:g}" for us in microseconds), "+Inf", "sum")


FAMILIES = (
    Family(
        "requests_total",
        "counter",
        "Requests that reached the flow.",
        ('stream="no"', 'stream="yes"'),
    ),
    Family("errors_total", "counter", "Requests that ended in an error, by its code.", _codes()),
    Family("running", "gauge", "Requests that run just now."),
    Family("connections", "gauge", "Connections of clients just now."),
    Family("tokens_total", "counter", "Tokens, by side.", ('side="input"', 'side="output"')),
    Family("charged_ucr_total", "counter", "Micro-credits charged."),
    Family("unpriced_total", "counter", "Classes of usage that a price had no rate for."),
    Family(
        "settled_total",
        "counter",
        "Requests settled, by what Redis answered.",
        ('result="ok"', 'result="late"', 'result="again"', 'result="failed"'),
    ),
    Family("redis_failures_total", "counter", "Calls to Redis that failed or came too late."),
    Family("stale_records_total", "counter", "Requests that found a newer record in Redis."),
    Family("upstream_attempts_total", "counter", "Calls to providers."),
    Family("upstream_connects_total", "counter", "New connections to providers."),
    Family("upstream_connections", "gauge", "Connections to providers, open or being opened."),
    Family("upstream_in_use", "gauge", "Those of them that serve a request just now."),
    Family("upstream_waiting", "gauge", "Requests that wait for such a connection just now."),
    Family(
        "overhead_seconds",
        "histogram",
        "Time inside us, the provider's taken off.",
        _bounds(BUCKETS_US),
        1_000_000,
    ),
    Family(
        "first_byte_seconds",
        "histogram",
        "Wait for the provider's first byte.",
        _bounds(FIRST_BYTE_US),
        1_000_000,
    ),
)
PREFIX = "opscenter_proxy_"

# cell 0: layout, 1: heartbeat in ms, 2: ready; then the families in order
LAYOUT, HEARTBEAT, READY, FIRST = 0, 1, 2, 3
_offsets: dict[str, int] = {}
_end = FIRST
for _family in FAMILIES:
    _offsets[_family.name] = _end
    _end += len(_family.labels)
CELLS = _end
_layout = int.from_bytes(blake2b(repr(FAMILIES).encode(), digest_size=7).digest())
_error_cells = {label[6:-1]: _offsets["errors_total"] + i for i, label in enumerate(_codes())}


class Metrics:
    """One worker's cells. Adding is an item assignment; there is nothing to flush."""

    def __init__(self, cells: "memoryview[int]") -> None:
        self.cells = cells
        self.requests = _offsets["requests_total"]
        self.running = _offsets["running"]
        self.connections = _offsets["connections"]
        self.tokens = _offsets["tokens_total"]
        self.charged = _offsets["charged_ucr_total"]
        self.unpriced = _offsets["unpriced_total"]
        self.settled = _offsets["settled_total"]
        self.redis_failures = _offsets["redis_failures_total"]
        self.stale = _offsets["stale_records_total"]
        self.attempts = _offsets["upstream_attempts_total"]
        self.connects = _offsets["upstream_connects_total"]
        self.upstream_open = _offsets["upstream_connections"]
        self.upstream_in_use = _offsets["upstream_in_use"]
        self.upstream_waiting = _offsets["upstream_waiting"]
        self._overhead = _offsets["overhead_seconds"]
        self._first_byte = _offsets["first_byte_seconds"]

    def add(self, cell: int, amount: int = 1) -> None:
        self.cells[cell] += amount

    def error(self, code: str) -> None:
        # an error that no family knows must not cost the client its answer
        self.cells[_error_cells.get(code, _error_cells[OpsError.code])] += 1

    def overhead(self, microseconds: int) -> None:
        self._observe(self._overhead, BUCKETS_US, microseconds)

    def first_byte(self, microseconds: int) -> None:
        self._observe(self._first_byte, FIRST_BYTE_US, microseconds)

    def beat(self, ready: bool) -> None:
        self.cells[HEARTBEAT] = _now_ms()
        self.cells[READY] = int(ready)

    def _observe(self, start: int, bounds: tuple[int, ...], value: int) -> None:
        self.cells[start + bisect_left(bounds, value)] += 1
        self.cells[start + len(bounds) + 1] += value


def slot_path(run_dir: Path, slot: int) -> Path:
    return run_dir / f"metrics-{slot}.bin"


def open_slot(run_dir: Path, slot: int) -> Metrics:
    """The cells of a slot; counts go on where the slot's last worker ended."""
    size = CELLS * 8
    handle = os.open(slot_path(run_dir, slot), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(handle).st_size != size:
            os.ftruncate(handle, 0)
            os.ftruncate(handle, size)
        cells = memoryview(mmap.mmap(handle, size)).cast("q")
    finally:
        os.close(handle)
    if cells[LAYOUT] != _layout:
        for cell in range(CELLS):
            cells[cell] = 0
        cells[LAYOUT] = _layout
    metrics = Metrics(cells)
    cells[HEARTBEAT] = cells[READY] = 0
    for family in FAMILIES:  # what was just now with the last worker ended with it
        if family.kind == "gauge":
            for nth in range(len(family.labels)):
                cells[_offsets[family.name] + nth] = 0
    return metrics


def in_memory() -> Metrics:
    """Cells that nobody else sees, for tests and tools."""
    return Metrics(memoryview(bytearray(CELLS * 8)).cast("q"))


def ready(path: Path) -> bool:
    """Whether the worker of this file said lately that it can serve."""
    try:
        with path.open("rb") as file:
            head = file.read(FIRST * 8)
    except OSError:
        return False
    # whatever the layout behind: a worker of the next version is judged by these cells alone
    cells = memoryview(head).cast("q") if len(head) == FIRST * 8 else None
    if cells is None or not cells[READY]:
        return False
    # a beat from the future is as stale as one long past: the clock was set back
    return abs(_now_ms() - cells[HEARTBEAT]) < HEARTBEAT_STALE_MS


def render(paths: Iterable[Path]) -> bytes:
    """The sum of all files in Prometheus' text form."""
    total = [0] * CELLS
    workers = 0
    for path in paths:
        cells = _read(path)
        if cells and cells[LAYOUT] == _layout:
            workers += 1
            for cell in range(FIRST, CELLS):
                total[cell] += cells[cell]
    lines = [
        f"# HELP {PREFIX}workers Workers counted here.",
        f"# TYPE {PREFIX}workers gauge",
        f"{PREFIX}workers {workers}",
    ]
    for family in FAMILIES:
        lines += _family_lines(family, total[_offsets[family.name] :])
    return ("\n".join(lines) + "\n").encode()


def _family_lines(family: Family, cells: list[int]) -> list[str]:
    name = PREFIX + family.name
    lines = [f"# HELP {name} {family.help}", f"# TYPE {name} {family.kind}"]
    if family.kind != "histogram":
        for label, value in zip(family.labels, cells, strict=False):
            lines.append(f"{name}{{{label}}} {value}" if label else f"{name} {value}")
        return lines
    count = 0
    for bound, value in zip(family.labels[:-1], cells, strict=False):
        count += value
        lines.append(f'{name}_bucket{{le="{bound}"}} {count}')
    total = cells[len(family.labels) - 1]
    return [*lines, f"{name}_sum {total / family.scale:.6f}", f"{name}_count {count}"]


def _read(path: Path) -> "memoryview[int] | None":
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return memoryview(data).cast("q") if len(data) == CELLS * 8 else None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
