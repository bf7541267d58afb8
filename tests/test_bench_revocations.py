"""The judge of the bench of revocations: it sees what was served too late, and what is nobody's."""

from bench.bills import Bill
from bench.revocations import CALLERS, Crowd, Seen, judge, moment_ms
from proxy.ids import request_id

RETURNED_MS = 1_900_000_000_000


def bill(id: str) -> Bill:
    return Bill(id, "mock/ok", 5, 5, 0, 0, 0, False, "finished", 200)


def id_at(ms: int) -> str:
    tail = request_id()[13:]
    return f"{ms:012x}"[:8] + "-" + f"{ms:012x}"[8:] + tail


def told(*ids: str, refused: int = CALLERS) -> Seen:
    crowd = Crowd(b"", 0, returned_ms=RETURNED_MS)
    seen = Seen(ids=dict.fromkeys(ids, crowd), refused_after=refused)
    seen.answers.update({"200": len(ids), "401": refused})
    seen.ids |= {request_id(): crowd for _ in range(refused)}
    return seen


def test_an_id_tells_its_moment() -> None:
    assert moment_ms(id_at(RETURNED_MS)) == RETURNED_MS


def test_what_began_before_the_return_is_well() -> None:
    ids = [id_at(RETURNED_MS - 5), id_at(RETURNED_MS)]
    assert judge([bill(id) for id in ids], told(*ids), 1) == []


def test_every_kind_of_mistake_is_seen() -> None:
    late, good = id_at(RETURNED_MS + 1), id_at(RETURNED_MS - 1)
    [problem] = judge([bill(late)], told(late), 1)
    assert "began after" in problem
    [problem] = judge([bill(good), bill(request_id())], told(good), 1)
    assert "nobody's" in problem
    [problem] = judge([], told(good), 1)
    assert "0 are in the file" in problem
    [problem] = judge([bill(good)], told(good, refused=CALLERS - 1), 1)
    assert "once more" in problem
    seen = told(good)
    seen.late = 1
    assert "although sent after" in judge([bill(good)], seen, 1)[0]
