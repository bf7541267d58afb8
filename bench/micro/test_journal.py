"""The lines of the journal, written to a real file as a request goes its way."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from bench.micro.conftest import Measure
from proxy.machine.journal import Admitted, Journal, Used

RID = "01234567-89ab-cdef-0123-456789abcdef"
SAID = orjson.dumps({"o": RID, "k": "kkkkkkkkkk", "u": RID, "m": "openai/m", "v": 7, "e": None})
ADMITTED = Admitted(7, "{s07}:k:kkkkkkkkkk {s07}:o:" + RID, "{s07}:o:x:pool", "", 300_000, SAID)
SETTLED = Used("settled", 1234, 300_000, SAID)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path)
    yield journal
    journal.confirmed(list(journal.entries))
    journal.close()


def test_journal_remembers_and_forgets(measure: Measure, journal: Journal) -> None:
    """Two lines are written; the file starts anew when all is confirmed."""

    def one() -> None:
        journal.admitted(RID, ADMITTED)
        journal.used(RID, SETTLED)
        journal.confirmed([RID])

    measure(one)
