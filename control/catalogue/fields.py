"""A model as a provider's list has it, and what can be read of a line of one. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TEXT_MAX = 200  # characters
# its provider's name comes before it
_name = re.compile(r"[A-Za-z0-9._:/@+~-]{1,180}").fullmatch
TOKENS_MAX = 100_000_000
Json = Mapping[str, Any]


class ListInvalid(Exception):
    """This is no list of models; the message says what is wrong."""


def is_name(text: str) -> bool:
    """What a URL, a header or a log line could not hold is no name of a model."""
    return _name(text) is not None


@dataclass(frozen=True, slots=True)
class Listed:
    """A model as its provider's list has it; what it does not say is empty."""

    upstream_model: str
    name: str = ""
    context_max: int | None = None
    output_max: int | None = None
    kind: str = ""
    takes: Sequence[str] = ()
    gives: Sequence[str] = ()
    rates: Mapping[str, int] = field(default_factory=dict)
    note: str = ""


def rows_of(whole: Any, name: str) -> list[Json]:
    found = whole.get(name) if isinstance(whole, dict) else None
    if not isinstance(found, list):
        raise ListInvalid(f"it has no list `{name}`")
    return [row for row in found if isinstance(row, dict)]


def listed(row: Json, field: str, **said: Any) -> Listed | None:
    name = text_of(row, field)
    if not is_name(name):
        return None
    return Listed(name, **said)


def text_of(row: Any, name: str) -> str:
    value = row.get(name) if isinstance(row, dict) else None
    return value[:TEXT_MAX] if isinstance(value, str) else ""


def texts_of(row: Json, name: str) -> list[str]:
    value = row.get(name)
    return (
        [one[:20] for one in value if isinstance(one, str)][:10] if isinstance(value, list) else []
    )


def object_of(row: Json, name: str) -> Json:
    value = row.get(name)
    return value if isinstance(value, dict) else {}


def tokens_of(row: Json, *names: str) -> int | None:
    for name in names:
        value = row.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= TOKENS_MAX:
            return value
    return None
