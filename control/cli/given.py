"""What people write on a command line -> values of the API: lists, spans, moments, amounts, tags.

Where a limit is edited, `none` takes it away.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from control.cli.output import Misused

NONE = "none"
CALENDAR = ("day", "week", "month")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_span = re.compile(r"([1-9][0-9]{0,6})([smhdw])").fullmatch


def span_s(text: str) -> int:
    """Seconds of a span such as `24h`; `0` is none."""
    found = _span(text)
    if found is None and text != "0":
        raise Misused(f"{text} is no span; write one such as 30m, 24h or 7d.")
    return int(found[1]) * UNITS[found[2]] if found else 0


def moment(text: str) -> str | None:
    """When something ends: after a span, or at a date, or never."""
    if text in (NONE, "never"):
        return None
    if _span(text):
        return (datetime.now(UTC) + timedelta(seconds=span_s(text))).isoformat()
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Misused(
            f"{text} is no end; write a span such as 30d, or a date such as 2031-01-31."
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).isoformat()


def several(words: list[str]) -> list[str] | None:
    """A list that was written by commas or by several options."""
    found = [part.strip() for word in words for part in word.split(",") if part.strip()]
    return None if found == [NONE] else found


def whole(text: str) -> int | None:
    if text == NONE:
        return None
    if not text.isdecimal():
        raise Misused(f"{text} is no limit; write a whole number, or {NONE}.")
    return int(text)


def credits(text: str) -> str | None:
    """The API reads the amount itself, digit by digit."""
    return None if text == NONE else text


def tags(words: list[str]) -> dict[str, str]:
    if words == [NONE]:
        return {}
    pairs = [word.partition("=") for word in words]
    if not all(name and equals and value for name, equals, value in pairs):
        raise Misused("A tag is NAME=VALUE, such as team=search.")
    return {name: value for name, _, value in pairs}


def window(per: str | None) -> dict[str, object]:
    """The time that a limit counts in."""
    if per is None:
        return {}
    if per in CALENDAR:
        return {"window": per}
    if not _span(per):
        raise Misused(f"{per} is no window; write one such as 60s or 24h, or day, week or month.")
    return {"window": "rolling", "seconds": span_s(per)}


def window_text(limit: Mapping[str, Any]) -> str:
    """The same, as people read it."""
    kind = limit["window"]
    if kind == "none":
        return ""
    if kind == "rolling":
        return f"{limit['seconds']}s"
    begins = "" if limit["anchor"] in (None, 1) else f" from day {limit['anchor']}"
    return f"{kind}{begins} ({limit['zone']})"


def percents(text: str) -> list[int]:
    if text == NONE:
        return []
    parts = [part.strip().removesuffix("%") for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise Misused(f"{text} are no percents; write some such as 80,95, or {NONE}.")
    return [int(part) for part in parts]
