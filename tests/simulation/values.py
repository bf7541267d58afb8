"""What lies in a Redis, and how it reads numbers and ids."""

import re
from typing import Any, TypeAlias

Reply: TypeAlias = Any  # bytes, int, None or a list of these
Sid = tuple[int, int]

INT_MAX = 2**63 - 1
SID_MAX: Sid = (2**64 - 1, 2**64 - 1)
whole = re.compile(rb"0|-?[1-9][0-9]{0,18}").fullmatch  # as string2ll: no '-0', no '+', no '01'


class RedisError(Exception):
    """An error reply; what a script wrote before it stays."""


class Sorted(dict[bytes, float]):
    """A sorted set."""


class Stream:
    """A stream: its entries in order, and the last id that was ever given."""

    __slots__ = ("fields", "last", "sids")

    def __init__(self) -> None:
        self.sids: list[Sid] = []
        self.fields: list[list[bytes]] = []
        self.last: Sid = (0, 0)


def wrong_type() -> RedisError:
    return RedisError("WRONGTYPE Operation against a key holding the wrong kind of value")


def number(text: bytes, what: str) -> int:
    if not whole(text) or not -INT_MAX - 1 <= int(text) <= INT_MAX:
        raise RedisError(f"ERR {what} is not an integer or out of range")
    return int(text)


def sid(text: bytes, missing: int = 0) -> Sid:
    ms, _, seq = text.partition(b"-")
    try:
        return int(ms), int(seq or missing)
    except ValueError:
        raise RedisError("ERR Invalid stream ID specified as stream command argument") from None


def sid_text(value: Sid) -> bytes:
    return b"%d-%d" % value
