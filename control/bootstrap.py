"""The first day: a platform organisation, its administrator, an API key and credits to try.

Does nothing where any organisation exists. What it returns is shown once and stored only hashed.
"""

import uuid
from dataclasses import dataclass, field

from control import passwords, sql
from control.access import NewKey, add_key, add_organisation
from control.books import ledger
from control.database import Connection
from control.money import UCR_PER_CREDIT
from control.secrets import unlock
from control.settings import ControlSettings
from proxy.who import keys

FIRST_ORGANISATION = "Platform"
FIRST_KEY = "first key"


@dataclass(frozen=True, slots=True)
class FirstAccess:
    """Shown once; nothing of it can be read again."""

    email: str
    password: str = field(repr=False)
    api_key: str = field(repr=False)


async def setup(settings: ControlSettings, conn: Connection) -> FirstAccess | None:
    """Makes the first day in one transaction; None where it was made before."""
    keyring = unlock(settings).keys
    query = sql.load()
    async with conn.transaction():
        await conn.execute(query["setup_lock"])
        if await conn.fetchrow(query["organisation_any"]):
            return None
        organisation = await add_organisation(
            conn, uuid.uuid4(), FIRST_ORGANISATION, platform=True, parallel=None
        )
        home, shard = organisation["id"], organisation["shard"]
        password = passwords.generate()
        person = await _owner(conn, settings, password, home)
        key = keys.mint(shard)
        await add_key(conn, keyring, key, NewKey(home, shard, person, FIRST_KEY))
        if settings.grant_credits:
            amount = settings.grant_credits * UCR_PER_CREDIT
            await ledger.grant(conn, home, amount, "first start", "system")
    return FirstAccess(settings.admin_email.lower(), password, key.text)


async def _owner(
    conn: Connection, settings: ControlSettings, password: str, organisation: uuid.UUID
) -> uuid.UUID:
    person, email = uuid.uuid4(), settings.admin_email.lower()
    query = sql.load()
    detail = {"email": email, "role": "admin", "owner": True}
    subject = f"person:{person}"
    await conn.execute(query["audit_add"], "system", "setup", subject, organisation, detail)
    digest = await passwords.Passwords(1).digest(password)
    await conn.fetchrow(query["person_add"], person, email, "Administrator", digest, False)
    await conn.execute(query["membership_add"], organisation, person, "admin", True)
    return person
