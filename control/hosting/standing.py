"""What is known of each plugin in this process, and how it is shown to administrators."""

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from control.hosting.fence import Fence
from control.hosting.living import Living
from control.hosting.rows import Row
from plugins.registry import Found

RETRY_FIRST_S, RETRY_MAX_S = 5.0, 300.0  # pauses before a plugin that failed is tried again
AHEAD_S = 30.0  # how long a write of ours may still be uncommitted

Standing = Literal["found", "running", "unwell", "failing", "broken", "missing"]


@dataclass(frozen=True, slots=True)
class PluginState:
    """A plugin as administrators see it.

    found: installed, not enabled. running: all is well. unwell: it says itself what is wrong.
    failing: calls are refused after too many failures. broken: enabled or tried, but could not be
    used. missing: enabled, but not installed here.
    """

    name: str
    version: str
    enabled: bool
    state: Standing
    error: str  # one sentence; "" when there is nothing to say
    permissions: tuple[str, ...]
    seconds: float  # spent inside the plugin since this process began


@dataclass(slots=True)
class Record:
    """What this process knows of one plugin beyond its life."""

    fence: Fence
    row: Row  # what was last applied here, or tried
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # one change at a time
    error: str = ""  # why the last change failed
    unwell: str = ""  # what its health said last
    ahead_until: float = 0.0  # until then our own write may be newer than what can be read
    retry_at: float = 0.0  # 0: nothing to try again
    pause_s: float = field(default_factory=lambda: RETRY_FIRST_S)

    def succeeded(self, row: Row) -> None:
        self.row, self.error, self.unwell = row, "", ""
        self.retry_at, self.pause_s = 0.0, RETRY_FIRST_S

    def failed(self, row: Row, error: str, now: float) -> None:
        """It will be tried again, ever more rarely."""
        self.row, self.error = row, error
        self.retry_at = now + self.pause_s
        self.pause_s = min(self.pause_s * 2, RETRY_MAX_S)

    def due(self, row: Row, now: float) -> bool:
        """Whether what the database says must be applied here."""
        if row.stamp == self.row.stamp:
            return 0 < self.retry_at <= now
        if row.version < self.row.version:
            return now >= self.ahead_until  # our own write was taken back
        return True


def state_of(
    name: str, found: Found | None, record: Record | None, living: Living | None
) -> PluginState:
    standing, error = _standing(found, record, living)
    shown = living.found if living else found
    return PluginState(
        name=name,
        version=shown.version if shown else "",
        enabled=record.row.enabled if record else False,
        state=standing,
        error=error,
        permissions=shown.permissions if shown else (),
        seconds=round(record.fence.seconds, 6) if record else 0.0,
    )


def _standing(
    found: Found | None, record: Record | None, living: Living | None
) -> tuple[Standing, str]:
    if living is not None and record is not None:
        return _alive(record)
    if found is None:
        return "missing", "It is not installed here. Install it, or disable it."
    if found.problem:
        return "broken", found.problem
    if record is not None and record.error:
        return "broken", record.error
    return "found", ""


def _alive(record: Record) -> tuple[Standing, str]:
    if record.fence.open:
        return "failing", record.fence.reason or record.error
    if record.unwell:
        return "unwell", record.unwell
    return "running", record.error or record.fence.reason
