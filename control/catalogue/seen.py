"""A provider's list beside what is known of its models. Pure."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from control.catalogue.families import family_of
from control.catalogue.fields import Listed

_dated = re.compile(r"(.+?)[-@](?:\d{4}-\d{2}-\d{2}|\d{8})").fullmatch
UNPRICED = "its provider's list tells no price, and no package has one"


def merged(
    listed: Iterable[Listed], known: Sequence[str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows to write, and what else is there: names without a date that the list has with one.
    A name that differs from a known one in its letters' case alone is that one."""
    spelled = {name.lower(): name for name in known}
    rows, also = dict[str, dict[str, Any]](), set[str]()
    for one in listed:
        name = spelled.get(one.upstream_model.lower(), one.upstream_model)
        stem = _stem(name)
        if stem in spelled:
            also |= {spelled[stem]}
        also |= {spelled[f"{stem}-latest"]} if f"{stem}-latest" in spelled else set()
        same_as = spelled.get(stem, "") if stem and name.lower() not in spelled else ""
        rows[name] = _row(one, name, same_as)
    return list(rows.values()), sorted(also - set(rows))


def _stem(name: str) -> str:
    match = _dated(name.lower())
    return match[1] if match else ""


def _row(one: Listed, name: str, same_as: str) -> dict[str, Any]:
    family = family_of(name)
    return {
        "upstream_model": name,
        "name": one.name,
        "kind": one.kind or family.kind,
        "takes": list(one.takes or family.takes),
        "gives": list(one.gives or family.gives),
        "thinks": family.thinks,
        "context_max": one.context_max,
        "output_max": one.output_max or family.output_max,
        "listed": {"rates": dict(one.rates), "tiers": [], "note": one.note} if one.rates else None,
        "same_as": same_as,
        "why_unpriced": UNPRICED,
    }
