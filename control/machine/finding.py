"""What a check of the doctor finds: how bad it is, what it is, and its cure. Looks at nothing."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    level: Level
    name: str
    says: str
    cure: str = ""


def ok(name: str, says: str) -> Finding:
    return Finding("ok", name, says)


def warn(name: str, says: str, cure: str) -> Finding:
    return Finding("warn", name, says, cure)


def fail(name: str, says: str, cure: str) -> Finding:
    return Finding("fail", name, says, cure)
