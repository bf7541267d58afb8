"""Limits as a client reads them: the same row in `GET /v1/me/limits` and in the error of a limit
that refuses. Pure.
"""

from collections.abc import Iterable, Mapping

from proxy.pricing import credits_text
from proxy.types import Level, Meter

NAMES = {"pool": "credits", "ucr": "budget", "slot": "parallel"}


def listing(rows: Iterable[tuple[Meter, Level]]) -> Mapping[str, object]:
    """All of them; a job that has no ceiling limits nothing."""
    shown = [row(m, level) for m, level in rows if m.unit == "pool" or level.limit is not None]
    return {"object": "list", "data": shown}


def row(meter: Meter, level: Level) -> Mapping[str, object]:
    is_money = meter.unit != "slot"
    return {
        "name": NAMES[meter.unit],
        "of": meter.label,
        "unit": "credits" if is_money else "requests",
        "limit": _told(level.limit, is_money),
        "used": _told(level.used, is_money),
        "held": _told(level.held, is_money),
        "left": _told(max(level.left, 0), is_money),
        "resets_at": None,  # never: it has no window
    }


def _told(amount: int | None, is_money: bool) -> str | int | None:
    return credits_text(amount) if is_money and amount is not None else amount
