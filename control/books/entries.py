"""Entries of a usage stream, read as `settle` and `reap` wrote them and checked before anything is
booked from them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from proxy.costs.pricing import AMOUNT_MAX_UCR

Cursor = tuple[int, int]  # a stream id: milliseconds and sequence

_id = "[0-9a-f-]{36}"
_pool = re.compile(rf"\{{s(\d\d)\}}:((?:o:{_id}|w:m:{_id}:{_id}):pool)").fullmatch
_amount = re.compile(rb"0|[1-9][0-9]{0,15}").fullmatch
EVENT_FIELDS = {"o": str, "k": str, "u": str, "m": str, "v": int}
MODES = frozenset({"platform", "byok"})
SOURCES = frozenset({"provider", "estimated", "none"})
_job_id = re.compile(r"[A-Za-z0-9._-]{1,128}").fullmatch
UNITS = frozenset({"ucr", "call", "tok"})
TEXT_MAX = 256
TOKENIZER_MAX = 64
SETTLED = frozenset({"settled", "released", "orphan"})


Named = tuple[UUID, str]  # a job: its organisation and its id


class Poison(ValueError):
    """An entry that cannot be booked; it is put aside and `ledger verify` tells of it."""


class Counted(NamedTuple):
    """What a request counted on, and how."""

    name: str  # as in the stream
    owner: str  # and meter, as meter_use.owner
    unit: str = "ucr"
    window_start: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a usage stream, as `settle` or `reap` wrote it."""

    shard: int
    sid: Cursor
    rid: UUID
    kind: str
    cost: int
    owner: str  # of the pool's account
    held: int
    late: bool  # touched nothing in Redis
    event: Mapping[str, Any]
    budgets: tuple[Counted, ...] = ()
    calls: int = 0
    tokens: int = 0  # that count

    @property
    def job(self) -> tuple[Named, int] | None:
        """With its ceiling, which outlives Redis by this; None: there is none that can be kept."""
        name, ceiling = self.event.get("j"), self.event.get("c")
        if not isinstance(name, str) or not _job_id(name):
            return None
        if type(ceiling) is not int or not 0 <= ceiling <= AMOUNT_MAX_UCR:
            return None
        return (self.event["o"], name), ceiling

    def used(self, unit: str) -> int:
        """What it takes of a limit of this unit."""
        if unit == "call":
            return self.calls
        return self.tokens if unit == "tok" else self.cost


def parse(shard: int, sid: Cursor, fields: Mapping[bytes, bytes]) -> Entry:
    """An entry, checked before anything is booked from it."""
    try:
        pool = _pool(fields[b"p"].decode())
        kind = fields[b"k"].decode()
        if not pool or int(pool[1]) != shard or kind not in SETTLED:
            raise Poison("its pool or its kind is not what it should be")
        return Entry(
            shard=shard,
            sid=sid,
            rid=UUID(fields[b"r"].decode()),
            kind=kind,
            cost=_whole(fields[b"c"]),
            owner=pool[2],
            budgets=_counted(shard, fields[b"b"].decode()),
            held=_whole(fields[b"h"]),
            late=fields[b"l"] == b"1",
            event=_event(fields[b"e"]),
            calls=_whole(fields.get(b"q", b"0")),
            tokens=_whole(fields.get(b"n", b"0")),
        )
    except (KeyError, ValueError) as problem:
        raise Poison(f"unreadable entry: {problem!r}") from None


def _counted(shard: int, text: str) -> tuple[Counted, ...]:
    prefix = f"{{s{shard:02d}}}:"
    names = text.split()
    if not all(name.startswith(prefix) and name.isascii() for name in names):
        raise Poison("a budget of it is of another shard")
    return tuple(_one(name.removeprefix(prefix)) for name in names)


def _one(name: str) -> Counted:
    owner, *rest = name.split("@")
    if not rest:
        return Counted(name, owner)
    unit, start = rest
    if unit not in UNITS:
        raise Poison(f"it counts on {name}, of an unknown unit")
    return Counted(name, owner, unit, _whole(start.encode()))


def _event(text: bytes) -> Mapping[str, Any]:
    """What the proxy said of the request, each field of the kind that its column takes."""
    event = orjson.loads(text)
    if not isinstance(event, dict):
        raise Poison("its event is no object")
    for name, kind in EVENT_FIELDS.items():
        if not isinstance(event[name], kind):
            raise Poison(f"{name} of its event is {event[name]!r}")
    tokens = event.get("t", {})
    if not isinstance(tokens, dict) or not all(type(n) is int and n >= 0 for n in tokens.values()):
        raise Poison("its tokens are not counts")
    if event.get("s", "none") not in SOURCES:
        raise Poison(f"its usage comes from {event['s']!r}")
    if event.get("b", "platform") not in MODES:
        raise Poison(f"its mode is {event['b']!r}")
    if not _tokenizer(event.get("w", "")):
        raise Poison(f"its tokens were counted by {event['w']!r}")
    event["o"], event["u"] = known_uuid(event["o"]), known_uuid(event["u"])
    if len(event["k"]) > TEXT_MAX or len(event["m"]) > TEXT_MAX:
        raise Poison("its key or model is longer than one can be")
    return event


def _tokenizer(name: object) -> bool:
    return isinstance(name, str) and len(name) <= TOKENIZER_MAX


@lru_cache(maxsize=50_000)
def known_uuid(text: str) -> UUID:
    """Of an organisation or a person: the same few come again and again."""
    return UUID(text)


def _whole(text: bytes) -> int:
    if not _amount(text) or int(text) > AMOUNT_MAX_UCR:
        raise Poison(f"{text!r} is no amount")
    return int(text)
