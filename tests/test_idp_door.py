"""Tokens of a company's own identity provider at the door: whom they name is asked once."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.who.shown import HINT_S
from tests.control_stage import Stage
from tests.fleet_stage import CENT, Fleet, fleet, told, until
from tests.idp_stage import OTHER, Provider, ed_jwk, given, providing, token

TEN: dict[str, Any] = {"max_tokens": 10}
WORKERS = 2


@dataclass
class Desk:
    """Where the door asks: the control API behind a socket, as long as it is there."""

    url: str = ""
    api: Stage | None = None
    asked: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().lower().split("\r\n")
                assert lines[0] == "post /api/v1/auth/token http/1.1"
                length = next(one for one in lines if one.startswith("content-length: "))
                await reader.readexactly(int(length.rpartition(" ")[2]))
                self.asked += 1
                writer.write(await self.answer(head.decode()))
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async def answer(self, head: str) -> bytes:
        if self.api is None:
            return b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
        shown = next(one for one in head.split("\r\n") if one.startswith("authorization: "))
        reply = await self.api.of(shown.rpartition(" ")[2]).post("/api/v1/auth/token", {})
        return b"HTTP/1.1 %d .\r\ncontent-length: %d\r\n\r\n%b" % (
            reply.status,
            len(reply.body),
            reply.body,
        )


@asynccontextmanager
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    async with server:
        made.url = "http://{}:{}".format(*server.sockets[0].getsockname())
        yield made


@dataclass
class Here:
    fleet: Fleet
    desk: Desk
    provider: Provider

    async def shows(self, *keys: dict[str, str]) -> None:
        """The provider's keys reach every worker."""
        if keys:
            self.provider.show(*keys)
        state = self.fleet.api.state
        await state.idp.refresh()
        assert await state.publisher.foreign(state.idp.published, True)

    async def all_say(self, said: str, text: str) -> None:
        async def do() -> bool:
            return await self.fleet.many(8, CENT, key=text, **TEN) == {said: 8}

        await until(do)


@pytest.fixture
async def here(home: Path, redis_url: str, database_url: str) -> AsyncIterator[Here]:
    async with providing() as provider, desk() as made:
        wanted = given(provider.url, idp_exchange_url=made.url, failed_keys_max="0")
        async with fleet(home, redis_url, database_url, (WORKERS,), **wanted) as running:
            made.api = running.api
            yield Here(running, made, provider)


async def test_a_token_of_the_provider_works_and_is_billed_to_its_person(here: Here) -> None:
    """The control plane is asked once per worker; without it, what is known goes on."""
    text = token()
    assert await here.fleet.many(8, CENT, key=text, **TEN) == {"401 invalid_token": 8}
    await here.shows()
    await here.all_say("200", text)
    assert 1 <= here.desk.asked <= WORKERS
    here.desk.api = None
    assert await here.fleet.many(8, CENT, key=text, **TEN) == {"200": 8}
    other = await here.fleet.many(2, CENT, key=token(jti="2"), **TEN)
    assert other == {"503 not_ready": 2}
    here.desk.api = here.fleet.api
    assert told(await here.fleet.chat(CENT, token(jti="2"), **TEN)) == "200"
    await here.fleet.verified()
    people = {row["person"] for row in await here.fleet.usage()}
    wanted = "SELECT id FROM person WHERE email = 'admin@localhost'"
    assert people == {await here.fleet.pool.fetchval(wanted)}


async def test_what_is_not_genuine_asks_nobody(here: Here) -> None:
    """Claims of ours in a token of the provider mean nothing."""
    await here.shows()
    await here.all_say("200", token())
    asked = here.desk.asked
    row = await here.fleet.pool.fetchrow("SELECT * FROM sign_in_record")
    ours = {"shard": row["shard"], "rec": row["kid"], "org": str(row["organisation"])}
    for text in (
        token(OTHER.sign),
        token(aud="elsewhere"),
        token(iss="opscenter"),
        token(OTHER.sign, sub=str(row["person"]), **ours),
    ):
        assert told(await here.fleet.chat(CENT, text, **TEN)) == "401 invalid_token"
    # the whole token is known, not its beginning
    head, _, signature = token().rpartition(".")
    forged = f"{head}.{signature[::-1]}"
    assert told(await here.fleet.chat(CENT, forged, **TEN)) == "401 invalid_token"
    assert here.desk.asked == asked
    nobody = token(email="no@body.test", sub=str(row["person"]), **ours)
    answer = await here.fleet.chat(CENT, nobody, **TEN)
    assert told(answer) == "403 token_refused"
    assert "no@body.test" in answer.json()["error"]["message"]


async def test_an_unknown_key_is_shown_to_the_control_plane(here: Here) -> None:
    """So that it looks for new ones, but each worker does it once in a while only."""
    await here.shows()
    await here.all_say("200", token())
    asked, begun = here.desk.asked, time.monotonic()
    for nth in range(20):
        text = token(kid=f"x{nth}")
        assert told(await here.fleet.chat(CENT, text, **TEN)) == "401 invalid_token"

    async def shown() -> bool:
        return here.fleet.api.state.idp.waits_for_new_keys

    await until(shown)
    times = 1 + (time.monotonic() - begun) // HINT_S
    assert asked < here.desk.asked <= asked + times * WORKERS


async def test_it_ends_with_its_session_its_person_and_its_key(here: Here) -> None:
    api = here.fleet.api
    await here.shows()
    mine, text = token(jti="mine"), token(jti="other")
    await here.all_say("200", mine)
    await here.all_say("200", text)
    ours = (await api.of(mine).post("/api/v1/auth/token")).json["token"]
    assert (await api.of(ours).post("/api/v1/auth/logout")).status == 204
    await here.fleet.many(1, CENT, key=mine, **TEN)
    assert await here.fleet.many(8, CENT, key=mine, **TEN) == {"401 invalid_token": 8}
    assert told(await here.fleet.chat(CENT, text, **TEN)) == "200"
    new = {"email": "new@example.test", "role": "developer"}
    person = (await api.at_home.post("/api/v1/admin/users", new)).json["id"]
    theirs = token(email=new["email"])
    await here.all_say("200", theirs)
    assert (await api.at_home.post(f"/api/v1/admin/users/{person}/suspend")).status == 200
    assert await here.fleet.many(8, CENT, key=theirs, **TEN) == {"401 invalid_token": 8}
    await here.shows(ed_jwk(OTHER, "new"))
    await here.all_say("200", token(OTHER.sign, kid="new"))
    # before, it might have been asked for with the old key
    assert told(await here.fleet.chat(CENT, token(jti="third"), **TEN)) == "401 invalid_token"
    assert orjson.loads(api.state.idp.published)[0]["keys"][0]["kid"] == "new"
