"""Sections in, the current Snapshot out: built completely, then swapped by one assignment.

A snapshot that cannot be read leaves the old one in force.
"""

import asyncio
import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import orjson

from proxy.errors import NotReady
from proxy.keyfile import KeyFile
from proxy.pipe import RedisDown
from proxy.price import read_price
from proxy.providers.catalog import ADAPTERS
from proxy.shards import Shards
from proxy.tokens import issuers_of
from proxy.types import Deployment, Model, Snapshot

FIRST_POLL_S = 0.02  # until there is a snapshot, and while Redis is away

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
    found = {row["id"]: _model(row, keys) for row in rows}
    # nobody else is taken for us
    everybody = {**issuers_of(foreign), **issuers_of(issuers)}
    return Snapshot(version, MappingProxyType(found), MappingProxyType(everybody))


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
            self.snapshot = build(version, models, self._keys, issuers, foreign)
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


def _model(row: Mapping[str, Any], keys: KeyFile) -> Model:
    price = row["price"]
    return Model(
        id=row["id"],
        context_max=row["context_max"],
        output_max=row["output_max"],
        thinks=row["thinks"],
        places=MappingProxyType(row.get("places") or {}),
        created=row["created"],
        deployments=tuple(d for r in row["deployments"] if (d := _deployment(row["id"], r, keys))),
        price=price and read_price(price["version"], price),
    )


def _deployment(model: str, row: Mapping[str, Any], keys: KeyFile) -> Deployment | None:
    if row["adapter"] not in ADAPTERS:
        log.error("deployment %s of %s: unknown adapter %s", row["id"], model, row["adapter"])
        return None
    try:
        sealed = row["secret"] and row["secret"].encode()
        secret = keys.open(row["provider"], row["base_url"], sealed) if sealed else ""
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
