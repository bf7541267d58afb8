"""Sections in, the current Snapshot out: built completely, then swapped by one assignment.

A snapshot that cannot be read leaves the old one in force.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any

import orjson

from proxy.costs.price import read_price
from proxy.errors import NotReady
from proxy.names import named
from proxy.providers.catalog import ADAPTERS
from proxy.redis.pipe import RedisDown
from proxy.redis.shards import Shards
from proxy.types import Deployment, Model, Snapshot
from proxy.who.keyfile import KeyFile
from proxy.who.tokens import issuers_of

MODALITIES_KEPT = 1_000
FIRST_POLL_S = 0.02  # until there is a snapshot, and while Redis is away

Opened = Callable[[str, str, str | None], str]  # of a provider, its address and its sealed key

log = logging.getLogger("opscenter.proxy.snapshot")


def build(
    version: int,
    models: bytes,
    keys: KeyFile,
    issuers: bytes = b"[]",
    foreign: bytes = b"[]",
) -> Snapshot:
    """Reads what `control/books/publish.py` wrote; a deployment that cannot be used is left out."""
    rows = orjson.loads(models)
    opened = lru_cache(None)(partial(_opened, keys))  # a provider has many models and one key
    found, names = named(_model(row, opened) for row in rows)
    # nobody else is taken for us
    everybody = {**issuers_of(foreign), **issuers_of(issuers)}
    everything = (MappingProxyType(found), MappingProxyType(everybody), MappingProxyType(names))
    return Snapshot(version, *everything)


class Current:
    """The snapshot in force in this worker, kept fresh by polling one small field."""

    def __init__(self, shards: Shards, keys: KeyFile, poll_ms: int) -> None:
        self.snapshot = Snapshot()
        self.fresh = False  # Redis is filled and this is what it has
        self._shards = shards
        self._keys = keys
        self._poll_s = poll_ms / 1000
        self._told = ""
        self._marks = (0, b"")

    def in_force(self) -> Snapshot:
        """What requests are served by; before the first one nobody knows which models there are."""
        if not self.snapshot.version:
            raise NotReady
        return self.snapshot

    async def refresh(self) -> None:
        if not self.fresh:
            await self._shards.check_filled()
        if await self._shards.snapshot_marks() != self._marks:
            version, models, issuers, foreign = await self._shards.snapshot()
            sections = (models, self._keys, issuers, foreign)
            self.snapshot = await asyncio.to_thread(build, version, *sections)
            self._marks = (version, foreign)
        self.fresh = True

    async def keep(self) -> None:
        while True:
            try:
                await self.refresh()
                self._tell("")
            except RedisDown as problem:
                self.fresh = False
                self._tell(str(problem))
            except (ValueError, KeyError, TypeError) as problem:
                self._tell(f"the published snapshot cannot be read: {problem!r}")
            await asyncio.sleep(self._poll_s if self.fresh else FIRST_POLL_S)

    def _tell(self, problem: str) -> None:
        """One line per change of state, not one per try."""
        if problem != self._told:
            log.warning("snapshot not refreshed: %s", problem) if problem else log.info(
                "snapshot fresh again"
            )
        self._told = problem


def _opened(keys: KeyFile, provider: str, base_url: str, sealed: str | None) -> str:
    return keys.open(provider, base_url, sealed.encode()) if sealed else ""


def _model(row: Mapping[str, Any], opened: Opened) -> Model:
    price = row["price"]
    return Model(
        id=row["id"],
        context_max=row["context_max"],
        output_max=row["output_max"],
        thinks=row["thinks"],
        places=MappingProxyType(dict(row.get("places") or ())),
        byok=row.get("byok", True),
        created=row["created"],
        deployments=tuple(
            place for r in row["deployments"] if (place := _deployment(row["id"], r, opened))
        ),
        price=price and read_price(price["version"], price),
        output_assumed=row.get("output_assumed", False),
        title=row.get("name") or "",
        takes=_shared(row.get("takes")),
        gives=_shared(row.get("gives")),
    )


def _shared(said: list[str] | None) -> tuple[str, ...]:
    """Most models say the same: it is kept once."""
    return _interned(tuple(said or ("text",)))


@lru_cache(maxsize=MODALITIES_KEPT)
def _interned(said: tuple[str, ...]) -> tuple[str, ...]:
    return said


def _deployment(model: str, row: Mapping[str, Any], opened: Opened) -> Deployment | None:
    if row["adapter"] not in ADAPTERS:
        log.error("deployment %s of %s: unknown adapter %s", row["id"], model, row["adapter"])
        return None
    try:
        secret = opened(row["provider"], row["base_url"], row["secret"])
    except ValueError as problem:
        log.error("deployment %s of %s: %s", row["id"], model, problem)
        return None
    return Deployment(
        id=row["id"],
        model=model,
        provider=row["provider"],
        adapter=row["adapter"],
        base_url=row["base_url"],
        upstream_model=row["upstream_model"],
        secret=secret,
        quirks=MappingProxyType(row.get("quirks") or {}),
    )
