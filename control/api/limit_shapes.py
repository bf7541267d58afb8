"""Limits as they come in and go out: what is counted, how much of it, in which window."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, Self
from uuid import UUID

import asyncpg
from pydantic import AfterValidator, StrictInt, StringConstraints, WithJsonSchema, model_validator

from control.api.shapes import Field, Input, ModelId, Output
from control.money import credits_to_ucr
from proxy.bounds import windows
from proxy.bounds.meters import Window
from proxy.costs.pricing import AMOUNT_MAX_UCR, credits_text

RULES_PER_SUBJECT_MAX = 8  # each is a meter that every request reads
SECONDS_MAX = 86_400  # of a rolling window; longer ones are of the calendar
WARNINGS_MAX = 8
ANCHORS = {"week": 7, "month": 31}

Row = asyncpg.Record | Mapping[str, Any]
Level = Literal["key", "person", "team", "organisation", "end_user"]
Unit = Literal["calls", "tokens", "credits", "parallel"]
WindowKind = Literal["none", "rolling", "day", "week", "month"]


@cache
def zones() -> frozenset[str]:
    """Those that come with the product, so that every proxy knows them."""
    return frozenset(files("tzdata").joinpath("zones").read_text("utf-8").split())


def _zone(name: str) -> str:
    if name not in zones():
        raise ValueError("write a time zone of the IANA list, such as Europe/Berlin")
    return name


def _rising(percents: Sequence[int]) -> list[int]:
    return sorted(set(percents))


Zone = Annotated[str, StringConstraints(max_length=64), AfterValidator(_zone)]
Percent = Annotated[StrictInt, Field(ge=1, le=100)]
Percents = Annotated[list[Percent], Field(max_length=WARNINGS_MAX), AfterValidator(_rising)]
Amount = Annotated[
    StrictInt | str,
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string"}], "examples": [60, "250.5"]}),
]


def amount_of(unit: str, given: int | str) -> int:
    """Credits are text, as everywhere; the rest are whole numbers. 0 allows nothing."""
    amount = given
    if unit == "credits":
        amount = 0 if given == "0" else credits_to_ucr(given)
    if not isinstance(amount, int) or not 0 <= amount <= AMOUNT_MAX_UCR:
        raise ValueError(f"this is no amount of {unit}; write a number such as 60, credits as text")
    return amount


def require_watched(unit: str, window: str, warn_at: Sequence[int]) -> None:
    """What starts at nothing when Redis does, and has no row, is not watched."""
    if warn_at and (unit == "parallel" or window == "rolling"):
        raise ValueError("requests at one time and rolling windows raise no warnings")


class LimitTerms(Input):
    """What is limited, and in which time: `none` is for ever, `rolling` any span of `seconds`,
    the others begin at midnight of `zone` (a week on day `anchor` from Monday, 1, a month on day
    `anchor` or, where it is shorter, on its last)."""

    unit: Unit
    amount: Amount
    window: WindowKind = "none"
    seconds: Annotated[StrictInt, Field(ge=1, le=SECONDS_MAX)] | None = None
    zone: Zone | None = None
    anchor: Annotated[StrictInt, Field(ge=1, le=31)] | None = None
    model: ModelId | None = None
    warn_at: Percents = Field(default_factory=list)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        calendar = self.window in ("day", "week", "month")
        if (self.window == "rolling") != (self.seconds is not None):
            raise ValueError("`seconds` belongs to a rolling window, and to no other")
        if self.zone is not None and not calendar:
            raise ValueError("`zone` belongs to a window of the calendar: day, week or month")
        if self.anchor is not None and self.anchor > ANCHORS.get(self.window, 0):
            raise ValueError("`anchor` is a day of the week, 1 to 7, or of the month, 1 to 31")
        if self.unit == "parallel" and self.window != "none":
            raise ValueError("requests at one time have no window")
        require_watched(self.unit, self.window, self.warn_at)
        amount_of(self.unit, self.amount)
        return self

    def columns(self) -> tuple[object, ...]:
        """As limit_rule has them, from `unit` to `soft`."""
        anchored = self.window in ANCHORS
        calendar = anchored or self.window == "day"
        return (
            self.unit,
            self.window,
            self.seconds,
            (self.zone or "UTC") if calendar else None,
            (self.anchor or 1) if anchored else None,
            self.model,
            amount_of(self.unit, self.amount),
            self.warn_at,
        )


class LimitWanted(LimitTerms):
    """`subject` is the id of the key, the person or the team; the others have none."""

    level: Level
    subject: Annotated[str, StringConstraints(max_length=64)] = ""

    @model_validator(mode="after")
    def _named(self) -> Self:
        if (self.level in ("organisation", "end_user")) != (self.subject == ""):
            raise ValueError("`subject` names the key, the person or the team, and nothing else")
        return self


class LimitEdit(Input):
    """Fields that are not sent stay as they are. Another window or unit is another limit."""

    amount: Amount | None = None
    warn_at: Percents = Field(default_factory=list)


class LimitShown(Output):
    id: int
    level: str
    subject: str
    unit: str
    amount: int | str
    window: str
    seconds: int | None
    zone: str | None
    anchor: int | None
    model: str | None
    warn_at: list[int]
    by_platform: bool  # only the platform's people may loosen it
    organisation: UUID | None  # null: a plan's
    created_at: datetime


class LimitListed(LimitShown):
    """With what of it is used in the window that is open now, as far as it is booked; null: it is
    not counted in the ledger, or by each for itself."""

    used: int | str | None


class LimitEvent(Output):
    """The use of a limit has crossed one of its thresholds, once in each window."""

    id: int
    limit: int
    level: str | None  # null: the limit is gone
    subject: str | None
    unit: str | None
    end_user: str | None
    percent: int
    used: int | str
    amount: int | str
    window_start: int  # ms since 1970; 0: no window
    at: datetime


def shown(row: Row) -> LimitShown:
    named = {
        "amount": told(row["unit"], row["amount"]),
        "window": row["window_kind"],
        "warn_at": row["soft"],
    }
    return LimitShown.model_validate({**dict(row), **named})


def listed(row: Row, now_ms: int) -> LimitListed:
    used = _used(row, now_ms)
    found = None if used is None else told(row["unit"], used)
    return LimitListed.model_construct(**shown(row).__dict__, used=found)


def _used(row: Row, now_ms: int) -> int | None:
    kind, level = row["window_kind"], row["level"]
    if (
        row["unit"] == "parallel"
        or kind == "rolling"
        or level == "end_user"
        or row["shard"] is None
    ):
        return None
    begun = 0
    if kind != "none":
        window = Window(kind, zone=row["zone"], anchor=row["anchor"] or 1)
        begun, _ = windows.span(window, now_ms)
    return row["used"] if row["window_start"] == begun else 0


def event(row: Row) -> LimitEvent:
    amounts = {name: told(row["unit"], row[name]) for name in ("used", "amount")}
    return LimitEvent.model_validate({**dict(row), "limit": row["rule"], **amounts})


def told(unit: str | None, amount: int) -> int | str:
    return credits_text(amount) if unit == "credits" else amount
