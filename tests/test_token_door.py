"""Tokens on the whole path: made by the control API, used at the doors of real workers, ended."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.control_stage import Reply, Stage
from tests.fleet_stage import CENT, Fleet, fleet, told, until

TOKEN, LOGIN, ME = "/api/v1/auth/token", "/api/v1/auth/login", "/api/v1/auth/me"
TEN: dict[str, Any] = {"max_tokens": 10}
ENDLESS = "mock/bomb?chunk_ms=20"


@pytest.fixture
async def here(home: Path, redis_url: str, database_url: str) -> AsyncIterator[Fleet]:
    async with fleet(home, redis_url, database_url, (2,)) as here:
        yield here


async def password_of(here: Fleet) -> dict[str, str]:
    return {"email": "admin@localhost", "password": here.api.first.password}


async def with_password(here: Fleet, **given: str) -> str:
    made = await here.api.of(None).post(TOKEN, {**await password_of(here), **given})
    assert made.status == 200, made.body
    assert (made.json["token_type"], made.json["expires_in"]) == ("Bearer", 900)
    return str(made.json["token"])


async def token_of(api: Stage) -> str:
    made = await api.post(TOKEN)
    assert made.status == 200, made.body
    return str(made.json["token"])


async def member(here: Fleet, role: str = "developer") -> tuple[str, str, Stage]:
    """Id, e-mail and session of a further person."""
    wanted = {"email": f"{role}@example.test", "role": role}
    made: Reply = await here.api.at_home.post("/api/v1/admin/users", wanted)
    assert made.status == 201, made.body
    given = {"email": wanted["email"], "password": made.json["password"]}
    session = (await here.api.of(None).post(LOGIN, given)).json["token"]
    return made.json["id"], wanted["email"], here.api.of(session)


async def refused(here: Fleet, token: str, code: str = "401 invalid_token") -> None:
    """By every worker, from the first request on."""
    assert await here.many(8, CENT, key=token, **TEN) == {code: 8}
    assert (await here.api.of(token).get(ME)).status == 401


async def test_a_token_for_a_password_works_on_both_and_is_billed(here: Fleet) -> None:
    """The person and the organisation in it pay; nobody made an API key by it."""
    token = await with_password(here)
    assert await here.many(8, CENT, key=token, **TEN) == {"200": 8}
    me = (await here.api.of(token).get(ME)).json
    assert me["email"] == "admin@localhost"
    await here.verified()
    rows = await here.usage()
    assert {str(row["person"]) for row in rows} == {me["person"]}
    assert {str(row["organisation"]) for row in rows} == {me["organisation"]}
    assert await here.pool.fetchval("SELECT count(*) FROM api_key") == 1
    assert await here.pool.fetchval("SELECT count(*) FROM key_use WHERE length(kid) > 10") == 0


async def test_signing_out_ends_the_tokens_of_a_session(here: Fleet) -> None:
    session = here.api.of(
        (await here.api.of(None).post(LOGIN, await password_of(here))).json["token"]
    )
    mine, other = await token_of(session), await with_password(here)
    assert await here.many(8, CENT, key=mine, **TEN) == {"200": 8}
    assert (await session.post("/api/v1/auth/logout")).status == 204
    await refused(here, mine)
    assert told(await here.chat(CENT, other, **TEN)) == "200"
    assert (await here.api.of(other).post("/api/v1/auth/logout")).status == 204
    await refused(here, other)


async def test_suspending_a_person_ends_tokens_and_what_runs_by_them(here: Fleet) -> None:
    model = await here.model("mock/endless", ENDLESS, dollars="1")
    person, _, session = await member(here)
    token = await token_of(session)
    async with here.stream(model, token) as answer:
        end = asyncio.create_task(answer.aread())
        await asyncio.sleep(0.2)
        begun = time.monotonic()
        path = f"/api/v1/admin/users/{person}/suspend"
        assert (await here.api.at_home.post(path)).status == 200
        await refused(here, token)
        assert b"error" in await end
        assert time.monotonic() - begun < 5.0  # and on a busy machine
    await here.verified()


async def test_a_membership_that_is_gone_ends_tokens(here: Fleet) -> None:
    person, _, session = await member(here)
    token = await token_of(session)
    assert await here.many(8, CENT, key=token, **TEN) == {"200": 8}
    await here.pool.execute("DELETE FROM membership WHERE person = $1", person)
    ids = await here.pool.fetch("SELECT id FROM sign_in WHERE person = $1", person)
    assert all([await here.api.state.publisher.sign_in(row["id"]) for row in ids])
    await refused(here, token)


async def test_a_persons_budget_holds_for_tokens(here: Fleet) -> None:
    person, _, session = await member(here)
    token = await token_of(session)
    assert told(await here.chat(CENT, token, **TEN)) == "200"
    await here.pool.execute("UPDATE membership SET budget_ucr = 1 WHERE person = $1", person)
    [row] = await here.pool.fetch("SELECT id FROM sign_in WHERE person = $1", person)
    assert await here.api.state.publisher.sign_in(row["id"])
    assert told(await here.chat(CENT, token, **TEN)) == "429 budget_reached"


async def test_a_redis_that_lost_all_gets_the_sign_ins_back(here: Fleet) -> None:
    """From the ledger's database, as it does the keys."""
    token = await with_password(here)
    await here.redis.command("FLUSHDB")
    assert await here.api.state.publisher.snapshot()

    async def works() -> bool:
        return told(await here.chat(CENT, token, **TEN)) == "200"

    await until(works)
    assert (await here.api.of(token).post("/api/v1/auth/logout")).status == 204
    await refused(here, token)


