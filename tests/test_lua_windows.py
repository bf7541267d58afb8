"""Windows, rates and ways of payment in the scripts, by a clock that the test sets."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.redis.scripts import SHARD_KEYS
from tests.simulation.lua import Scripts, product_texts
from tests.simulation.memory import Memory

AT = SHARD_KEYS[7]
KEY, ORG, MADE = AT.key("kkkkkkkkkk"), AT.organisation("o"), AT.prefix + b"w:made:o"
CORE = (AT.meta, AT.hold, AT.lease)
OUT = (AT.meta, AT.hold, AT.prefix + b"out", KEY)
PART_MS, PARTS = 1000, 60
ROLLING = f"~{PART_MS}"
DAY_MS = 86_400_000
START_MS = 20_000 * DAY_MS
SCRIPTS = Scripts(product_texts())
POOL = (6, "pool", "pool", 0, "", "", 1)


class Clocked:
    """One shard whose server's clock is `now`."""

    def __init__(self) -> None:
        self.now = START_MS
        self.memory = Memory(lambda: self.now)
        self.count = 0
        self.put(AT.meta, gen="1", adjseq="0")
        self.put(KEY, ver="1", st="active", digest="00", body="{}", exp="0")
        self.put(ORG, ver="1", st="active", body="{}", **{"pool.b": "1000000"})

    def put(self, name: bytes, **fields: str) -> None:
        words = [word.encode() for pair in fields.items() for word in pair]
        self.memory.call(b"HSET", name, *words)

    def get(self, name: bytes, field: str) -> int:
        return int(self.memory.hash(name).get(field.encode(), b"0"))

    def run(self, name: str, keys: Any, *args: Any) -> Any:
        return SCRIPTS.run(self.memory, name, keys, [str(arg).encode() for arg in args])

    def admit(
        self, *meters: Any, rid: str = "", owners: tuple[bytes, ...] = (), lives: Any = ()
    ) -> Any:
        self.count += 1
        words = [word for meter in meters for word in meter]
        keys = (*CORE, AT.usage, KEY, ORG, *owners, *((MADE,) if lives else ()))
        made = (len(lives), 2, " ".join(map(str, lives)))
        fixed = (rid or f"r{self.count}", 60_000, 1, 1, "{}", 1000, "", *made)
        return self.run("admit", keys, *fixed, *words)

    def settle(self, rid: str, cost: int = 0, calls: int = 1, tokens: int = 0) -> Any:
        keys = (*CORE, AT.tomb, AT.usage, KEY, ORG)
        return self.run("settle", keys, rid, "settled", cost, "p", "", 0, "{}", calls, tokens)

    def everything(self) -> str:
        return repr(self.memory.data)


def rate(want: int, unit: str = "call") -> tuple[Any, ...]:
    return (5, "l1", unit, want, ROLLING, "", 0)


def day(want: int, unit: str = "call", nth: int = 0) -> tuple[Any, ...]:
    begin = START_MS + nth * DAY_MS
    return (5, "l2", unit, want, f"{begin}:{begin + DAY_MS}", "", 0)


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_no_span_of_its_length_ever_sees_more_than_a_rate(seed: int, limit: int) -> None:
    """Strict: whatever the arrivals are; and who waits as long as he is told gets in."""
    rng, here, admitted = random.Random(seed), Clocked(), list[int]()
    here.put(KEY, **{"l1.l": str(limit)})
    for _ in range(150):
        here.now += rng.choice((0, 0, 1, 30, 999, 1000, 1001, 20_000, 59_999, 61_000))
        reply = here.admit(rate(1))
        if reply[0] == b"OK":
            admitted.append(here.now)
        else:
            assert reply[:4] == [b"LIMIT", b"1", b"0", str(limit).encode()]
            assert here.now < int(reply[6]) <= here.now + (PARTS + 1) * PART_MS
            if rng.random() < 0.3:
                here.now = int(reply[6])
                assert here.admit(rate(1))[0] == b"OK", "there was to be room"
                admitted.append(here.now)
    for first, last in zip(admitted, admitted[limit:], strict=False):
        assert last - first >= PARTS * PART_MS


def test_a_rate_lets_exactly_its_limit_through_and_a_refusal_counts_nothing() -> None:
    here = Clocked()
    here.put(KEY, **{"l1.l": "25", "l2.l": "100"})
    assert [here.admit(rate(1), day(1))[0] for _ in range(25)] == [b"OK"] * 25
    before = here.everything()
    assert here.admit(day(1), rate(1))[:2] == [b"LIMIT", b"2"]
    assert here.everything() == before


