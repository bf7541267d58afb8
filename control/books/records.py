"""Rows -> what `publish` writes: the record of a key, a sign-in or an organisation, and the limits
of their owners, which lie beside the counts. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import asyncpg
import orjson

from control.access import OWN, POOL
from control.store import Call, Command, Word
from proxy.redis.scripts import SHARD_KEYS

RECORD_KEPT_MS = 3_600_000  # a sign-in's, beyond its end
END_USERS = "e"  # an owner that the proxies make for each

Row = asyncpg.Record | Mapping[str, Any]
Rules = Sequence[Mapping[str, Any]]
Meter = list[Any]  # owner in the shard, name, unit, whom it limits, limit, what narrows it

UNITS = {"calls": "call", "tokens": "tok", "credits": "ucr", "parallel": "slot"}


def key_calls(row: Row) -> list[Call]:
    """The record of a key or a sign-in, and before it the limits of the others that it names."""
    prefix = SHARD_KEYS[row["shard"]].prefix
    owner, team = f"k:{row['kid']}", f"w:t:{row['team']}"
    person = f"w:m:{row['organisation']}:{row['person']}"
    meters = _slots(owner, "key", row["parallel_max"]) + _budget(owner, "key", row["budget_ucr"])
    meters += _rules(owner, "key", row["rules"])
    pay = row.get("pay") or [POOL]  # a sign-in has no choice
    of_person = _allocation(person, row["person_budget_ucr"], pay)
    of_person += _rules(person, "person", row["person_rules"])
    of_team = _rules(team, "team", row["team_rules"])
    body = {
        "organisation": str(row["organisation"]),
        "person": str(row["person"]),
        "pepper": row["pepper"],
        "models": row["models"],
        "meters": _pools(row, pay) + meters + of_person + of_team,
        **{
            name: row[name]
            for name in ("routes", "addresses", "scopes")
            if row.get(name) is not None
        },
        **_old_secret(row),
        **_own(row),
    }
    fields = ("st", row["status"], "digest", row["digest"], "exp", row["expires_ms"])
    record = (row["version"], *fields, "body", orjson.dumps(body), *_limits(meters))
    return [
        *_owner_calls(prefix + person.encode(), row["person_version"], of_person),
        *_owner_calls(prefix + team.encode(), row["team_version"], of_team),
        ("publish", [prefix + owner.encode()], record),
    ]


def organisation_call(row: Row) -> Call:
    owner = f"o:{row['id']}"
    meters: list[Meter] = [[owner, "pool", "pool", "organisation", 0]]
    limits = _slots(owner, "organisation", row["parallel_max"])
    limits += _budget(owner, "organisation", row["budget_ucr"])
    limits += _rules(owner, "organisation", row["rules"]) + _rules(owner, "plan", row["plan_rules"])
    each = _rules(END_USERS, "end_user", row["end_user_rules"])
    body = orjson.dumps({"meters": meters + limits + each, **_own(row)})
    record = (row["version"], "st", row["status"], "body", body, *_limits(limits))
    return "publish", [SHARD_KEYS[row["shard"]].organisation(str(row["id"]))], record


def job_call(row: Row) -> Call:
    """Its ceiling. One that requests made is forgotten in time, as if Redis had never lost it."""
    owner = f"w:j:{row['organisation']}:{row['id']}"
    told: tuple[Word, ...] = ("bud.l", row["ceiling"])
    if row["kept"]:
        told += ("st", "active" if row["closed_at"] is None else "closed")
    return "publish", [SHARD_KEYS[row["shard"]].prefix + owner.encode()], (row["version"], *told)


def end_of(sign_in: Row) -> Command:
    """A sign-in's record goes by itself; it counts nothing of its own."""
    name = SHARD_KEYS[sign_in["shard"]].key(sign_in["kid"])
    return "PEXPIREAT", name, sign_in["expires_ms"] + RECORD_KEPT_MS


def revokes(call: Call) -> bool:
    """Whether it publishes a key or an organisation that admits nothing any more."""
    _, what, status, *_ = call[2]
    return what == "st" and status != "active"


def _old_secret(row: Row) -> dict[str, dict[str, str | int]]:
    if row["old_digest"] is None:
        return {}
    of = {"digest": row["old_digest"], "pepper": row["old_pepper"], "until_ms": row["old_until_ms"]}
    return {"old": of}


def _own(row: Row) -> dict[str, object]:
    """Providers' keys that he or they have brought, sealed."""
    return {"own": row["own"]} if row.get("own") else {}


def _owner_calls(name: bytes, version: int | None, meters: Sequence[Meter]) -> list[Call]:
    limits = _limits(meters)
    return [("publish", [name], (version, *limits))] if version is not None and limits else []


def _limits(meters: Iterable[Meter]) -> tuple[Word, ...]:
    """They lie beside the counts, so that a changed limit holds for the next request."""
    limits: tuple[Word, ...] = ()
    for _, name, _, _, limit, *_ in meters:
        limits += (f"{name}.l", limit)
    return limits


# Meters of a record --------------------------------------------------------------------


def _slots(owner: str, label: str, limit: int | None) -> list[Meter]:
    return [] if limit is None else [[owner, "par", "slot", label, limit]]


def _budget(owner: str, label: str, limit: int | None) -> list[Meter]:
    return [] if limit is None else [[owner, "bud", "ucr", label, limit]]


def _pools(row: Row, pay: Sequence[str]) -> list[Meter]:
    """Who pays, in the key's order, in place of the organisation's pool."""
    if list(pay) == [POOL]:
        return []
    labels = {POOL: "organisation", OWN: "person"}
    owners = {POOL: f"o:{row['organisation']}", OWN: f"w:m:{row['organisation']}:{row['person']}"}
    return [
        [owners[payer], "pool", "pool", labels[payer], 0, {"way": way}]
        for way, payer in enumerate(pay, 1)
    ]


def _allocation(person: str, limit: int | None, pay: Sequence[str]) -> list[Meter]:
    """A member's part of the pool: it counts on that way of payment and on no other."""
    if POOL not in pay:
        return []
    meters = _budget(person, "person", limit)
    return meters if len(pay) == 1 else [[*m, {"way": pay.index(POOL) + 1}] for m in meters]


def _rules(owner: str, label: str, rules: Rules | None) -> list[Meter]:
    return [_rule(owner, label, rule) for rule in rules or ()]


def _rule(owner: str, label: str, rule: Mapping[str, Any]) -> Meter:
    meter: Meter = [owner, f"l{rule['id']}", UNITS[rule["unit"]], label, rule["amount"]]
    narrowed: dict[str, object] = {}
    if rule["window"] != "none":
        narrowed["window"] = _window(rule)
    if rule["model"] is not None:
        narrowed["model"] = rule["model"]
    return [*meter, narrowed] if narrowed else meter


def _window(rule: Mapping[str, Any]) -> dict[str, object]:
    if rule["window"] == "rolling":
        return {"kind": "rolling", "ms": rule["seconds"] * 1000}
    calendar = {"kind": rule["window"], "zone": rule["zone"]}
    return calendar if rule["anchor"] is None else {**calendar, "anchor": rule["anchor"]}
