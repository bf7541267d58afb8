"""Records of callers as they lie in Redis -> values. Pure."""

import time
from collections.abc import Sequence
from typing import Any

import orjson

from proxy.scripts import SHARD_KEYS
from proxy.shards import RawRecord
from proxy.types import KeyRecord, Meter, OrganisationRecord


def is_good(key: RawRecord) -> bool:
    """By this machine's clock; where money is held, the script asks the server's."""
    expired = 0 < key.expires_ms <= time.time_ns() // 1_000_000
    return key.status == "active" and not expired


def key_record(kid: str, shard: int, raw: RawRecord) -> KeyRecord:
    body = orjson.loads(raw.body)
    return KeyRecord(
        kid=kid,
        shard=shard,
        version=raw.version,
        digest=raw.digest,
        pepper=body["pepper"],
        organisation=body["organisation"],
        person=body["person"],
        models=None if body["models"] is None else frozenset(body["models"]),
        meters=_meters(shard, body["meters"]),
    )


def organisation_record(id: str, shard: int, raw: RawRecord) -> OrganisationRecord:
    return OrganisationRecord(id, raw.version, _meters(shard, orjson.loads(raw.body)["meters"]))


def _meters(shard: int, rows: Sequence[Any]) -> tuple[Meter, ...]:
    prefix = SHARD_KEYS[shard].prefix
    return tuple(
        Meter(prefix + owner.encode(), name.encode(), unit, label, limit)
        for owner, name, unit, label, limit in rows
    )
