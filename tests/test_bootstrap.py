"""The first day: made once, shown once, stored only hashed; credits to try are in the books."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from control import bootstrap, database, passwords, settings
from control.books import ledger
from control.bootstrap import FirstAccess
from control.settings import ControlSettings
from proxy.who import keys


def wanted(home: Path, url: str, **given: str) -> ControlSettings:
    return settings.load({"OPSCENTER_HOME": str(home), "OPSCENTER_DATABASE_URL": url, **given})


async def set_up(here: ControlSettings) -> FirstAccess | None:
    pool = await database.connect(here)
    try:
        async with pool.acquire() as conn:
            return await bootstrap.setup(here, conn)
    finally:
        await pool.close()


async def test_the_first_access_works_and_is_stored_hashed(home: Path, database_url: str) -> None:
    first = await set_up(wanted(home, database_url, OPSCENTER_ADMIN_EMAIL="Me@Example.test"))
    assert first is not None
    assert first.email == "me@example.test"
    assert keys.parse(first.api_key) is not None
    conn = await asyncpg.connect(database_url)
    stored = await conn.fetchval("SELECT password FROM person")
    tables = ("person", "api_key", "audit", "membership", "organisation")
    everything = [await conn.fetch(f"SELECT t::text FROM {table} t") for table in tables]
    await conn.close()
    assert passwords.matches(first.password, stored)
    assert first.password not in str(everything)
    assert first.api_key not in str(everything)


async def test_the_granted_credits_are_in_the_ledger(home: Path, database_url: str) -> None:
    await set_up(wanted(home, database_url, OPSCENTER_GRANT_CREDITS="25"))
    conn = await asyncpg.connect(database_url)
    organisation = await conn.fetchval("SELECT id FROM organisation WHERE platform")
    assert await ledger.balance(conn, organisation) == 25_000_000
    await conn.close()


async def test_a_second_first_day_does_nothing(home: Path, database_url: str) -> None:
    here = wanted(home, database_url)
    made = await asyncio.gather(set_up(here), set_up(here))
    assert sum(one is not None for one in made) == 1
    assert await set_up(here) is None


async def test_a_database_that_is_away_is_told_with_the_cure(home: Path) -> None:
    url = f"postgresql://ops@/opscenter?host={home}&port=1"
    with pytest.raises(database.DatabaseError, match="OPSCENTER_DATABASE_URL"):
        _ = await database.connect(wanted(home, url))


def test_a_password_is_checked_and_nobody_has_one_without() -> None:
    stored = passwords.digest("right")
    assert passwords.matches("right", stored)
    assert not passwords.matches("wrong", stored)
    assert not passwords.matches("right", None)


def test_no_password_shows_in_a_repr() -> None:
    first = FirstAccess("me@example.test", "canary-password", "canary-key")
    assert "canary" not in repr(first)
