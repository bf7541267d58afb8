"""The drain rule as a table, and what makes an entry unreadable. Pure."""

from uuid import uuid4

import orjson
import pytest

from control.books.booking import Booked, Verdict, judge
from control.books.entries import Entry, Poison, parse

RID = uuid4()
POOL = "o:8254d59c-13d1-4ebc-9499-aca0c26710db:pool"
EVENT = {"o": str(uuid4()), "k": "kkkkkkkkkk", "u": str(uuid4()), "m": "ops/echo", "v": 1}


def entry(kind: str, cost: int, late: bool = False) -> Entry:
    return Entry(7, (1, 0), RID, kind, cost, POOL, 100, late, EVENT)


def fields(**changes: bytes) -> dict[bytes, bytes]:
    good = {
        b"r": str(RID).encode(),
        b"k": b"settled",
        b"c": b"40",
        b"p": b"{s07}:" + POOL.encode(),
        b"b": b"{s07}:k:kkkkkkkkkk:bud",
        b"h": b"100",
        b"l": b"0",
        b"e": orjson.dumps(EVENT),
    }
    return {**good, **{name.encode(): value for name, value in changes.items()}}


@pytest.mark.parametrize(
    ("new", "booked", "verdict"),
    [
        # the first truth is booked; Redis took the same
        (entry("settled", 40), [], Verdict(0, "settled", 40, 0)),
        (entry("released", 0), [], Verdict(0, "released", 0, 0)),
        (entry("orphan", 10), [], Verdict(0, "orphan", 10, 0)),
        # it came late: Redis took nothing, so it has to give it now
        (entry("settled", 40, late=True), [], Verdict(0, "settled", 40, -40)),
        # the same truth again: what Redis took a second time goes back
        (
            entry("settled", 40, late=True),
            [Booked(0, "settled", 40)],
            Verdict(None, "settled", 0, 0),
        ),
        (entry("settled", 40), [Booked(0, "settled", 40)], Verdict(None, "settled", 0, 40)),
        # an orphan learns the truth: one correction, up or down
        (
            entry("settled", 40, late=True),
            [Booked(0, "orphan", 10)],
            Verdict(1, "correction", 30, -30),
        ),
        (
            entry("settled", 4, late=True),
            [Booked(0, "orphan", 10)],
            Verdict(1, "correction", -6, 6),
        ),
        # and only once
        (
            entry("settled", 40, late=True),
            [Booked(0, "orphan", 10), Booked(1, "correction", 30)],
            Verdict(None, "settled", 0, 0),
        ),
        # an orphan of what is settled is no news
        (entry("orphan", 10), [Booked(0, "settled", 40)], Verdict(None, "orphan", 0, 10)),
    ],
)
def test_the_drain_rule(new: Entry, booked: list[Booked], verdict: Verdict) -> None:
    """What Redis took less what the ledger books goes back to the pool by the outbox."""
    assert judge(new, booked) == verdict


def test_an_entry_is_read_as_the_scripts_wrote_it() -> None:
    read = parse(7, (5, 1), fields())
    assert (read.rid, read.cost, read.owner, read.late) == (RID, 40, POOL, False)


@pytest.mark.parametrize(
    "changes",
    [
        {"c": b"-1"},
        {"c": b"1.5"},
        {"c": b"9000000000000001"},
        {"c": b"\xd9\xa1"},
        {"h": b""},
        {"k": b"stolen"},
        {"p": b"{s08}:" + POOL.encode()},
        {"p": b"rubbish"},
        {"r": b"not-a-uuid"},
        {"e": b"[]"},
        {"e": b"{"},
        {"e": b"{}"},
        {"e": orjson.dumps({**EVENT, "v": "one"})},
        {"e": orjson.dumps({**EVENT, "k": "x" * 300})},
        {"e": orjson.dumps({**EVENT, "t": {"input": -1}})},
        {"e": orjson.dumps({**EVENT, "t": [1]})},
        {"e": orjson.dumps({**EVENT, "s": "guessed"})},
        {"e": orjson.dumps({**EVENT, "w": 7})},
        {"e": orjson.dumps({**EVENT, "w": "x" * 65})},
    ],
)
def test_what_cannot_be_booked_is_put_aside(changes: dict[str, bytes]) -> None:
    """One bad entry must not hold up the others, so it is found before the ledger refuses it."""
    with pytest.raises(Poison):
        parse(7, (5, 1), fields(**changes))
