"""Reads what a provider sent without trusting its shape: another type counts as absent. Pure."""

from collections.abc import Mapping
from math import ceil
from typing import Any

import orjson

from proxy.costs.price import SIDES
from proxy.dialects.events import Failed
from proxy.types import Usage

TOKENS_MAX = 1_000_000_000  # a provider that counts more than this has not counted
Object = Mapping[str, Any]
NOTHING: Object = {}
UNREADABLE = Failed("unreadable", "The provider's answer is not what was expected.")


def loaded(data: bytes) -> Object:
    """An object, or an empty one where the bytes are none."""
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return NOTHING
    return found if isinstance(found, dict) else NOTHING


def inner(fields: Object, name: str) -> Object:
    found = fields.get(name)
    return found if isinstance(found, dict) else NOTHING


def rows(fields: Object, name: str) -> list[Object]:
    """The objects of a list."""
    found = fields.get(name)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def text(fields: Object, name: str) -> str:
    found = fields.get(name)
    return found if isinstance(found, str) else ""


def count(fields: Object, name: str) -> int | None:
    """A number of tokens; whole floats are sent too, and bool is an int to Python."""
    value = fields.get(name)
    if type(value) is int:
        return value if 0 <= value <= TOKENS_MAX else None
    if type(value) is float:
        return ceil(value) if 0 <= value <= TOKENS_MAX else None
    return None


def usage_of(counts: Mapping[str, int], told: Object, total: int | None = None) -> Usage:
    """A reading of what was told, doubted where its sum is not the provider's own total."""
    found = {name: number for name, number in counts.items() if number}
    if total is not None and total != sum(n for name, n in found.items() if name in SIDES):
        return Usage(found, doubt="total_differs")
    return Usage(found, doubt=doubt_of(told))


def doubt_of(told: Object) -> str:
    """Whether anything that is a number cannot be one of tokens; without recursion, as deep as a
    provider may write."""
    waiting = [told]
    for fields in waiting:
        for value in fields.values():
            kind = type(value)
            if kind is int or kind is float:
                if not 0 <= value <= TOKENS_MAX:
                    return "count_absurd"
            elif value and kind is dict:
                waiting.append(value)
    return ""


def as_json(value: object) -> str:
    """Raises ValueError for what nests so deep that it was read and cannot be written."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as problem:
        raise ValueError(str(problem)) from None
