"""Limits of requests and of tokens in the headers that OpenAI gives them. Pure.

Of several the one with least left is told. What is left comes with the reply that admitted the
request, so it costs no further question.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from proxy.bounds.meters import Level, Meter, Standing
from proxy.bounds.windows import PARTS, part_ms

KINDS = {"call": "requests", "tok": "tokens"}
Field = tuple[str, str]


def counting(meters: Iterable[Meter]) -> tuple[int, ...]:
    """Those that have such headers, by their places."""
    return tuple(nth for nth, meter in enumerate(meters) if meter.unit in KINDS)


def answered(
    standing: Standing, left: Sequence[int], given_back: Sequence[int], now_ms: int
) -> list[Field]:
    """Of an answer: `left` of each meter after the hold, and what of the hold was not used."""
    fields = list[Field]()
    for unit in KINDS:
        rest = [
            (left[nth] + given_back[nth], nth)
            for nth in standing.counting
            if standing.meters[nth].unit == unit
        ]
        if rest:
            least, nth = min(rest)
            meter = standing.meters[nth]
            resets_ms = _resets_in_ms(meter, standing.windows[nth], now_ms)
            fields += _fields(unit, meter.limit, least, resets_ms)
    return fields


def refused(meter: Meter, level: Level, now_ms: int) -> list[Field]:
    """Of the limit that refused: here `reset` is when it has room for this request."""
    if meter.unit not in KINDS or level.limit is None:
        return []
    room = None if level.resets_ms is None else level.resets_ms - now_ms
    return _fields(meter.unit, level.limit, level.left, room)


def _resets_in_ms(meter: Meter, window: bytes, now_ms: int) -> int | None:
    """When nothing of what was counted until now counts any more."""
    if meter.window is None:
        return None
    if meter.window.kind == "rolling":
        return (PARTS + 1) * part_ms(meter.window)
    return int(window.partition(b":")[2]) - now_ms


def _fields(unit: str, limit: int, left: int, resets_ms: int | None) -> list[Field]:
    kind = KINDS[unit]
    fields = [
        (f"x-ratelimit-limit-{kind}", str(limit)),
        (f"x-ratelimit-remaining-{kind}", str(max(left, 0))),
    ]
    if resets_ms is not None:
        seconds = -(-max(resets_ms, 0) // 1000)
        fields.append((f"x-ratelimit-reset-{kind}", duration(seconds)))
    return fields


@lru_cache(4096)
def duration(seconds: int) -> str:
    """As OpenAI writes it: 59s, 6m0s, 1h0m0s."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
