"""The page of failures: every row of the table is there, and every test that it names."""

import re

from bench.chaos import plan
from tests.house import ROOT

PAGE = (ROOT / "docs" / "failures.md").read_text()
FAILURES = 39


def test_every_failure_has_its_row() -> None:
    listed = {int(number) for number in re.findall(r"^\| F(\d+) \|", PAGE, re.MULTILINE)}
    assert listed == set(range(1, FAILURES + 1))


def test_every_test_on_the_page_exists() -> None:
    files = (ROOT / "tests").glob("test_*.py")
    there = {name for file in files for name in re.findall(r"def (test_\w+)", file.read_text())}
    assert set(re.findall(r"`(test_\w+)`", PAGE)) <= there


def test_every_fault_of_chaos_on_the_page_exists() -> None:
    named = {name for run in re.findall(r"[Cc]haos ((?:`[a-z-]+`(?:, )?)+)", PAGE) for name in
             re.findall(r"`([a-z-]+)`", run)}  # fmt: skip
    assert named <= {*plan.KILLS, *plan.TROUBLES, "wipe"}
