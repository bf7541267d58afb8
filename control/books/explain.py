"""`opscenter ledger explain`: the life of one request, from every place that knows of it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg

from control import sql
from control.database import Pool
from control.store import AWAY, Store
from proxy.costs.charge import BYOK
from proxy.costs.price import read_price
from proxy.costs.pricing import cost_ucr, credits_text
from proxy.redis.scripts import SHARD_KEYS
from proxy.who.keys import SHARDS


@dataclass(frozen=True, slots=True)
class Life:
    """What is known of a request; `story` says it in sentences, oldest first."""

    request: UUID
    began_at: datetime
    found: bool
    story: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)


async def explain(pool: Pool, redis: Store, rid: UUID) -> Life:
    began = datetime.fromtimestamp((rid.int >> 80) / 1000, UTC)
    rows = await pool.fetch(sql.load()["explain_usage"], rid)
    story = [f"The request began at {began.isoformat(timespec='milliseconds')} (its id says so)."]
    try:
        story += await _in_redis(redis, rid)
    except AWAY as problem:
        story.append(f"Redis cannot be asked: {problem}.")
    for row in rows:
        story += _booked(row)
    found = len(story) > 1
    if not found:
        story.append(
            "Nobody knows of it: it was never admitted, or belongs to another installation."
        )
    return Life(rid, began, found, story, [_plain(row) for row in rows])


async def _in_redis(redis: Store, rid: UUID) -> list[str]:
    name, told = str(rid), list[str]()
    asked = [
        command
        for at in SHARD_KEYS
        for command in (
            ("HGET", at.hold, name),
            ("ZSCORE", at.lease, name),
            ("HGET", at.tomb, name),
        )
    ]
    replies = await redis.commands(asked)
    for shard in range(SHARDS):
        hold, lease, tomb = replies[shard * 3 : shard * 3 + 3]
        if hold:
            items = hold.split(b"|")[1].decode()
            until = datetime.fromtimestamp(float(lease or 0) / 1000, UTC).isoformat()
            told.append(
                f"It runs in shard {shard:02d}: holds {items} its lease lasts until {until}."
            )
        if tomb:
            told.append(f"It has settled in shard {shard:02d}; the ledger is about to book it.")
    return told


def _booked(row: asyncpg.Record) -> list[str]:
    cost = credits_text(row["cost"])
    spent = f"{cost} credits from {row['debit_kind']} {row['debit_owner']} to {row['credit_kind']}"
    story = [
        f"Booked as {row['kind']} at {row['at'].isoformat()} in shard {row['shard']:02d}, entry "
        f"{row['sid']}: {spent}, because of {row['reason'] or 'nothing special'}."
    ]
    if row["kind"] == "orphan":
        story.append("Its proxy died before it settled: this is what had been noted of its cost.")
    if row["kind"] == "correction":
        story.append("Its truth came after it had been booked as an orphan.")
    if row["late"]:
        story.append("It came after its hold had ended, so the ledger told Redis by the outbox.")
    if row["mode"] == BYOK:
        story.append(f"It went by a key of the caller's own for {row['provider']}, for nothing.")
    elif row["kind"] == "settled" and row["rates"] is not None:
        price = read_price(row["price_version"], dict(row))
        again = cost_ucr(row["tokens"], price)
        tokens = (
            ", ".join(f"{count} {name}" for name, count in row["tokens"].items()) or "no tokens"
        )
        same = "the same" if again == row["cost"] else f"NOT the {row['cost']} that was charged"
        told = row["usage_source"] + (f" by {row['tokenizer']}" if row["tokenizer"] else "")
        story.append(
            f"{tokens} ({told}) by price version {row['price_version']} of {row['model']} are"
            f" {again} ucr: {same}."
        )
    if row["cost"] > row["hold"] and row["kind"] == "settled":
        story.append(f"It cost more than the {row['hold']} ucr that were held: an overrun.")
    return story


def _plain(row: asyncpg.Record) -> dict[str, Any]:
    left_out = {"rates", "factor_ppm"}
    return {name: value for name, value in row.items() if name not in left_out}
