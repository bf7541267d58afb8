"""Limits that people set over the API, on real workers of two machines: exact at every level, and
in force when the call returns.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fleet_stage import CENT, Fleet, fleet

DAY_LONG = {"unit": "calls", "window": "rolling", "seconds": 86_400}
REFUSED = "429 rate_limited"


@pytest.fixture
async def here(home: Path, redis_url: str, database_url: str) -> AsyncIterator[Fleet]:
    async with fleet(home, redis_url, database_url, (2, 2)) as here:
        yield here


async def ask(here: Fleet, count: int, **fields: Any) -> dict[str, int]:
    return dict(await here.many(count, CENT, max_tokens=10, **fields))


async def test_a_limit_of_each_level_is_exact_at_once_on_every_worker(here: Fleet) -> None:
    """Set, raised and taken away while four workers remember the records of before."""
    root, organisation = here.api.at_home, await here.organisation()
    base = f"/api/v1/admin/organisations/{organisation}"
    person = (await here.api.get("/api/v1/auth/me")).json["person"]
    team = (await root.post(f"{base}/teams", {"name": "search"})).json["id"]
    assert (await root.put(f"{base}/teams/{team}/members/{person}", {})).status == 200
    assert (await root.post("/api/v1/admin/plans", {"name": "starter"})).status == 201
    assert (await root.patch(base, {"plan": "starter"})).status == 200
    own, plan = f"{base}/limits", "/api/v1/admin/plans/starter/limits"
    for path, given in (
        (own, {"level": "key", "subject": here.key[9:19]}),
        (own, {"level": "person", "subject": person}),
        (own, {"level": "team", "subject": team}),
        (own, {"level": "organisation"}),
        (own, {"level": "end_user"}),
        (plan, {}),
    ):
        assert await ask(here, 8, user="ann") == {"200": 8}, given
        made = await root.post(path, {**DAY_LONG, **given, "amount": 5})
        assert made.status == 201, made.body
        one = f"{path}/{made.json['id']}"
        assert await ask(here, 12, user="ann") == {"200": 5, REFUSED: 7}, given
        assert (await root.patch(one, {"amount": 7})).status == 200
        assert await ask(here, 6, user="ann") == {"200": 2, REFUSED: 4}, given
        assert (await root.patch(one, {"amount": 6})).status == 200
        assert await ask(here, 8, user="ann") == {REFUSED: 8}, given
        assert (await root.delete(one)).status == 200
    assert await ask(here, 8, user="ann") == {"200": 8}
    await here.verified()


async def test_who_joins_a_team_counts_on_it_from_the_next_request_on(here: Fleet) -> None:
    root, organisation = here.api.at_home, await here.organisation()
    base = f"/api/v1/admin/organisations/{organisation}"
    person = (await here.api.get("/api/v1/auth/me")).json["person"]
    team = (await root.post(f"{base}/teams", {"name": "search"})).json["id"]
    given = {**DAY_LONG, "level": "team", "subject": team, "amount": 3}
    assert (await root.post(f"{base}/limits", given)).status == 201
    assert await ask(here, 8) == {"200": 8}
    assert (await root.put(f"{base}/teams/{team}/members/{person}", {})).status == 200
    assert await ask(here, 8) == {"200": 3, REFUSED: 5}
    assert (await root.delete(f"{base}/teams/{team}/members/{person}")).status == 200
    assert await ask(here, 8) == {"200": 8}
