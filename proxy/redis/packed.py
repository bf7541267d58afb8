"""Calls of scripts as the bytes that Redis reads: what many have in common is packed once. Pure."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from proxy.bounds.meters import UNKNOWN, AdmitWords, Meter
from proxy.redis.scripts import SHARD_KEYS, Script

Word = bytes | int
PLACES_FROM = 5  # of a request's owners among the keys of `admit`
OWNERS_NAMED_MAX = 100_000  # end users and jobs of one organisation that are remembered
KEPT = 4096  # of what is kept packed
METER_WORDS, FIXED_WORDS = 7, 10  # of `admit`
SETTLE_WORDS = 9


def word(value: Word) -> bytes:
    if isinstance(value, int):
        return number(value)
    return b"$%d\r\n%b\r\n" % (len(value), value)


@lru_cache(KEPT)
def number(value: int) -> bytes:
    text = b"%d" % value
    return b"$%d\r\n%b\r\n" % (len(text), text)


def settle_words(
    rid: bytes,
    kind: bytes,
    cost: int,
    pool: bytes,
    budgets: bytes,
    held: int,
    event: bytes,
    calls: int,
    tokens: int,
) -> bytes:
    """What `words` makes of them, by one look: amounts are seldom the same, so to remember them
    packed costs more than it saves.
    """
    c, h, q, n = b"%d" % cost, b"%d" % held, b"%d" % calls, b"%d" % tokens
    return (
        b"$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
        b"$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
    ) % (
        *(len(rid), rid, len(kind), kind, len(c), c, len(pool), pool, len(budgets), budgets),
        *(len(h), h, len(event), event, len(q), q, len(n), n),
    )


def words(values: Sequence[Word]) -> bytes:
    return b"".join(map(word, values))


class Packed(NamedTuple):
    """One call of a script, whichever way the script itself is named."""

    script: Script
    key: bytes | None  # the first one, which says where it lies
    length: int  # in words, behind the script
    rest: bytes  # these words: how many keys, the keys, the arguments

    @classmethod
    def of(cls, script: Script, keys: Sequence[bytes], args: Sequence[Word]) -> "Packed":
        values = (len(keys), *keys, *args)
        return cls(script, keys[0] if keys else None, len(values), words(values))

    def by_sha(self) -> bytes:
        head = b"*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n" % (self.length + 2, self.script.sha)
        return head + self.rest

    def by_text(self) -> bytes:
        head = b"*%d\r\n$4\r\nEVAL\r\n" % (self.length + 2)
        return head + word(self.script.text) + self.rest


def admit_words(
    shard: int,
    versions: tuple[int, int],
    owners: Sequence[bytes],
    meters: Sequence[Meter],
    windows: Sequence[bytes],
    lives: Sequence[int],
) -> AdmitWords:
    at = SHARD_KEYS[shard]
    keys = (at.meta, at.hold, at.lease, at.usage, *owners)
    between, behind = list[bytes](), b""
    for meter, window in zip(meters, windows, strict=True):
        place = owners.index(meter.owner) + PLACES_FROM
        between.append(behind + words((place, meter.name, meter.unit.encode())))
        behind = words((window, limit_if_named(meter, owners, lives), meter.way))
    return AdmitWords(
        1 + len(keys) + FIXED_WORDS + METER_WORDS * len(meters),
        words((len(keys), *keys)),
        words(versions),
        words((len(lives), OWNERS_NAMED_MAX, b" ".join(b"%d" % life for life in lives))),
        (*between, behind),
    )


def limit_if_named(meter: Meter, owners: Sequence[bytes], lives: Sequence[int]) -> Word:
    """The limit of an owner that a request names goes with it; of others it lies in Redis."""
    named = lives and meter.owner in owners[-1 - len(lives) : -1]
    return meter.limit if named and meter.limit != UNKNOWN else b""


@lru_cache(KEPT)
def settle_keys(shard: int, owners: str) -> tuple[int, bytes]:
    """Of a call of `settle`: how many words, and the keys, for owners as the journal has them."""
    at = SHARD_KEYS[shard]
    keys = (at.meta, at.hold, at.lease, at.tomb, at.usage, *owners.encode().split())
    return 1 + len(keys) + SETTLE_WORDS, words((len(keys), *keys))
