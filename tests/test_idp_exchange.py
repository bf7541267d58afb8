"""A token of the company's own identity provider becomes one of ours, and nothing else does."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits
from uuid import uuid4

import pytest

from control import settings
from control.idp import Idp
from control.main import _publish_foreign
from control.state import State
from proxy.redis.scripts import SNAPSHOT_KEY
from tests.control_stage import Stage, stage
from tests.idp_stage import Provider, environ, given, providing, token

TOKEN, ME = "/api/v1/auth/token", "/api/v1/auth/me"
ALPHABET = ascii_uppercase + ascii_lowercase + digits + "-_"


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with providing() as made:
        yield made


async def test_a_token_of_the_provider_becomes_one_of_ours(
    provider: Provider, home: Path, database_url: str, redis_url: str
) -> None:
    """For a person that there is; signing out ends also what it could become later."""
    async with stage(home, database_url, redis_url, True, **given(provider.url)) as api:
        await api.state.idp.refresh()
        theirs = api.of(token())
        assert (await theirs.get(ME)).code == "invalid_token"
        made = await theirs.post(TOKEN)
        assert (made.status, made.json["expires_in"]) == (200, 900), made.body
        ours = api.of(made.json["token"])
        assert (await ours.get(ME)).json["email"] == "admin@localhost"
        assert (await theirs.post(TOKEN)).status == 200
        assert await api.state.pool.fetchval("SELECT array_agg(version) FROM sign_in") == [1]
        assert (await ours.post(TOKEN)).code == "invalid_value"
        assert (await ours.post("/api/v1/auth/logout")).status == 204
        assert (await ours.get(ME)).status == 401
        assert (await theirs.post(TOKEN)).code == "credential_invalid"
        assert (await api.of(written_otherwise(token())).post(TOKEN)).code == "credential_invalid"
        await refused_to_others(api)


def written_otherwise(text: str) -> str:
    """The same token: the last letter of its signature has four bits that nobody reads."""
    last = ALPHABET.index(text[-1])
    return text[:-1] + ALPHABET[last ^ 1]


async def refused_to_others(api: Stage) -> None:
    unknown = await api.of(token(email="no@body.test")).post(TOKEN)
    assert (unknown.status, unknown.code) == (403, "person_unknown")
    made = (await api.at_home.post("/api/v1/admin/users", NEW)).json
    assert (await api.of(token(email=NEW["email"])).post(TOKEN)).status == 200
    path = f"/api/v1/admin/users/{made['id']}/suspend"
    assert (await api.at_home.post(path)).status == 200
    assert (await api.of(token(email=NEW["email"])).post(TOKEN)).code == "person_unknown"


NEW = {"email": "new@example.test", "role": "viewer"}


async def test_an_account_is_known_by_its_subject(
    provider: Provider, home: Path, database_url: str, redis_url: str
) -> None:
    """Another e-mail changes nothing for it; who gets its e-mail later is somebody else."""
    async with stage(home, database_url, redis_url, True, **given(provider.url)) as api:
        await api.state.idp.refresh()
        ann = (await api.at_home.post("/api/v1/admin/users", NEW)).json["id"]
        mine = token(email=NEW["email"], sub="1")
        first = await asyncio.gather(*(api.of(mine).post(TOKEN) for _ in range(4)))
        assert {one.status for one in first} == {200}
        renamed = (await api.of(token(email="ann@new.test", sub="1")).post(TOKEN)).json["token"]
        assert (await api.of(renamed).get(ME)).json["person"] == ann
        heir = api.of(token(email=NEW["email"], sub="2"))
        assert (await heir.post(TOKEN)).code == "identity_differs"
        path = f"/api/v1/admin/users/{ann}/unlink"
        assert (await api.of(renamed).post(path)).status == 403
        assert (await api.at_home.post(path)).json == {"user": ann, "removed": 1}
        assert (await api.of(renamed).get(ME)).status == 401
        assert (await heir.post(TOKEN)).status == 200
        acts = await api.state.pool.fetch("SELECT action FROM audit WHERE action LIKE 'identity.%'")
        assert sorted(row["action"][9:] for row in acts) == ["link", "link", "unlink"]
        nobody = f"/api/v1/admin/users/{uuid4()}/unlink"
        assert (await api.at_home.post(nobody)).status == 404


async def test_the_token_may_say_where_its_person_acts(
    provider: Provider, home: Path, database_url: str, redis_url: str
) -> None:
    """Only where he is a member, and nothing else that is asked for counts then."""
    wanted = given(provider.url, idp_organisation_claim="tenant")
    async with stage(home, database_url, redis_url, True, **wanted) as api:
        await api.state.idp.refresh()
        acme = await api.organisation()
        assert (await api.of(token(tenant=acme)).post(TOKEN)).code == "credential_invalid"
        new = {**NEW, "organisation": acme}
        assert (await api.at_home.post("/api/v1/admin/users", new)).status == 201
        theirs = api.of(token(email=NEW["email"], tenant=acme))
        assert (await theirs.post(TOKEN)).json["organisation"] == acme
        other = {"organisation": str(await api.state.pool.fetchval(PLATFORM))}
        assert (await theirs.post(TOKEN, other)).code == "credential_invalid"


PLATFORM = "SELECT id FROM organisation WHERE platform"


async def test_the_door_hears_of_keys_and_of_their_end(
    provider: Provider, home: Path, database_url: str, redis_url: str
) -> None:
    """What is missing in Redis is filled, what is older than there is kept to oneself; a setting
    that was taken away is in force, too."""
    async with stage(home, database_url, redis_url, True, **given(provider.url)) as api:
        state = api.state

        async def told(state: State = api.state) -> object:
            await _publish_foreign(state)
            return await state.redis.command("HGET", SNAPSHOT_KEY, "foreign")

        assert await told() is None
        await state.idp.refresh()
        assert await told() == state.idp.published
        await state.redis.command("HSET", SNAPSHOT_KEY, "foreign", b"[newer]")
        assert await told() == b"[newer]"
        await state.redis.command("DEL", SNAPSHOT_KEY)
        assert await told() == state.idp.published
        without = replace(state, idp=Idp(settings.load(environ(home))))
        assert await told(without) == b"[]"


async def test_without_a_provider_foreign_tokens_are_nothing(
    home: Path, database_url: str, redis_url: str
) -> None:
    async with stage(home, database_url, redis_url) as api:
        assert (await api.of(token()).post(TOKEN)).code == "invalid_value"
