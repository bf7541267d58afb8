"""The journal: what a worker leaves when it dies, who takes it over, and what a full disk does."""

import fcntl
import os
from pathlib import Path

import pytest

from proxy.machine import journal
from proxy.machine.journal import Admitted, Journal, JournalError, Used

ADMITTED = Admitted(7, "k o", "o:pool", "", 9, b'{"k":"x"}')
USED = Used("settled", 5, 9, b"{}")


def die(left: Journal) -> None:
    """As kill -9 leaves it: the system closes all descriptors, and their locks end with them."""
    for fd in {left._fd, *(legacy.fd for legacy in left._inherited.values())}:
        os.close(fd)


def adopted(heir: Journal) -> int:
    """All that the dead have left; how many requests."""
    before = heir.inherits
    while heir.adopt():
        pass
    return heir.inherits - before


def test_what_a_dead_worker_had_done_is_read_again(tmp_path: Path) -> None:
    dead = Journal(tmp_path)
    dead.admitted("begun", ADMITTED)
    dead.checkpoint("begun", 3)
    dead.admitted("ended", ADMITTED)
    dead.used("ended", USED)
    die(dead)
    heir = Journal(tmp_path)
    assert adopted(heir) == 2
    assert heir.entries["begun"].checkpoint == 3
    assert heir.entries["begun"].used is None
    assert heir.entries["ended"].used == USED
    assert heir.entries["ended"].admitted == ADMITTED


def test_a_living_worker_is_not_inherited(tmp_path: Path) -> None:
    living, other = Journal(tmp_path), Journal(tmp_path)
    living.admitted("r", ADMITTED)
    assert adopted(other) == 0
    die(living)
    assert adopted(other) == 1