def test_tokens_are_reserved_and_corrected_after() -> None:
    here = Clocked()
    here.put(KEY, **{"l1.l": "1000"})
    assert here.admit(rate(900, "tok"), rid="a")[2] == 100
    assert here.admit(rate(101, "tok"))[0] == b"LIMIT"
    here.now += 5_000
    assert here.settle("a", tokens=300) == [b"OK", b"0"]
    assert here.admit(rate(700, "tok"), rid="b")[2] == 0
    # in the part of its admission: it fades when that does
    here.now = START_MS + (PARTS + 1) * PART_MS
    assert here.admit(rate(300, "tok"))[0] == b"OK"
    assert here.admit(rate(1, "tok"))[0] == b"LIMIT"


def test_a_settlement_after_its_window_touches_no_count() -> None:
    here = Clocked()
    here.put(KEY, **{"l1.l": "10", "l2.l": "10"})
    here.admit(rate(4, "tok"), day(4, "tok"), rid="a")
    here.now += DAY_MS
    here.admit(rate(6, "tok"), day(6, "tok", nth=1), rid="b")
    assert here.settle("a", tokens=9) == [b"OK", b"0"]
    assert (here.get(KEY, "l1.u"), here.get(KEY, "l2.u"), here.get(KEY, "l2.h")) == (6, 0, 6)
    assert here.settle("b", tokens=2) == [b"OK", b"0"]
    assert (here.get(KEY, "l1.u"), here.get(KEY, "l2.u"), here.get(KEY, "l2.h")) == (2, 2, 0)


@pytest.mark.parametrize("meter", [rate(1), day(1)])
def test_a_call_that_was_not_served_is_given_back(meter: tuple[Any, ...]) -> None:
    here = Clocked()
    here.put(KEY, **{"l1.l": "1", "l2.l": "1"})
    here.admit(meter, rid="a")
    assert here.admit(meter)[0] == b"LIMIT"
    here.settle("a", calls=0)
    assert here.admit(meter, rid="b")[0] == b"OK"
    here.settle("b", calls=1)
    assert here.admit(meter)[0] == b"LIMIT"


def test_a_calendar_window_begins_anew_and_only_by_the_servers_clock() -> None:
    here = Clocked()
    here.put(KEY, **{"l2.l": "2"})
    assert [here.admit(day(1))[0] for _ in range(3)] == [b"OK", b"OK", b"LIMIT"]
    early = here.admit(day(1, nth=1))
    assert early == [b"CLOCK", str(here.now).encode()]
    here.now += DAY_MS
    assert here.admit(day(1))[0] == b"CLOCK"
    assert here.admit(day(1, nth=1))[0] == b"OK"
    assert here.get(KEY, "l2.w") == START_MS + DAY_MS


def test_a_refusal_of_a_calendars_limit_tells_when_it_begins_anew() -> None:
    here = Clocked()
    here.put(KEY, **{"l2.l": "0"})
    assert here.admit(day(1))[6] == str(START_MS + DAY_MS).encode()


def test_what_is_asked_for_at_once_and_never_fits_has_no_time() -> None:
    here = Clocked()
    here.put(KEY, **{"l1.l": "5"})
    assert here.admit(rate(6, "tok"))[6] == b""


def test_a_server_whose_clock_stands_behind_counts_on() -> None:
    """After a failover: nobody gets the limit a second time."""
    here = Clocked()
    here.put(KEY, **{"l1.l": "2"})
    here.admit(rate(1))
    here.now -= 30_000
    assert here.admit(rate(1))[0] == b"OK"
    assert here.admit(rate(1))[0] == b"LIMIT"


def test_a_clock_that_was_far_ahead_ends_no_rate_for_long() -> None:
    here = Clocked()
    here.put(KEY, **{"l1.l": "2", "l2.l": "2"})
    here.admit(rate(2, "tok"), rid="before")
    here.now += 40 * DAY_MS
    here.admit(rate(2, "tok"), day(2, nth=40), rid="ahead")
    here.now -= 40 * DAY_MS
    assert here.admit(rate(1, "tok"), day(1), rid="after") == [b"OK", b"0", 1, 1]
    assert here.admit(day(1), rid="held")[0] == b"OK"
    here.now += 40 * DAY_MS
    here.admit(day(2, nth=40))
    here.now -= 40 * DAY_MS
    here.admit(day(1), rid="more")
    for rid in ("before", "ahead", "after", "more", "held"):
        here.settle(rid, calls=0)
    assert (here.get(KEY, "l1.u"), here.get(KEY, "l2.u"), here.get(KEY, "l2.h")) == (0, 0, 0)


