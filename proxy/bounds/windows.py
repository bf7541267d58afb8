"""Windows of limits: when a calendar's began and when it ends. Pure.

A day begins at the first midnight that its zone has, or where the clock leaps over it, at the leap.
"""

from calendar import monthrange
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from proxy.bounds.meters import Window

PARTS = 60  # of a rolling window, as in the scripts
NEVER_MS = 2**53


def text(window: Window | None, now_ms: int) -> bytes:
    """As the scripts read it."""
    if window is None:
        return b""
    if window.kind == "rolling":
        return b"~%d" % part_ms(window)
    return b"%d:%d" % span(window, now_ms)


def open_ms(windows: Iterable[Window | None], now_ms: int) -> range:
    """While all of them are as they are now."""
    begin, end = 0, NEVER_MS
    for window in windows:
        if window is not None and window.kind != "rolling":
            first, last = span(window, now_ms)
            begin, end = max(begin, first), min(end, last)
    return range(begin, end)


def part_ms(window: Window) -> int:
    """Rounded up: a window is never shorter than it was asked for."""
    return -(-window.ms // PARTS)


def span(window: Window, now_ms: int) -> tuple[int, int]:
    """The window that is open at this moment: from, to."""
    zone = ZoneInfo(window.zone)
    first = _first_day(window, datetime.fromtimestamp(now_ms / 1000, zone).date())
    begin, end = _midnight(first, zone), _midnight(_next(window, first), zone)
    while end <= now_ms:  # a clock that was set back shows the day before once more
        first = _next(window, first)
        begin, end = end, _midnight(_next(window, first), zone)
    return begin, end


def _first_day(window: Window, today: date) -> date:
    if window.kind == "day":
        return today
    if window.kind == "week":
        return today - timedelta((today.isoweekday() - window.anchor) % 7)
    first = _in_month(today.year, today.month, window.anchor)
    if first <= today:
        return first
    before = today.replace(day=1) - timedelta(1)
    return _in_month(before.year, before.month, window.anchor)


def _next(window: Window, first: date) -> date:
    if window.kind == "day":
        return first + timedelta(1)
    if window.kind == "week":
        return first + timedelta(7)
    after = first.replace(day=1) + timedelta(32)
    return _in_month(after.year, after.month, window.anchor)


def _in_month(year: int, month: int, day: int) -> date:
    """The last one, where the month has no such day."""
    return date(year, month, min(day, monthrange(year, month)[1]))


def _midnight(day: date, zone: ZoneInfo) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * 1000
