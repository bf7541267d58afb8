"""What can refuse a request, and what a request counts on, in values. Imports nothing of ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

EACH_END_USER = b"e"
UNKNOWN = -1  # a limit that lies beside the counts alone


@dataclass(frozen=True, slots=True)
class Window:
    """The time in which a limit counts: rolling, or a calendar's day, week or month."""

    kind: str  # `rolling`, `day`, `week`, `month`
    ms: int = 0  # how long, where it rolls
    zone: str = "UTC"  # whose calendar
    anchor: int = 1  # of a week its first day, Monday is 1; of a month the day that it begins


@dataclass(frozen=True, slots=True)
class Meter:
    """Something that can refuse a request: a field group of its owner's hash in Redis."""

    owner: bytes  # the hash's key; EACH_END_USER: one that the request names
    name: bytes  # `pool`, `bud`, `par`, or `l` and the number of the limit's rule
    unit: str  # `pool`: credits that count down; `ucr`, `call`, `tok`; `slot`: at one time
    label: str  # whom it limits, for the error: key, person, team, organisation, plan, job
    limit: int = 0
    window: Window | None = None
    model: str | None = None  # the one whose requests it counts; None: all
    way: int = 0  # of payment, of which a request takes the first that carries it; 0: on all


@dataclass(frozen=True, slots=True)
class Level:
    """How full a meter is."""

    limit: int | None  # of a pool none: its credits are all there is
    used: int | None
    held: int
    left: int
    resets_ms: int | None = None  # when a window begins anew or has room; None: never


@dataclass(frozen=True, slots=True)
class Job:
    """Requests that share a ceiling of cost."""

    id: str
    ceiling_ucr: int | None  # None: as it was set before


@dataclass(frozen=True, slots=True)
class Payment:
    """One way to pay: a pool, and what else counts when it is taken."""

    nth: int  # the pool among the meters
    pool: str  # its owner and meter
    budgets: str  # of all budgets, by spaces, as the scripts name them


class AdmitWords(NamedTuple):
    """Of a call of `admit` all that requests of one standing share, in its order."""

    length: int  # in words
    keys: bytes
    versions: bytes
    named: bytes  # owners that the request names
    meters: tuple[bytes, ...]  # between them stands the amount of each


@dataclass(frozen=True, slots=True)
class Standing:
    """What a caller's requests count on, in the forms in which scripts and journal name it."""

    meters: tuple[Meter, ...]
    owners: tuple[bytes, ...]  # every hash that a hold touches: scripts declare all keys
    owners_text: str  # the same, by spaces
    places: tuple[int, ...]  # of each meter's owner among the owners
    windows: tuple[bytes, ...]  # of each meter, as the scripts read them
    payments: Mapping[int, Payment]  # by way
    open_ms: range  # while all of its windows are open
    admit: AdmitWords
    counting: tuple[int, ...] = ()  # the meters of requests and of tokens, which headers tell
    lives: tuple[int, ...] = ()  # ms, of the owners that exist because they were named


class Standings(Protocol):
    """What a caller's requests count on, as of now."""

    def of(
        self,
        model: str | None,
        now_ms: int,
        job: Job | None = None,
        end_user: str | None = None,
    ) -> Standing: ...
