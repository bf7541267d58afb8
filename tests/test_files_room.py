"""Room for open files is made before anybody waits for it."""

import resource
import subprocess
import sys

ASK = """
import os, resource, sys
from pathlib import Path
from proxy.machine.files import make_room
most = min(2_000, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
make_room(int(sys.argv[1]))
status = Path("/proc/self/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("FDSize")))
print(len(os.listdir("/proc/self/fd")))
"""


def told(files: int) -> tuple[int, int]:
    """How many files the table of such a process takes, and how many are open."""
    command = [sys.executable, "-c", ASK, str(files)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    size, open_now = answer.stdout.split()
    return int(size), int(open_now)


def test_the_table_takes_them_all_and_none_stays_open() -> None:
    files = min(600, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    size, open_now = told(files)
    assert size >= files
    assert open_now < 10


def test_no_more_than_the_system_allows() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert told(1_000_000)[0] in range(min(soft, 2_000), 4_097)
