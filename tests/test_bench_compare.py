"""The comparison: what its figures are made of, that its page is current, and the micro gate."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.compare import figures, page
from bench.compare.figures import ratio, ratio_of_times
from bench.micro.gate import DEARER_MAX, RECORDED, Gate


def row(gateway: str, number: int, beside: str = "", **figures: Any) -> dict[str, Any]:
    defaults = dict.fromkeys(
        ("p50", "p99", "first_p50", "first_p99", "late_p50", "late_p99", "per_second"), 0.0
    )
    named = {"scene": "plain", "gateway": gateway, "round": number, "beside": beside}
    return {**defaults, "gateway_core": 0.5, "other_cores": 1.0, "cpu_us": {}, **named, **figures}


REPORT: dict[str, Any] = {
    "machine": {
        "cpu": "a core",
        "cores": 2,
        "memory_gib": 1.0,
        "kernel": "6",
        "python": "3.11",
        "commit": "abc",
        "load_before": 0.1,
    },
    "rounds": 3,
    "gateways": {"opscenter": {"about": "all on", "start_s": 1.0}},
    "first_start_s": 2.0,
    "money": {"billed": 3, "charged": 3, "problems": []},
    "errors": 0,
    "samples": [
        *(row("opscenter", n, cpu_us={"gateway": 30.0 + n, "redis": 9.0}) for n in range(3)),
        *(row("nginx", n, cpu_us={"gateway": 10.0 + n}) for n in range(3)),
        *(row("litellm", n, cpu_us={"gateway": 3100.0}) for n in range(3)),
    ],
}


# The page -----------------------------------------------------------------------------


def test_the_tables_of_the_page_are_those_of_its_results() -> None:
    assert page.problem() is None


def test_a_page_that_shows_other_figures_is_told(tmp_path: Path) -> None:
    readme, results = tmp_path / "README.md", tmp_path / "results"
    results.mkdir()
    (results / "compare-abc.json").write_text(json.dumps(REPORT))
    shown = page.tables(REPORT)
    begin = page.BEGIN.format("compare-abc.json")
    readme.write_text(f"{begin}\n{shown}{page.END}\n")
    assert page.problem(readme, results) is None
    readme.write_text(f"{begin}\n{shown.replace('31', '30')}{page.END}\n")
    assert "does not show" in (page.problem(readme, results) or "")
    readme.write_text(f"{page.BEGIN.format('')}\n{page.END}\n")
    assert page.problem(readme, results) is not None


def test_ratios_come_first() -> None:
    first = page.tables(REPORT).splitlines()[2]
    assert first == "| CPU per request, µs | 2.82x | 1/100 | 31 | 11 | 3100 | ≤ 6x, ≤ 1/60 |"


# Figures ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "shown"),
    [
        (25.0, 10.0, "2.50x"),
        (250.0, 10.0, "25x"),
        (9.0, 10.0, "0.90x"),
        (2.0, 10.0, "1/5.0"),
        (1.0, 150.0, "1/150"),
        (None, 10.0, "–"),
        (1.0, None, "–"),
        (1.0, 0.0, "–"),
        (-1.0, 2.0, "–"),
    ],
)
def test_a_ratio_is_read_at_a_glance(ours: float | None, theirs: float | None, shown: str) -> None:
    assert ratio(ours, theirs) == shown


def test_no_ratio_is_made_of_noise() -> None:
    assert ratio_of_times(0.01, 0.5) == "–"
    assert ratio_of_times(0.1, 0.5) == "1/5.0"


def test_what_is_added_is_the_difference_in_the_same_round() -> None:
    """A machine that slows down between two rounds adds nothing to a gateway's figure."""
    rows = [
        row("provider", 0, p50=1.0),
        row("nginx", 0, p50=1.5),
        row("provider", 1, p50=4.0),
        row("nginx", 1, p50=4.5),
    ]
    assert figures.added(rows, "plain", "nginx", "p50") == 0.5


def test_what_is_added_is_the_difference_at_the_same_rate() -> None:
    """At a share of its own peak each gateway has a provider's figure of its own beside it."""
    rows = [
        row("provider", 0, beside="litellm", p50=9.0),
        row("provider", 0, beside="nginx", p50=1.0),
        row("nginx", 0, p50=3.0),
    ]
    assert figures.added(rows, "plain", "nginx", "p50") == 2.0
    assert figures.added(rows, "plain", "opscenter", "p50") is None


# The gate -----------------------------------------------------------------------------


def never() -> float:
    raise AssertionError("measured anew without need")


def test_a_piece_within_its_bounds_is_measured_once() -> None:
    gate = Gate({"piece": 1.0}, recording=False)
    assert gate.judge("piece", DEARER_MAX, never) is None


def test_p22_ratios_are_wide_enough_for_a_busy_machine() -> None:
    slow = iter([3.0, 1.1])
    gate = Gate({"piece": 1.0}, recording=False)
    assert gate.judge("piece", 2.0, lambda: next(slow)) is None
    assert gate.found == {"piece": 1.1}


def test_p22_a_piece_that_stays_too_dear_is_refused() -> None:
    said = Gate({"piece": 1.0}, recording=False).judge("piece", 2.0, lambda: 1.9)
    assert said is not None
    assert "1.9000" in said


def test_a_piece_without_a_record_is_told_and_recorded_when_asked() -> None:
    assert Gate({}, recording=False).judge("piece", 2.0, never) is not None
    assert Gate({}, recording=True).judge("piece", 2.0, never) is None


def test_every_piece_is_recorded() -> None:
    """Also one whose test has gone is not kept."""
    tests = RECORDED.parent.glob("test_*.py")
    defined = {
        line.removeprefix("def ").partition("(")[0]
        for path in tests
        for line in path.read_text().splitlines()
        if line.startswith("def test_")
    }
    recorded = {name.partition("[")[0] for name in json.loads(RECORDED.read_text())}
    assert recorded == defined
