"""The page that tells of a chaos run: every rule and every fault has its line, and no other."""

from bench.chaos import checker, plan
from bench.chaos.checker import Verdict
from bench.chaos.page import CHECKS, FAULTS, page
from bench.chaos.report import Outcome, as_json
from bench.machine import Machine

MODES = {"delay", "drip", "half", "blackhole", "reset", "cut"}
MACHINE = Machine("a processor", 2, 23.5, "6.1", "3.11", "abc1234", 0.5)


def outcome(wrong: int = 0) -> Outcome:
    return Outcome(
        command="python -m bench.chaos --seed 3",
        plan=plan.plan(3, 60, 20, 3),
        machine=MACHINE,
        verdict=Verdict(
            not wrong,
            dict.fromkeys(checker.CHECKS, 0) | {"exact amounts": wrong},
            {"exact amounts": ["request r cost 1 ucr instead of 2"]} if wrong else {},
            {"billed": 1_000_000},
        ),
        done={"wipe": 150, "kill-worker": 900, "cable delay": 4, "cable": 4},
        skipped={"kill-worker": 3},
        died={},
        seen={"status 200": 990_000},
        storm_s=2_000,
        drain_s=1.5,
        restless="",
        notes=[],
    )


def test_every_rule_and_every_fault_is_explained() -> None:
    assert set(CHECKS) == set(checker.CHECKS)
    told = set(FAULTS) - {f"cable {mode}" for mode in MODES} - {"redis lost its last moments"}
    assert told == {*plan.KILLS, *plan.TROUBLES, "wipe"} - {"cable"}


def test_a_page_tells_what_was_done_and_what_came_of_it() -> None:
    text = page(as_json(outcome()))
    assert "1,000,000 billed requests, 1,050 kills, of which 150 lost all of Redis: 0" in text
    assert "| result | every rule holds |" in text
    assert "(500 a second" in text
    assert "python -m bench.chaos --seed 3" in text


def test_a_difference_is_told_in_the_first_line_and_by_its_request() -> None:
    text = page(as_json(outcome(wrong=2)))
    assert "2 differences in money" in text.splitlines()[2]
    assert "request r cost 1 ucr instead of 2" in text
    assert "| result | FAILED |" in text
