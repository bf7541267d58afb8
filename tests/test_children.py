"""Children: started by a program of their own, and never longer alive than their parent."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from proxy.machine import children, launch

SECONDS = 20.0
PARENT = """
import sys
from proxy.machine import children
child = children.spawn(["sleep", "60"])
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_a_program_begins_with_the_signals_of_a_fresh_one(home: Path) -> None:
    """Python ignores a broken pipe, and what it executes would inherit that."""
    log = home / "child.log"
    shown = "grep SigIgn /proc/self/status"
    child = children.spawn(["sh", "-c", shown], log=log)
    assert child.wait(SECONDS) == 0
    ignored = int(children.tail(log).split()[1], 16)
    assert not ignored & (1 << (signal.SIGPIPE - 1))


def test_a_program_that_is_not_there_is_told_in_the_log(home: Path) -> None:
    child = children.spawn(["/no/such/program"], log=home / "child.log")
    assert child.wait(SECONDS) == launch.FAILED
    assert "/no/such/program cannot be started: " in children.tail(home / "child.log")


def test_a_child_does_not_outlive_a_killed_parent() -> None:
    environment = children.with_our_code(os.environ)
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, 0)
        parent.kill()
        assert children.until(lambda: _is_gone(child), SECONDS)


def _is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"
