"""Records of callers as they lie in Redis -> values. Pure."""

import secrets
import time
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from typing import Any
from uuid import UUID

import orjson

from proxy.keys import KID_LENGTH
from proxy.scripts import SHARD_KEYS
from proxy.shards import RawRecord
from proxy.types import KeyRecord, Meter, Names, Network, OldSecret, OrganisationRecord, Window


def is_good(key: RawRecord) -> bool:
    """By this machine's clock; where money is held, the script asks the server's."""
    return key.status == "active" and not is_past(key.expires_ms)


def is_past(moment_ms: int) -> bool:
    """By this machine's clock; 0 is never."""
    return 0 < moment_ms <= time.time_ns() // 1_000_000


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
        models=_names(body["models"]),
        meters=_meters(shard, body["meters"]),
        routes=_names(body.get("routes")),
        addresses=_networks(body.get("addresses")),
        old=_old(body.get("old")),
    )


def organisation_record(id: str, shard: int, raw: RawRecord) -> OrganisationRecord:
    return OrganisationRecord(id, raw.version, _meters(shard, orjson.loads(raw.body)["meters"]))


def nobodys(pepper: int) -> RawRecord:
    """Stands where there is no record, so that a key that nobody has costs as much as one that
    somebody has: nobody's secret has its digest.
    """
    meter = ["k:" + "0" * KID_LENGTH, "par", "slot", "key", 1]
    body = {
        "pepper": pepper,
        "organisation": str(UUID(int=0)),
        "person": str(UUID(int=0)),
        "models": None,
        "routes": None,
        "addresses": None,
        "old": None,
        "meters": [meter],
    }
    return RawRecord(0, "none", orjson.dumps(body), secrets.token_bytes(32))


def _names(written: Sequence[str] | None) -> Names | None:
    return None if written is None else Names.of(written)


def _networks(written: Sequence[str] | None) -> tuple[Network, ...] | None:
    return None if written is None else tuple(ip_network(one) for one in written)


def _old(body: Mapping[str, Any] | None) -> OldSecret | None:
    if body is None:
        return None
    return OldSecret(bytes.fromhex(body["digest"]), body["pepper"], body["until_ms"])


def _meters(shard: int, rows: Sequence[Any]) -> tuple[Meter, ...]:
    prefix = SHARD_KEYS[shard].prefix
    meters = [_meter(prefix, *row) for row in rows]
    meters = [m for m in meters if _is_known(m)]
    return tuple(meters)


def _meter(
    prefix: bytes,
    owner: str,
    name: str,
    unit: str,
    label: str,
    limit: int,
    narrowed: Mapping[str, Any] | None = None,
) -> Meter:
    told = narrowed or {}
    named = (prefix + owner.encode(), name.encode(), unit, label, limit)
    return Meter(*named, _window(told.get("window")), told.get("model"))


def _window(told: Mapping[str, Any] | None) -> Window | None:
    if told is None:
        return None
    return Window(told["kind"], told.get("ms", 0), told.get("zone", ""), told.get("anchor", 1))


def _is_known(meter: Meter) -> bool:
    is_narrowed = meter.window or meter.model or meter.label == "end_user"
    return meter.unit in ("pool", "ucr", "slot") and not is_narrowed
