"""A worker's counters in a file that its supervisor reads: summed over workers, never lost."""

import time
from pathlib import Path

import pytest

from proxy import metrics
from proxy.errors import OpsError, leaves
from proxy.metrics import Metrics, in_memory, open_slot, ready, render, slot_path


def value(text: bytes, name: str) -> float:
    """The sample of that name, labels and all."""
    found = [line for line in text.decode().splitlines() if line.rpartition(" ")[0] == name]
    assert len(found) == 1, f"{name}: {found}"
    return float(found[0].rpartition(" ")[2])


def scrape(*slots: Path) -> bytes:
    return render(slots)


def test_a_scrape_is_the_sum_of_all_workers(tmp_path: Path) -> None:
    """One worker out of several is a wrong number."""
    for slot in range(3):
        worker = open_slot(tmp_path, slot)
        worker.add(worker.charged, 10 * slot)
        worker.add(worker.requests + 1)
    text = scrape(*(slot_path(tmp_path, slot) for slot in range(3)))
    assert value(text, "opscenter_proxy_charged_ucr_total") == 30
    assert value(text, 'opscenter_proxy_requests_total{stream="yes"}') == 3
    assert value(text, "opscenter_proxy_workers") == 3


def test_what_was_counted_survives_the_worker(tmp_path: Path) -> None:
    """The next one of the slot counts on; what runs just now begins at nothing."""
    first = open_slot(tmp_path, 0)
    first.add(first.charged, 7)
    first.add(first.running, 5)
    first.add(first.connections, 5)
    first.beat(ready=True)
    second = open_slot(tmp_path, 0)
    second.add(second.charged, 1)
    text = scrape(slot_path(tmp_path, 0))
    assert value(text, "opscenter_proxy_charged_ucr_total") == 8
    assert value(text, "opscenter_proxy_running") == 0
    assert value(text, "opscenter_proxy_connections") == 0
    assert not ready(slot_path(tmp_path, 0))


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 8 * metrics.CELLS, b"x" * 100_000])
def test_a_file_of_another_layout_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    path = slot_path(tmp_path, 0)
    path.write_bytes(content)
    assert value(scrape(path), "opscenter_proxy_workers") == 0
    worker = open_slot(tmp_path, 0)
    worker.add(worker.charged, 3)
    assert value(scrape(path), "opscenter_proxy_charged_ucr_total") == 3


def test_only_its_owner_reads_the_file(tmp_path: Path) -> None:
    open_slot(tmp_path, 0)
    assert slot_path(tmp_path, 0).stat().st_mode & 0o777 == 0o600


def test_a_worker_is_ready_while_it_says_so_and_its_heart_beats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, path = open_slot(tmp_path, 0), slot_path(tmp_path, 0)
    assert not ready(path)
    worker.beat(ready=True)
    assert ready(path)
    worker.beat(ready=False)
    assert not ready(path)
    worker.beat(ready=True)
    now = time.time_ns()
    for seconds, expected in [(4, True), (6, False), (-4, True), (-3600, False)]:
        monkeypatch.setattr(time, "time_ns", lambda s=seconds: now + s * 10**9)
        assert ready(path) is expected, f"{seconds} seconds after the beat"


def test_a_worker_of_the_next_version_is_judged_by_the_cells_that_never_move(
    tmp_path: Path,
) -> None:
    """A rolling restart to a version that counts more is watched by the supervisor of the old."""
    worker, path = open_slot(tmp_path, 0), slot_path(tmp_path, 0)
    worker.beat(ready=True)
    other = bytearray(path.read_bytes())
    other[:8] = b"another!"
    path.write_bytes(other + bytes(80))
    assert ready(path)
    assert value(scrape(path), "opscenter_proxy_workers") == 0


@pytest.mark.parametrize("content", [None, b"", b"x" * 20])
def test_a_file_that_is_missing_or_cut_is_not_ready(tmp_path: Path, content: bytes | None) -> None:
    path = slot_path(tmp_path, 0)
    if content is not None:
        path.write_bytes(content)
    assert not ready(path)


@pytest.mark.parametrize(
    ("microseconds", "bound"),
    [(0, "0.00025"), (250, "0.00025"), (251, "0.0005"), (1_000_000, "1"), (1_000_001, "+Inf")],
)
def test_a_value_on_a_bound_belongs_to_it(tmp_path: Path, microseconds: int, bound: str) -> None:
    """Prometheus' buckets are `less or equal`, each with all below it."""
    worker = open_slot(tmp_path, 0)
    worker.overhead(microseconds)
    text = scrape(slot_path(tmp_path, 0))
    name = "opscenter_proxy_overhead_seconds"
    bounds = [*(f"{us / 1e6:g}" for us in metrics.BUCKETS_US), "+Inf"]
    for nth, each in enumerate(bounds):
        expected = 1 if nth >= bounds.index(bound) else 0
        assert value(text, f'{name}_bucket{{le="{each}"}}') == expected
    assert value(text, f"{name}_count") == 1
    assert value(text, f"{name}_sum") == pytest.approx(microseconds / 1e6)


def test_every_error_a_client_can_read_has_a_counter(tmp_path: Path) -> None:
    worker = open_slot(tmp_path, 0)
    for leaf in leaves():
        worker.error(leaf.code)
    text = scrape(slot_path(tmp_path, 0))
    for leaf in leaves():
        assert value(text, f'opscenter_proxy_errors_total{{code="{leaf.code}"}}') >= 1


def test_an_error_nobody_knows_is_counted_as_one_of_ours(tmp_path: Path) -> None:
    """Counting must not be what costs a client its answer."""
    worker = open_slot(tmp_path, 0)
    worker.error("made up")
    name = f'opscenter_proxy_errors_total{{code="{OpsError.code}"}}'
    assert value(scrape(slot_path(tmp_path, 0)), name) == 1


def test_the_text_is_what_prometheus_reads(tmp_path: Path) -> None:
    """Each family once, with its help and its type before its samples; labels are never a key."""
    open_slot(tmp_path, 0)
    lines = scrape(slot_path(tmp_path, 0)).decode().splitlines()
    helps = [line.split()[2] for line in lines if line.startswith("# HELP")]
    types = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert helps == types
    assert len(set(helps)) == len(helps) == len(metrics.FAMILIES) + 1
    samples = [line.rpartition(" ")[0] for line in lines if not line.startswith("#")]
    assert len(set(samples)) == len(samples)


def test_counters_of_tools_and_tests_need_no_file() -> None:
    counted: Metrics = in_memory()
    counted.add(counted.tokens + 1, 5)
    counted.first_byte(10**7 + 1)
    assert counted.cells[counted.tokens + 1] == 5