def test_a_server_whose_clock_stands_behind_goes_on_in_the_window_that_has_begun() -> None:
    here = Clocked()
    here.put(KEY, **{"l2.l": "3"})
    here.now += DAY_MS - 1_000
    assert here.admit(day(3))[0] == b"OK"
    here.now += 2_000
    assert here.admit(day(2, nth=1), rid="a")[0] == b"OK"
    here.now -= 2_000
    assert here.admit(day(2))[0] == b"LIMIT"
    assert here.admit(day(1), rid="b")[0] == b"OK"
    here.now += 2_000
    assert here.admit(day(1, nth=1))[0] == b"LIMIT"
    here.settle("a"), here.settle("b")
    assert (here.get(KEY, "l2.u"), here.get(KEY, "l2.h")) == (2, 0)
    assert here.get(KEY, "l2.w") == START_MS + DAY_MS


def test_the_ledger_is_told_what_the_hold_counts_on() -> None:
    """Its worker may know another window, or other limits: it asked twice, and the first answer
    was lost."""
    here = Clocked()
    here.put(KEY, **{"l2.l": "3"})
    here.admit((*POOL[:3], 5, "", "", 1), day(1), rid="a")
    here.now += DAY_MS
    again = here.admit((*POOL[:3], 5, "", "", 1), day(1, nth=1), rid="a")
    assert again[:2] == [b"OK", b"1"]
    keys = (*CORE, AT.tomb, AT.usage, KEY, ORG)
    late = f"{KEY.decode()}:l2@call@{START_MS + DAY_MS}"
    here.run("settle", keys, "a", "settled", 4, "other", late, 5, "{}", 1, 6)
    [(_, words)] = here.memory.call(b"XRANGE", AT.usage, b"-", b"+")
    told = dict(zip(words[::2], words[1::2], strict=True))
    assert told[b"p"] == ORG + b":pool"
    assert told[b"b"].decode() == f"{KEY.decode()}:l2@call@{START_MS}"


def test_streams_that_go_on_together_share_what_a_rate_has_left() -> None:
    here = Clocked()
    here.put(KEY, **{"l1.l": "100"})
    here.admit(rate(10, "ucr"), rid="a")
    here.now += 5_000
    here.admit(rate(10, "ucr"), rid="b")
    rows = ("a", 4, 5, 0, 50, "b", 4, 5, 0, 50)
    assert here.run("renew", (*CORE, KEY, ORG), 60_000, *rows) == [b"OK", b"OK", b"FUNDS"]
    assert here.get(KEY, "l1.u") == 70


def test_a_dead_workers_rates_come_free() -> None:
    here = Clocked()
    here.put(KEY, **{"l1.l": "5", "l2.l": "5"})
    here.admit(rate(5, "tok"), day(5, "tok"), rid="a")
    here.now += 120_000
    assert here.run("reap", (*CORE, AT.tomb, AT.usage, KEY, ORG), "a") == [b"OK", 1]
    assert (here.get(KEY, "l1.u"), here.get(KEY, "l2.u"), here.get(KEY, "l2.h")) == (0, 0, 0)


def test_a_stream_that_goes_on_counts_in_the_windows_that_it_began_in() -> None:
    here = Clocked()
    here.put(KEY, **{"l1.l": "100", "l2.l": "50"})
    here.admit(rate(10, "ucr"), day(10, "ucr"), POOL, rid="a")
    row = ("a", 4, 5, 0)
    keys = (*CORE, KEY, ORG)
    assert here.run("renew", keys, 60_000, *row, 40) == [b"OK", b"OK"]
    assert here.run("renew", keys, 60_000, *row, 1) == [b"OK", b"FUNDS"]
    assert (here.get(KEY, "l1.u"), here.get(KEY, "l2.h")) == (50, 50)
    here.settle("a", cost=45)
    assert (here.get(KEY, "l1.u"), here.get(KEY, "l2.h"), here.get(KEY, "l2.u")) == (45, 0, 45)


# ways of payment ----------------------------------------------------------------------


def way(nth: int, index: int, meter: str, want: int, unit: str = "pool") -> tuple[Any, ...]:
    return (index, meter, unit, want, "", "", nth)


