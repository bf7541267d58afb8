"""Records of callers as they lie in Redis -> values. Pure."""

import secrets
import time
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from types import MappingProxyType
from typing import Any
from uuid import UUID

import orjson

from proxy.bounds.meters import EACH_END_USER, Meter, Window
from proxy.redis.replies import RawRecord
from proxy.redis.scripts import SHARD_KEYS
from proxy.types import KeyRecord, Names, Network, OldSecret, OrganisationRecord, OwnKey
from proxy.who.keys import KID_LENGTH

NOTHING_MORE: Mapping[str, Any] = MappingProxyType({})


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
        scopes=_scopes(body.get("scopes")),
        own=_own(f"m:{body['organisation']}:{body['person']}", body),
    )


def organisation_record(id: str, shard: int, raw: RawRecord) -> OrganisationRecord:
    body = orjson.loads(raw.body)
    return OrganisationRecord(
        id, raw.version, _meters(shard, body["meters"]), _own(f"o:{id}", body)
    )


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


def _scopes(written: Sequence[str] | None) -> frozenset[str] | None:
    return None if written is None else frozenset(written)


def _networks(written: Sequence[str] | None) -> tuple[Network, ...] | None:
    return None if written is None else tuple(ip_network(one) for one in written)


def _old(body: Mapping[str, Any] | None) -> OldSecret | None:
    if body is None:
        return None
    return OldSecret(bytes.fromhex(body["digest"]), body["pepper"], body["until_ms"])


def _own(owner: str, body: Mapping[str, Any]) -> tuple[OwnKey, ...]:
    """Whose they are is what the record is of: a key that lies in another's record cannot be
    opened."""
    return tuple(
        OwnKey(
            name=row["name"],
            kind=row["kind"],
            owner=owner,
            adapter=row["adapter"],
            base_url=row["base_url"],
            sealed=row["secret"].encode(),
            fallback=row["fallback"],
            quirks=row.get("quirks") or NOTHING_MORE,
            models=row.get("models") or NOTHING_MORE,
        )
        for row in body.get("own") or ()
    )


def _meters(shard: int, rows: Sequence[Any]) -> tuple[Meter, ...]:
    prefix = SHARD_KEYS[shard].prefix
    return tuple(_meter(prefix, *row) for row in rows)


def _meter(
    prefix: bytes,
    owner: str,
    name: str,
    unit: str,
    label: str,
    limit: int,
    more: Mapping[str, Any] = NOTHING_MORE,
) -> Meter:
    window = more.get("window")
    named = owner.encode()
    return Meter(
        owner=named if named == EACH_END_USER else prefix + named,
        name=name.encode(),
        unit=unit,
        label=label,
        limit=limit,
        window=None if window is None else Window(**window),
        model=more.get("model"),
        way=more.get("way", 1 if unit == "pool" else 0),
    )
