"""The first day: a platform organisation, its administrator, an API key and credits to try.

Does nothing where any organisation exists. What it returns is shown once and stored only hashed.
"""

import uuid
from dataclasses import dataclass

from control import ledger, passwords, sql
from control.database import Connection
from control.secrets import unlock
from control.settings import ControlSettings
from proxy import keys
from proxy.keyfile import KeyFile

UCR_PER_CREDIT = 1_000_000
FIRST_ORGANISATION = "Platform"
FIRST_KEY = "first key"


@dataclass(frozen=True, slots=True)
class FirstAccess:
    """Shown once; nothing of it can be read again."""

    email: str
    password: str
    api_key: str


async def setup(settings: ControlSettings, conn: Connection) -> FirstAccess | None:
    """Makes the first day in one transaction; None where it was made before."""
    keyring = unlock(settings).keys
    query = sql.load()
    async with conn.transaction():
        await conn.execute(query["setup_lock"])
        if await conn.fetchrow(query["organisation_any"]):
            return None
        password = passwords.generate()
        digest = await passwords.Passwords(1).digest(password)
        organisation, shard = await _organisation(conn)
        person = await _owner(conn, settings.admin_email.lower(), digest, organisation)
        key = await _key(conn, keyring, organisation, shard, person)
        if settings.grant_credits:
            amount = settings.grant_credits * UCR_PER_CREDIT
            await ledger.grant(conn, organisation, amount, "first start", "system")
    return FirstAccess(settings.admin_email.lower(), password, key)


async def _organisation(conn: Connection) -> tuple[uuid.UUID, int]:
    row = await conn.fetchrow(
        sql.load()["organisation_add"], uuid.uuid4(), FIRST_ORGANISATION, True, None
    )
    assert row is not None
    await _announce(conn, "o", str(row["id"]))
    return row["id"], row["shard"]


async def _owner(conn: Connection, email: str, digest: str, organisation: uuid.UUID) -> uuid.UUID:
    person = uuid.uuid4()
    query = sql.load()
    await conn.fetchrow(query["person_add"], person, email, "Administrator", digest)
    await conn.execute(query["membership_add"], organisation, person, "admin", True)
    detail = {"email": email, "role": "admin", "owner": True}
    subject = f"person:{person}"
    await conn.execute(query["audit_add"], "system", "setup", subject, organisation, detail)
    return person


async def _key(
    conn: Connection, keyring: KeyFile, organisation: uuid.UUID, shard: int, person: uuid.UUID
) -> str:
    key = keys.mint(shard)
    pepper = keyring.pepper_version
    digest = keyring.digest(key.text, pepper)
    await conn.fetchrow(
        sql.load()["api_key_add"],
        *(key.kid, organisation, person, FIRST_KEY, digest, pepper, key.text[-4:]),
        *(None, None, None),
    )
    await _announce(conn, "k", key.kid)
    return key.text


async def _announce(conn: Connection, kind: str, record: str) -> None:
    await conn.execute(sql.load()["outbox_record_add"], kind, record)