def test_the_first_way_that_carries_the_hold_pays() -> None:
    here = Clocked()
    here.put(ORG, **{"pool.b": "10"})
    here.put(KEY, **{"own.b": "100", "alw.l": "5"})

    def ways(want: int) -> tuple[tuple[Any, ...], ...]:
        organisation = way(1, 5, "alw", want, "ucr"), way(1, 6, "pool", want)
        return *organisation, way(2, 5, "own", want)

    assert here.admit(*ways(5), rid="a") == [b"OK", b"1", 0, 5, 0]
    # the allocation is used up, so the organisation does not pay
    assert here.admit(*ways(5), rid="b") == [b"OK", b"2", 0, 0, 95]
    assert (here.get(KEY, "alw.h"), here.get(ORG, "pool.h"), here.get(KEY, "own.h")) == (5, 5, 5)
    assert here.admit(*ways(96))[:3] == [b"LIMIT", b"3", b"95"]
    # answered again as it was taken
    assert here.admit(*ways(5), rid="b")[:2] == [b"OK", b"2"]
    here.settle("b", cost=3)
    assert (here.get(KEY, "own.b"), here.get(ORG, "pool.b")) == (97, 10)


# owners that exist because they were named --------------------------------------------


def test_what_requests_name_is_bounded_and_forgotten() -> None:
    here = Clocked()
    users = [AT.prefix + b"w:e:o:%d" % nth for nth in range(3)]
    each = (7, "l9", "call", 1, ROLLING, 1, 0)
    assert here.admit(each, owners=(users[0],), lives=(50_000,))[0] == b"OK"
    assert here.admit(each, owners=(users[0],), lives=(50_000,))[0] == b"LIMIT"
    assert here.admit(each, owners=(users[1],), lives=(50_000,))[0] == b"OK"
    before = here.everything()
    assert here.admit(each, owners=(users[2],), lives=(50_000,)) == [b"MANY"]
    assert here.everything() == before
    here.now += 50_001
    assert here.admit(each, owners=(users[2],), lives=(50_000,))[0] == b"OK"
    assert list(here.memory.sorted(MADE)) == [users[2]]


# between the ledger and Redis ---------------------------------------------------------


def test_adjust_leaves_a_window_alone_that_is_over() -> None:
    here = Clocked()
    here.put(KEY, **{"l2.l": "9"})
    here.admit(day(5))
    rows = (4, "l2.u", 3, START_MS - DAY_MS, "", 4, "l2.u", 2, START_MS, "")
    assert here.run("adjust", OUT, 1, 1, 2, *rows) == [b"OK"]
    assert here.get(KEY, "l2.u") == 2


def test_adjust_begins_a_window_that_redis_has_not_seen() -> None:
    """Redis has lost its data with a request in a new window, whose truth comes late."""
    here = Clocked()
    here.put(KEY, **{"l2.l": "9", "l2.u": "8", "l2.h": "0", "l2.w": str(START_MS - DAY_MS)})
    rows = (4, "l2.u", 3, START_MS, "", 4, "l2.u", 2, START_MS, "")
    assert here.run("adjust", OUT, 1, 1, 2, *rows) == [b"OK"]
    assert here.admit(day(5))[0] == b"LIMIT"
    assert here.admit(day(4))[:3] == [b"OK", b"0", 0]


@pytest.mark.parametrize(("known", "used"), [(0, 0), (START_MS, 4), (START_MS - DAY_MS, 7)])
def test_resync_goes_on_with_the_newest_window_that_anybody_knows(known: int, used: int) -> None:
    """Of the ledger, of entries that are not booked yet, of living holds."""
    here = Clocked()
    here.put(KEY, **{"l2.l": "99"})
    here.admit(day(3, "tok"), rid="a")
    here.admit(day(2, "tok"), rid="b")
    name = f"{KEY.decode()}:l2@tok@{START_MS}"
    keys = (*CORE, AT.tomb, AT.usage, KEY, ORG)
    here.run("settle", keys, "a", "settled", 1, "p", name, 0, "{}", 1, 6)
    here.put(KEY, **{"l2.u": "50", "l2.h": "50"})
    here.run("fence", [AT.meta], 1, "mine")
    rows = (4, "l2", "tok", used, known)
    assert (
        here.run("resync", (AT.meta, AT.hold, AT.usage, KEY), "0-0", 0, "mine", *rows)[0] == b"OK"
    )
    expected = 6 + (used if known == START_MS else 0)
    assert (here.get(KEY, "l2.u"), here.get(KEY, "l2.h")) == (expected, 2)
    assert here.get(KEY, "l2.w") == START_MS
    asked = (4, "l2", "tok", known)
    told = here.run("compare", (AT.meta, AT.hold, AT.usage, KEY), "0-0", *asked)[3]
    assert told == (str(expected).encode() if known in (0, START_MS) else b"over")
