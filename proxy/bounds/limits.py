"""Limits as a client reads them: the same row in `GET /v1/me/limits` and in the error of a limit
that refuses. Pure.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from proxy.bounds.meters import Level, Meter, Window
from proxy.costs.pricing import credits_text

NAMES = {
    "pool": "credits",
    "ucr": "budget",
    "slot": "parallel",
    "call": "requests",
    "tok": "tokens",
}
UNITS = {"slot": "requests", "call": "requests", "tok": "tokens"}


def listing(rows: Iterable[tuple[Meter, Level]]) -> Mapping[str, object]:
    """All of them; a job that has no ceiling limits nothing."""
    shown = [row(m, level) for m, level in rows if m.unit == "pool" or level.limit is not None]
    return {"object": "list", "data": shown}


def row(meter: Meter, level: Level) -> Mapping[str, object]:
    unit = UNITS.get(meter.unit, "credits")
    is_money = unit == "credits"
    shown: dict[str, object] = {
        "name": "allocation" if _is_allocation(meter) else NAMES[meter.unit],
        "of": meter.label,
        "unit": unit,
        "limit": _told(level.limit, is_money),
        "used": _told(level.used, is_money),
        "held": _told(level.held, is_money),
        "left": _told(max(level.left, 0), is_money),
        "window": _window(meter.window),
        "resets_at": _moment(level.resets_ms),
    }
    return shown if meter.model is None else {**shown, "model": meter.model}


def _is_allocation(meter: Meter) -> bool:
    """What the organisation's pool pays for a member; other budgets of persons are rules."""
    return (meter.name, meter.label) == (b"bud", "person")


def _window(window: Window | None) -> str | None:
    if window is None:
        return None
    return f"{window.ms // 1000}s" if window.kind == "rolling" else window.kind


def _moment(ms: int | None) -> str | None:
    """None: never, or as soon as something ends."""
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).isoformat()


def _told(amount: int | None, is_money: bool) -> str | int | None:
    return credits_text(amount) if is_money and amount is not None else amount
