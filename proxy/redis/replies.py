"""Answers of the scripts as values: what each word of Redis means. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from proxy.bounds.meters import Level
from proxy.redis.pipe import RedisDown, Reply


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record as it lies in Redis; None where there is none."""

    version: int
    status: str
    body: bytes
    digest: bytes = b""
    expires_ms: int = 0  # 0: never


class Admitted(NamedTuple):
    way: int  # of payment that was taken
    left: tuple[int, ...]  # of each meter, after the hold


class Stale(NamedTuple):
    key: RawRecord | None
    organisation: RawRecord | None


class Limited(NamedTuple):
    nth: int  # which meter refused, from 0
    level: Level
    now_ms: int  # by the server's clock


class OtherCeiling(NamedTuple):
    ceiling: int  # that the job has


class OtherTime(NamedTuple):
    now_ms: int  # by the server's clock, by which the windows were not these


class Refused(NamedTuple):
    why: str  # KEY, ORG, NOTREADY, MANY, CLOSED


class Renewal(NamedTuple):
    rid: str
    owners: Sequence[bytes]  # of the hold; its key's record and its organisation's come first
    checkpoint: int  # what it has cost so far
    extra: int  # to be held beyond what is


class Persisted(NamedTuple):
    last: bytes  # where to go on
    truths: list[str]
    orphans: list[str]  # reaped: whoever knows the truth has still to tell it


Admission = Admitted | Stale | Limited | OtherCeiling | OtherTime | Refused


def admit_answer(reply: Reply) -> Admission:
    word = reply[0]
    if word == b"OK":
        return admitted(reply)
    if word == b"LIMIT":
        _, nth, left, limit, used, held, room, now_ms = reply
        return Limited(int(nth) - 1, level_of(limit, used, held, left, room), int(now_ms))
    if word == b"JOB":
        return OtherCeiling(int(reply[1]))
    if word == b"STALE":
        return Stale(*_records(reply[1:]))
    if word == b"CLOCK":
        return OtherTime(int(reply[1]))
    if word in (b"KEY", b"ORG", b"NOTREADY", b"MANY", b"CLOSED"):
        return Refused(word.decode())
    raise RedisDown(f"admit answered {words_of(reply)}")


def admitted(reply: Reply) -> Admitted:
    return Admitted(int(reply[1]), tuple(reply[2:]))


def level_of(limit: bytes, used: bytes, held: bytes, left: bytes, room: bytes) -> Level:
    return Level(_maybe(limit), _maybe(used), int(held), int(left), _maybe(room))


def _maybe(count: bytes) -> int | None:
    return int(count) if count else None


def _records(fields: Sequence[bytes | None]) -> tuple[RawRecord | None, RawRecord | None]:
    return record(*fields[:5]), record(*fields[5:])


def record(
    version: bytes | None,
    status: bytes | None,
    body: bytes | None,
    digest: bytes | None = b"",
    expires: bytes | None = None,
) -> RawRecord | None:
    if version is None or status is None or body is None or digest is None:
        return None
    unhexed = bytes.fromhex(digest.decode())
    return RawRecord(int(version), status.decode(), body, unhexed, int(expires or 0))


def words_of(reply: Reply) -> str:
    return " ".join(part.decode("utf-8", "replace") for part in reply if isinstance(part, bytes))