def test_a_living_worker_that_writes_anew_is_not_inherited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even by one who opened its old file just before: he would take away its new one."""
    living, other = Journal(tmp_path), Journal(tmp_path)
    living.admitted("r", ADMITTED)
    flock = fcntl.flock

    def late(fd: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        living._rewrite()
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", late)
    assert other.adopt() is None
    assert [rid for rid, _ in journal.read(living._path)] == ["r"]


def test_a_worker_that_begins_is_not_inherited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file has its name only when it is locked; without a name, all in it would be lost."""
    heir = Journal(tmp_path)
    flock = fcntl.flock

    def late(fd: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        assert heir.adopt() is None
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", late)
    beginner = Journal(tmp_path)
    beginner.admitted("r", ADMITTED)
    assert [rid for rid, _ in journal.read(beginner._path)] == ["r"]


def test_only_one_of_two_heirs_inherits(tmp_path: Path) -> None:
    dead = Journal(tmp_path)
    dead.admitted("r", ADMITTED)
    die(dead)
    first, second = Journal(tmp_path), Journal(tmp_path)
    assert adopted(first) + adopted(second) == 1


def test_an_heir_that_dies_leaves_what_it_had_inherited(tmp_path: Path) -> None:
    dead = Journal(tmp_path)
    dead.admitted("r", ADMITTED)
    dead.used("r", USED)
    die(dead)
    heir = Journal(tmp_path)
    adopted(heir)
    die(heir)
    last = Journal(tmp_path)
    assert adopted(last) == 1
    assert last.entries["r"].used == USED


def test_what_the_ledger_has_is_forgotten(tmp_path: Path) -> None:
    mine = Journal(tmp_path)
    for rid in ("a", "b"):
        mine.admitted(rid, ADMITTED)
    mine.confirmed(["a"])
    assert set(mine.entries) == {"b"}
    mine.confirmed(["b", "unknown"])
    assert mine._path.stat().st_size == 0
    mine.close()
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_was_cut_short_hides_no_other(tmp_path: Path) -> None:
    dead = Journal(tmp_path)
    dead.admitted("whole", ADMITTED)
    dead.used("whole", USED)
    dead.admitted("cut", ADMITTED)
    os.ftruncate(dead._fd, dead._path.stat().st_size - 7)
    die(dead)
    assert {rid: entry.used for rid, entry in journal.read(dead._path)} == {"whole": USED}


def test_a_long_journal_is_written_anew_with_what_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SLACK_BYTES", 2_000)
    mine = Journal(tmp_path)
    for nth in range(50):
        mine.admitted(f"r{nth}", ADMITTED)
        mine.used(f"r{nth}", USED)
    mine.confirmed([f"r{nth}" for nth in range(49)])
    assert mine._path.stat().st_size < 2_000
    mine.checkpoint("r49", 8)
    assert [(rid, e.checkpoint) for rid, e in journal.read(mine._path)] == [("r49", 8)]
    assert adopted(Journal(tmp_path)) == 0  # the new file is locked as the old one was
    die(mine)
    assert adopted(Journal(tmp_path)) == 1


def test_an_heir_settles_again_only_little_of_what_the_ledger_has(tmp_path: Path) -> None:
    """Also of a worker that was never without a request, whose file was thus never emptied."""
    dead = Journal(tmp_path)
    dead.admitted("r0", ADMITTED)
    for nth in range(1, 30_000):
        dead.admitted(f"r{nth}", ADMITTED)
        dead.used(f"r{nth - 1}", USED)
        dead.confirmed([f"r{nth - 1}"])
    die(dead)
    assert 0 < adopted(Journal(tmp_path)) < 10_000


def test_taking_over_needs_no_room_and_gives_room_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dead workers may have filled the disk: their heir must be what frees it."""
    dead = Journal(tmp_path)
    for rid in ("ended", "begun"):
        dead.admitted(rid, ADMITTED)
    dead.used("ended", USED)
    die(dead)
    heir = Journal(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(os, "write", _no_room)
        assert adopted(heir) == 2
        heir.used("begun", USED)  # settled as an orphan: its file has all that the next heir needs
        heir.confirmed(["ended"])
        assert dead._path.exists()
        assert adopted(Journal(tmp_path)) == 0  # it is locked as when its worker lived
        heir.confirmed(["begun"])
    assert not dead._path.exists()
    heir.admitted("after", ADMITTED)
    assert [rid for rid, _ in journal.read(heir._path)] == ["after"]


def test_what_was_inherited_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither when the own file is written anew nor at the end, when the next heir finds it."""
    monkeypatch.setattr(journal, "SLACK_BYTES", 500)
    dead = Journal(tmp_path)
    dead.admitted("old", ADMITTED)
    die(dead)
    heir = Journal(tmp_path)
    adopted(heir)
    for nth in range(20):
        heir.admitted(f"r{nth}", ADMITTED)
    heir.confirmed([f"r{nth}" for nth in range(19)])
    assert [rid for rid, _ in journal.read(heir._path)] == ["r19"]
    heir.confirmed(["r19"])
    heir.close()
    assert [path.name for path in tmp_path.iterdir()] == [dead._path.name]
    assert adopted(Journal(tmp_path)) == 1


def _no_room(*_: object) -> int:
    raise OSError(28, "No space left on device")


def test_a_full_disk_admits_nothing_and_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a line is taken back; what had been written stays readable."""
    mine = Journal(tmp_path)
    mine.admitted("before", ADMITTED)
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:5]))
    with pytest.raises(JournalError, match="full"):
        mine.admitted("during", ADMITTED)
    assert mine.broken
    monkeypatch.setattr(os, "write", write)
    mine.try_again()
    assert not mine.broken
    mine.admitted("after", ADMITTED)
    assert [rid for rid, _ in journal.read(mine._path)] == ["before", "after"]


def test_a_settlement_is_remembered_even_when_it_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Journal(tmp_path)
    mine.admitted("r", ADMITTED)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(JournalError, match="No space"):
        mine.used("r", USED)
    assert mine.entries["r"].used == USED


def test_the_number_of_requests_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "ENTRIES_MAX", 2)
    mine = Journal(tmp_path)
    mine.admitted("a", ADMITTED)
    mine.admitted("b", ADMITTED)
    with pytest.raises(JournalError):
        mine.admitted("c", ADMITTED)
    mine.confirmed(["a"])
    mine.admitted("c", ADMITTED)


def test_what_an_earlier_version_wrote_is_read(tmp_path: Path) -> None:
    """It wrote owners as a list, and what the ledger is told of an end as a text."""
    (tmp_path / "earlier.journal").write_bytes(
        b'{"t":"A","r":"x","s":7,"o":["k","o"],"p":"o:pool","b":"","h":9,"e":{"k":"x"}}\n'
        b'{"t":"U","r":"x","k":"settled","c":5,"h":9,"e":"{}"}\n'
    )
    heir = Journal(tmp_path)
    assert heir.adopt()
    assert heir.entries["x"].admitted == ADMITTED
    assert heir.entries["x"].used == USED


@pytest.mark.parametrize(
    "line", [b"{}", b"[]", b"5", b"null", b'{"t":"A","r":"y"}', b'{"t":"U","r":"x","k":1}', b"\0\0"]
)
def test_a_line_that_is_none_keeps_no_other_from_being_read(tmp_path: Path, line: bytes) -> None:
    dead = Journal(tmp_path)
    dead.admitted("x", ADMITTED)
    os.write(dead._fd, line + b"\n")
    dead.used("x", USED)
    die(dead)
    heir = Journal(tmp_path)
    assert heir.adopt()
    assert heir.entries["x"].used == USED