async def test_who_may_make_no_keys_may_only_look(here: Fleet) -> None:
    _, _, session = await member(here, "viewer")
    token = await token_of(session)
    assert told(await here.chat(CENT, token, **TEN)) == "403 route_not_allowed"
    assert (await here.api.of(token).get(ME)).status == 200


async def test_a_token_made_with_a_key_is_that_key_in_other_clothes(here: Fleet) -> None:
    """Its limits and its end are the key's, so that nobody gets more by it than he had."""
    key = (await here.api.post("/api/v1/keys", {"name": "k", "models": ["ops/echo", CENT]})).json
    token = await token_of(here.api.of(key["key"]))
    assert await here.many(8, CENT, key=token, **TEN) == {"200": 8}
    model = await here.model("mock/other", "mock/ok")
    assert told(await here.chat(model, token, **TEN)) == "403 model_not_allowed"
    assert (await here.api.of(token).get(ME)).json["actor"] == f"key:{key['id']}"
    assert (await here.api.delete(f"/api/v1/keys/{key['id']}")).status == 200
    await refused(here, token)


async def test_a_token_does_not_outlive_the_secret_that_made_it(here: Fleet) -> None:
    key = (await here.api.post("/api/v1/keys", {"name": "k"})).json
    token = await token_of(here.api.of(key["key"]))
    assert await here.many(8, CENT, key=token, **TEN) == {"200": 8}
    path = f"/api/v1/keys/{key['id']}/rotate"
    assert (await here.api.post(path, {"overlap_s": 0})).status == 200
    gone = await here.many(8, CENT, key=token, **TEN)
    assert {code.partition(" ")[0] for code in gone} == {"401"}
    assert (await here.api.of(token).get(ME)).status == 401


async def test_a_token_is_bound_to_its_organisation(here: Fleet) -> None:
    """Another tenant's objects are not there for it, whatever its headers say."""
    acme = await here.api.organisation("Acme")
    outsider = await here.api.person("admin", acme)
    token = await token_of(outsider)
    home = str(await here.organisation())
    assert (await here.api.of(token).get(ME)).json["organisation"] == acme
    assert (await here.api.of(token).get(ME, x_ops_organisation=home)).status == 401
    assert (await outsider.post(TOKEN, {"organisation": home})).status == 401


async def test_keys_rotate_and_both_public_halves_are_shown(here: Fleet) -> None:
    before = await with_password(here)
    shown = (await here.api.of(None).get("/.well-known/jwks.json")).json["keys"]
    assert [one["alg"] for one in shown] == ["EdDSA"]
    made = await here.api.at_home.post("/api/v1/admin/token-keys/rotate")
    assert made.status == 200, made.body
    shown = (await here.api.of(None).get("/.well-known/jwks.json")).json["keys"]
    assert len(shown) == 2
    assert shown[0]["kid"] == made.json["kid"]
    assert "d" not in shown[0]
    assert told(await here.chat(CENT, before, **TEN)) == "200"
    await here.pool.execute("UPDATE token_key SET signs_from = now()")
    assert await here.api.state.publisher.snapshot()
    await asyncio.sleep(1)  # workers ask for news twice a second
    after = await with_password(here)
    assert await here.many(8, CENT, key=after, **TEN) == {"200": 8}
    assert await here.many(8, CENT, key=before, **TEN) == {"200": 8}


async def test_a_token_makes_no_token(here: Fleet) -> None:
    """It would never end."""
    made = await here.api.of(await with_password(here)).post(TOKEN)
    assert (made.status, made.code) == (400, "invalid_value")


@pytest.mark.parametrize(
    "given",
    [
        {"email": "admin@localhost", "password": "wrong"},
        {"email": "nobody@localhost", "password": "wrong"},
    ],
)
async def test_without_the_right_password_there_is_no_token(
    here: Fleet, given: dict[str, str]
) -> None:
    assert (await here.api.of(None).post(TOKEN, given)).code == "login_invalid"
    assert (await here.api.of(None).post(TOKEN, {"email": "a@b.test"})).status == 422
    assert (await here.api.of(None).post(TOKEN)).status == 401
