"""Makes organisations, people and API keys, inside the caller's transaction.

Shared by the first start and the API; decides nothing about who may.
"""

import hashlib
import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import asyncpg

from control import sql
from control.database import Connection
from proxy.who import keys
from proxy.who.keyfile import KeyFile

SESSION_BEGINS = "ses_"
POOL, OWN = "organisation", "own"  # who pays: the organisation's pool, the member's own credits


@dataclass(frozen=True, slots=True)
class NewKey:
    """What an API key is to be; its text is made here and nowhere stored."""

    organisation: uuid.UUID
    shard: int
    person: uuid.UUID
    name: str
    models: Sequence[str] | None = None
    parallel_max: int | None = None
    expires_at: datetime | None = None
    budget_ucr: int | None = None
    routes: Sequence[str] | None = None
    addresses: Sequence[str] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    pay: Sequence[str] = (POOL,)  # who pays, in this order
    scopes: Sequence[str] | None = None


async def add_organisation(
    conn: Connection, organisation: uuid.UUID, name: str, *, platform: bool, parallel: int | None
) -> asyncpg.Record:
    plan = await conn.fetchval(sql.load()["plan_for_new"])
    row = await conn.fetchrow(
        sql.load()["organisation_add"], organisation, name, platform, parallel, plan
    )
    assert row is not None
    return row


async def add_key(conn: Connection, keyring: KeyFile, key: keys.Key, wanted: NewKey) -> None:
    pepper = keyring.pepper_version
    await conn.execute(
        sql.load()["api_key_add"],
        key.kid,
        wanted.organisation,
        wanted.person,
        wanted.name,
        keyring.digest(key.text, pepper),
        pepper,
        key.text[-4:],
        listed(wanted.models),
        listed(wanted.routes),
        listed(wanted.addresses),
        dict(wanted.tags),
        wanted.parallel_max,
        wanted.budget_ucr,
        wanted.expires_at,
        list(wanted.pay),
        listed(wanted.scopes),
    )


def listed(values: Sequence[str] | None) -> list[str] | None:
    return None if values is None else list(values)


def new_session_token() -> str:
    """256 random bits; only its digest is stored."""
    return SESSION_BEGINS + secrets.token_urlsafe(32)


def session_digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
