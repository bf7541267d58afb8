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
        meters=_meters(SHARD_KEYS[shard].key(kid), "key", body["meters"]),
    )


def organisation_record(id: str, shard: int, raw: RawRecord) -> OrganisationRecord:
    body = orjson.loads(raw.body)
    owner = SHARD_KEYS[shard].organisation(id)
    return OrganisationRecord(id, raw.version, _meters(owner, "organisation", body["meters"]))


def _meters(owner: bytes, label: str, rows: Sequence[Any]) -> tuple[Meter, ...]:
    return tuple(Meter(owner, name.encode(), unit, label, limit) for name, unit, limit in rows)
