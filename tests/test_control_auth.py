"""Who calls the control API: sessions, API keys, the unix socket; nothing is told to others."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.control_stage import Stage, stage

KEYS = "/api/v1/keys"


@pytest.fixture
async def api(home: Path, database_url: str, redis_url: str) -> AsyncIterator[Stage]:
    async with stage(home, database_url, redis_url) as made:
        yield made


async def test_the_first_key_is_the_platforms_admin(api: Stage) -> None:
    me = (await api.get("/api/v1/auth/me")).json
    assert (me["email"], me["role"], me["across"]) == ("admin@localhost", "admin", True)
    assert me["memberships"][0]["owner"] is True


async def test_the_unix_socket_is_the_local_administrator(api: Stage) -> None:
    me = (await api.at_home.get("/api/v1/auth/me")).json
    assert (me["actor"], me["role"]) == ("local", "admin")


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(None, id="none"),
        pytest.param("nonsense", id="garbage"),
        pytest.param("ses_" + "x" * 43, id="unknown session"),
        pytest.param("x" * 5000, id="too long"),
    ],
)
async def test_without_a_good_token_nothing_is_told(api: Stage, token: str | None) -> None:
    reply = await api.of(token).get("/api/v1/auth/me")
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == "Bearer"


async def test_a_forged_digest_in_the_database_does_not_make_a_key(api: Stage) -> None:
    """Whoever can write the database still lacks the pepper."""
    from hashlib import sha256

    key = (await api.post(KEYS, {"name": "k"})).json["key"]
    forged = sha256(key.encode()).digest()
    await api.state.pool.execute("UPDATE api_key SET digest = $1", forged)
    assert (await api.of(key).get("/api/v1/auth/me")).status == 401


async def test_signing_in_gives_a_session_that_signing_out_ends(api: Stage) -> None:
    given = {"email": "ADMIN@localhost", "password": api.first.password}
    token = (await api.of(None).post("/api/v1/auth/login", given)).json["token"]
    signed_in = api.of(token)
    assert (await signed_in.get("/api/v1/auth/me")).json["actor"].startswith("person:")
    assert (await signed_in.post("/api/v1/auth/logout")).status == 204
    assert (await signed_in.get("/api/v1/auth/me")).status == 401


async def test_neither_token_nor_password_is_stored_readable(api: Stage) -> None:
    given = {"email": "admin@localhost", "password": api.first.password}
    token = (await api.of(None).post("/api/v1/auth/login", given)).json["token"]
    row = await api.state.pool.fetchrow("SELECT s.digest, p.password FROM session s, person p")
    assert row is not None
    assert token.encode() not in row["digest"]
    assert row["password"].startswith("$argon2id$")


async def test_wrong_and_unknown_sign_ins_answer_alike(api: Stage) -> None:
    out = api.of(None)
    wrong = await out.post("/api/v1/auth/login", {"email": "admin@localhost", "password": "x"})
    unknown = await out.post("/api/v1/auth/login", {"email": "no@body.test", "password": "x"})
    assert (wrong.status, wrong.message) == (unknown.status, unknown.message)


async def test_too_many_failed_sign_ins_must_wait(
    home: Path, database_url: str, redis_url: str
) -> None:
    async with stage(home, database_url, redis_url, login_tries_max="1") as api:
        given = {"email": "admin@localhost", "password": "wrong"}
        await api.of(None).post("/api/v1/auth/login", given)
        reply = await api.of(None).post("/api/v1/auth/login", given)
        assert (reply.status, reply.code) == (429, "logins_too_many")
        assert int(reply.headers["retry-after"]) > 0


async def test_a_session_chooses_its_organisation_by_a_header(api: Stage) -> None:
    given = {"email": "admin@localhost", "password": api.first.password}
    token = (await api.of(None).post("/api/v1/auth/login", given)).json["token"]
    signed_in, other = api.of(token), str(uuid.uuid4())
    reply = await signed_in.get("/api/v1/auth/me", x_ops_organisation=other)
    assert reply.status == 401
    assert (await signed_in.get("/api/v1/auth/me", x_ops_organisation="?")).status == 400
