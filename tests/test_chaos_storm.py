"""Faults as a storm carries them out: each of them ends, whatever else happens meanwhile."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from bench.chaos.parts import Part
from bench.chaos.plan import Fault
from bench.chaos.storm import Storm

SLEEPER = (sys.executable, "-c", "import signal, os; os.write(1, b'.'); signal.pause()")


class Forsaken(Part):
    """A process whose supervisor dies again and again, and which outlives that."""

    def __init__(self, pid: int) -> None:
        super().__init__("forsaken", Path("unused"))
        self._pid = pid

    @property
    def runs(self) -> bool:
        return True

    @property
    def life(self) -> object:
        return object()

    def pids(self) -> list[int]:
        return [self._pid]

    def state(self) -> str:
        return Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def forsaken() -> Iterator[Forsaken]:
    with subprocess.Popen(SLEEPER, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.read(1)
        yield Forsaken(child.pid)
        child.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="its state is read from /proc")
async def test_what_loses_its_supervisor_while_it_stands_still_goes_on(forsaken: Forsaken) -> None:
    """Otherwise it would keep the door's port, and no new supervisor could start."""
    forsaken.send(signal.SIGSTOP)
    fault = Fault(at=0, kind="stop-worker", seconds=5)
    assert await Storm._stop(cast(Storm, None), forsaken, fault)
    assert forsaken.state() != "T"
