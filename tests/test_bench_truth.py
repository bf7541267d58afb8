"""What the bench compares: each bill with its charge, and the CPU of a tree of processes."""

import subprocess
import sys
import uuid
from typing import Any

import pytest

from bench import machine
from bench.bills import Bill
from bench.truth import differences

PRICES = {"m": {"input": "0.15", "output": "0.6", "cache_read": "0.075"}}
RID = str(uuid.UUID(int=7))
BILL = Bill(RID, "mock/ok", 200, 80, 50, 0, 30, False, "finished", 200)
ROW: dict[str, Any] = {
    "id": RID,
    "model": "m",
    "tokens": {"input": 150, "cache_read": 50, "cache_write": 0, "output": 50, "reasoning": 30},
    "cost": "0.074250",  # (150 x 0.15 + 50 x 0.075 + 80 x 0.6) / 1000
}


def test_a_charge_that_is_the_bill_makes_no_difference() -> None:
    assert differences([BILL], [ROW], PRICES) == []


def test_a_cost_is_rounded_up_once() -> None:
    """150 x 0.15 / 1000 at a price of 0.0000001 more is 0.022500015, hence 0.022501."""
    bill = Bill(RID, "mock/ok", 150, 0, 0, 0, 0, False, "finished", 200)
    row = {**ROW, "tokens": {"input": 150}, "cost": "0.022501"}
    prices = {"m": {"input": "0.1500001", "output": "1"}}
    assert differences([bill], [row], prices) == []


@pytest.mark.parametrize(
    ("bills", "rows", "says"),
    [
        ([BILL], [], "billed and not charged"),
        ([], [ROW], "charged and not billed"),
        ([BILL, BILL], [ROW], "billed 2 times"),
        ([BILL], [ROW, ROW], "charged 2 times"),
        ([BILL], [{**ROW, "cost": "0.074251"}], "instead of 0.074250"),
        ([BILL], [{**ROW, "tokens": {"input": 200}}], "charged as {'input': 200}"),
    ],
)
def test_every_difference_is_named(
    bills: list[Bill], rows: list[dict[str, Any]], says: str
) -> None:
    assert any(says in problem for problem in differences(bills, rows, PRICES))


def test_cpu_is_counted_over_a_process_and_all_below_it() -> None:
    """Given a child whose child burns CPU, when the tree is read, then it is in its role."""
    burn = "import time\nwhile time.process_time() < 0.1: pass\nprint(flush=True); input()"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}, ' drain'])"
    with subprocess.Popen(
        [sys.executable, "-c", outer], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        used = machine.cpu_seconds(process.pid)
        process.communicate(b"\n")
    assert used["drain"] >= 0.09


def test_the_machine_is_described() -> None:
    described = machine.describe()
    assert described.cores >= 1
    assert described.commit
