"""A short storm over real processes: killed, wiped, cut and stopped while they charge. It demands
nothing of time, only that in the end every credit is where it belongs.
"""

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from bench.chaos import plan

ROOT = Path(__file__).resolve().parent.parent
SEED, SECONDS, KILLS, WIPES = 184, 25, 48, 8
KILLS_MIN = 40  # a fault that finds its victim dead already is not counted
LONGEST_S = 420  # a machine may be slow; a storm that hangs ends here


def test_the_short_storm_has_every_kind_of_kill() -> None:
    faults = {fault.kind for fault in plan.plan(SEED, SECONDS, KILLS, WIPES).faults}
    assert {*plan.KILLS, "wipe", "flush", "cable", "stop-redis", "disk-full-journal"} <= faults


@pytest.mark.skipif(sys.platform != "linux", reason="faults are made by Linux' means")
def test_no_credit_is_lost_in_a_storm(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    words = [f"--seed={SEED}", f"--seconds={SECONDS}", f"--kills={KILLS}", f"--wipes={WIPES}"]
    done = subprocess.run(
        [sys.executable, "-m", "bench.chaos", *words, "--connections=24", f"--report={report}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert report.exists(), done.stderr
    outcome = orjson.loads(report.read_bytes())
    assert outcome["ok"], done.stdout
    assert outcome["counts"]["billed"] > 0
    assert outcome["counts"]["moves"] > 0
    assert outcome["kills"] >= KILLS_MIN, outcome["faults_that_found_no_victim"]
    assert outcome["faults"]["wipe"] == WIPES
