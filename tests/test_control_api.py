"""The control API: who may what, in whose organisation; every change once and on the record."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.control_stage import Stage, stage

ORGANISATIONS = "/api/v1/admin/organisations"
USERS = "/api/v1/admin/users"


@pytest.fixture
async def api(home: Path, database_url: str, redis_url: str) -> AsyncIterator[Stage]:
    async with stage(home, database_url, redis_url) as made:
        yield made


async def test_the_first_key_is_the_platforms_admin(api: Stage) -> None:
    me = (await api.get("/api/v1/auth/me")).json
    assert (me["email"], me["role"], me["across"]) == ("admin@localhost", "admin", True)
    assert me["memberships"][0]["owner"] is True
