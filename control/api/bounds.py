"""A key that makes or changes a key gives it no more than it has itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, ip_network
from typing import Any

from control.access import POOL
from control.errors import GrantTooHigh
from proxy.costs.pricing import credits_text


@dataclass(frozen=True, slots=True)
class Terms:
    """What a key is limited to; None: not at all."""

    models: Sequence[str] | None
    routes: Sequence[str] | None
    addresses: Sequence[str] | None
    parallel_max: int | None
    budget_ucr: int | None
    expires_at: datetime | None
    rules: Sequence["Rule"] = ()
    pay: Sequence[str] = (POOL,)
    scopes: Sequence[str] | None = None


#: Unit, window, seconds, zone, anchor, model and amount of a limit.
Rule = tuple[Any, ...]
RULE = ("unit", "window_kind", "seconds", "zone", "anchor", "model", "amount")


def terms_of(row: Mapping[str, Any]) -> Terms:
    return Terms(
        row["models"],
        row["routes"],
        row["addresses"],
        row["parallel_max"],
        row["budget_ucr"],
        row["expires_at"],
        [tuple(map(rule.__getitem__, RULE)) for rule in row["rules"] or ()],
        row["pay"],
        row["scopes"],
    )


def require_within(held: Terms, wanted: Terms) -> None:
    if not _named_by(wanted.models, held.models):
        raise GrantTooHigh(why="the key that you use may not use all of these models")
    if not _named_by(wanted.routes, held.routes):
        raise GrantTooHigh(why="the key that you use may not call all of these paths")
    if not _named_by(wanted.scopes, held.scopes):
        raise GrantTooHigh(why="the key that you use does not have all of these scopes")
    if not _inside(wanted.addresses, held.addresses):
        raise GrantTooHigh(why="the key that you use may not be used from all of these addresses")
    if not set(wanted.pay) <= set(held.pay):
        raise GrantTooHigh(why=f"the key that you use is paid by {' or '.join(held.pay)} alone")
    end = held.expires_at
    if end and (wanted.expires_at is None or wanted.expires_at > end):
        raise GrantTooHigh(why=f"the key that you use ends at {end:%Y-%m-%d %H:%M}Z")
    most = held.parallel_max
    if most and (wanted.parallel_max is None or wanted.parallel_max > most):
        raise GrantTooHigh(why=f"the key that you use may run {most} requests at one time")
    budget = held.budget_ucr
    if budget is not None and (wanted.budget_ucr is None or wanted.budget_ucr > budget):
        raise GrantTooHigh(why=f"the key that you use has a budget of {credits_text(budget)}")
    for rule in held.rules:
        if not any(_as_tight(one, rule) for one in wanted.rules):
            raise GrantTooHigh(
                why=f"the key that you use has a limit of {rule[0]}; give this one too"
            )


def _as_tight(wanted: Rule, held: Rule) -> bool:
    *window, model, amount = wanted
    return window == list(held[:-2]) and model in (None, held[-2]) and amount <= held[-1]


def _named_by(wanted: Sequence[str] | None, held: Sequence[str] | None) -> bool:
    """Whether every name, and every name that begins so, is held."""
    if held is None:
        return True
    beginnings = tuple(name[:-1] for name in held if name.endswith("*"))
    return wanted is not None and all(
        name in held or name.removesuffix("*").startswith(beginnings) for name in wanted
    )


def _inside(wanted: Sequence[str] | None, held: Sequence[str] | None) -> bool:
    if held is None:
        return True
    return wanted is not None and all(
        any(_is_part(inner, outer) for outer in held) for inner in wanted
    )


def _is_part(inner: str, outer: str) -> bool:
    one, other = ip_network(inner), ip_network(outer)
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.subnet_of(other)
    return not isinstance(other, IPv4Network) and one.subnet_of(other)
