"""P17: windows are computed: they follow each other without a gap in every zone, over every change
of its clocks, and begin where its people expect it.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.bounds import windows
from proxy.bounds.meters import Window

ZONES = sorted(available_timezones())
FIRST_MS, LAST_MS = (
    int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1000 for year in (1975, 2037)
)
HOUR_MS = 3_600_000
BERLIN, CAIRO = Window("day", zone="Europe/Berlin"), Window("day", zone="Africa/Cairo")
LONGEST_MS = {"day": 49 * HOUR_MS, "week": 9 * 24 * HOUR_MS, "month": 33 * 24 * HOUR_MS}
KINDS = st.one_of(
    st.just(("day", 1)),
    st.tuples(st.just("week"), st.integers(1, 7)),
    st.tuples(st.just("month"), st.integers(1, 31)),
)


def changes(zone: ZoneInfo, year: int) -> list[int]:
    """The hours of a year in which this zone's clocks are set anew, ms."""
    start = datetime(year, 1, 1, tzinfo=UTC)
    hours = [start + timedelta(hours=nth) for nth in range(366 * 24)]
    offsets = [hour.astimezone(zone).utcoffset() for hour in hours]
    pairs = zip(hours[1:], offsets[1:], offsets, strict=False)
    return [int(hour.timestamp()) * 1000 for hour, now, before in pairs if now != before]


def check(window: Window, now_ms: int) -> None:
    begin, end = windows.span(window, now_ms)
    assert begin <= now_ms < end
    assert 0 < end - begin <= LONGEST_MS[window.kind]
    # the same in all of it, and another one after it, with nothing between
    assert windows.span(window, begin) == windows.span(window, end - 1) == (begin, end)
    assert windows.span(window, end)[0] == end
    local = datetime.fromtimestamp(begin / 1000, ZoneInfo(window.zone))
    if window.kind == "week":
        assert local.isoweekday() == window.anchor
    if window.kind == "month" and window.anchor <= 28:
        assert local.day == window.anchor


@given(st.sampled_from(ZONES), KINDS, st.integers(FIRST_MS, LAST_MS))
def test_p17_windows(zone: str, kind: tuple[str, int], now_ms: int) -> None:
    check(Window(kind[0], zone=zone, anchor=kind[1]), now_ms)


@pytest.mark.parametrize("nth", range(4))
def test_p17_windows_at_each_change_of_the_clocks(nth: int) -> None:
    """In all zones, to the second."""
    seen = 0
    for zone in ZONES[nth::16]:
        for change in changes(ZoneInfo(zone), 2026):
            for off in (-24 * HOUR_MS, -HOUR_MS, -1, 0, 1, HOUR_MS, 24 * HOUR_MS):
                for kind, anchor in (("day", 1), ("week", 1), ("week", 7), ("month", 1)):
                    check(Window(kind, zone=zone, anchor=anchor), change + off)
                    seen += 1
    assert seen > 100


@pytest.mark.parametrize(
    ("window", "now", "begin", "end"),
    [
        (Window("day"), "2026-03-29T12:00Z", "2026-03-29T00:00Z", "2026-03-30T00:00Z"),
        # 23 hours and 25 hours
        (BERLIN, "2026-03-29T12:00Z", "2026-03-28T23:00Z", "2026-03-29T22:00Z"),
        (BERLIN, "2026-10-25T12:00Z", "2026-10-24T22:00Z", "2026-10-25T23:00Z"),
        # a midnight that the clocks leap over
        (CAIRO, "2026-04-24T09:00Z", "2026-04-23T22:00Z", "2026-04-24T21:00Z"),
        (Window("week"), "2026-11-22T12:00Z", "2026-11-16T00:00Z", "2026-11-23T00:00Z"),
        (Window("week", anchor=7), "2026-11-22T12:00Z", "2026-11-22T00:00Z", "2026-11-29T00:00Z"),
        (Window("month", anchor=31), "2026-02-28T00:00Z", "2026-02-28T00:00Z", "2026-03-31T00:00Z"),
        (Window("month", anchor=31), "2028-02-28T12:00Z", "2028-01-31T00:00Z", "2028-02-29T00:00Z"),
        (Window("month", anchor=15), "2026-01-01T00:00Z", "2025-12-15T00:00Z", "2026-01-15T00:00Z"),
    ],
)  # fmt: skip
def test_a_window_begins_and_ends_when_people_expect_it(
    window: Window, now: str, begin: str, end: str
) -> None:
    found = windows.span(window, _ms(now))
    assert found == (_ms(begin), _ms(end))


def test_a_rolling_window_is_never_shorter_than_it_was_asked_for() -> None:
    for ms in (1000, 1001, 60_000, 86_400_000):
        part = windows.part_ms(Window("rolling", ms=ms))
        assert ms <= part * windows.PARTS < ms + windows.PARTS


def _ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1000
