"""Calls with keys of one's own at the door: for nothing, also where there are no credits, and never
by the platform's key unless the owner says so.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from bench.upstream import FakeUpstream
from control.access import add_organisation
from control.books.verify import verify
from proxy.redis.scripts import SHARD_KEYS
from tests.door_stage import DoorStage, door
from tests.http_stage import Peer, serving

PLATFORM, OWN = "sk-platform-0123456789abcdef", "sk-own-0123456789abcdef"
ACME = UUID(int=0xACE)
MODEL, NAME = "acme/model", "`mine` (…cdef)"
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}


async def bring(
    stage: DoorStage, organisation: UUID, url: str, model: str = "mock/ok", fallback: bool = False
) -> None:
    """A key of the organisation's own, by which MODEL is called `model`."""
    sealed = stage.keyfile.seal(f"o:{organisation}:openai", url, OWN)
    await stage.pool.execute("DELETE FROM byok_key")
    await stage.pool.execute(
        "INSERT INTO byok_key (id, organisation, kind, name, adapter, base_url, models, secret,"
        " last4, fallback) VALUES ($1, $2, 'openai', 'mine', 'openai', $3, $4, $5, 'cdef', $6)",
        *(uuid4(), organisation, url, {MODEL: model}, sealed, fallback),
    )
    assert await stage.drain.publisher.organisation(str(organisation))


async def record(stage: DoorStage, organisation: UUID) -> bytes:
    query = "SELECT shard FROM organisation WHERE id = $1"
    shard: int = await stage.pool.fetchval(query, organisation)
    return SHARD_KEYS[shard].organisation(str(organisation))


@dataclass(frozen=True, slots=True)
class Scene:
    """An organisation without a credit, one provider, the platform's key and its own."""

    stage: DoorStage
    fake: FakeUpstream
    key: str

    async def bring(self, model: str = "mock/ok", fallback: bool = False) -> None:
        await bring(self.stage, ACME, f"{self.fake.url}/v1", model, fallback)

    async def ask(self, **fields: Any) -> Any:
        return await self.stage.chat({**BODY, **fields}, key=self.key)

    async def models(self) -> dict[str, list[str]]:
        """As they are listed for this key: those of its own keys, and the platform's."""
        headers = {"authorization": f"Bearer {self.key}"}
        told = await self.stage.http.get("/api/v1/llm/models/categorized", headers=headers)
        return {name: [one["id"] for one in found["data"]] for name, found in told.json().items()}

    def keys(self) -> list[str]:
        """By which the provider was asked."""
        return [dict(one.header_rows)["authorization"][7:] for one in self.fake.requests]

    async def row(self) -> Any:
        await self.stage.quiesce()
        return (await self.stage.usage())[-1]


@pytest.fixture
async def scene(
    home: Path, redis_url: str, database_url: str, tmp_path: Path
) -> AsyncIterator[Scene]:
    private = {"OPSCENTER_BYOK_PRIVATE": "on"}
    async with (
        FakeUpstream(tmp_path / "bills") as fake,
        door(home, redis_url, database_url, **private) as stage,
    ):
        async with stage.pool.acquire() as conn:
            await add_organisation(conn, ACME, "Acme", platform=False, parallel=None)
            person = await conn.fetchval("SELECT person FROM membership LIMIT 1")
            await conn.execute("INSERT INTO membership VALUES ($1, $2, 'admin')", ACME, person)
        await stage.drain.pusher.push_once()
        await stage.add_provider(f"{fake.url}/v1", PLATFORM)
        await stage.add_model(MODEL, "mock/ok")
        yield Scene(stage, fake, await stage.new_key(ACME, budget_ucr=5))


async def test_an_own_key_serves_for_nothing_where_there_are_no_credits(scene: Scene) -> None:
    """Its usage is on record, with cost 0; the pool, the key's budget and the ledger agree."""
    assert (await scene.ask()).status_code == 429  # the budget of its key
    assert await scene.models() == {"byok": [], "platform": [MODEL, "ops/echo"]}
    await scene.bring()
    assert await scene.models() == {"byok": [MODEL], "platform": ["ops/echo"]}
    answer = await scene.ask()
    assert (answer.status_code, answer.headers["x-ops-cost"]) == (200, "0.000000"), answer.text
    assert (answer.headers["x-ops-mode"], answer.headers["x-ops-provider"]) == ("byok", "openai")
    assert scene.keys() == [OWN]
    row = await scene.row()
    assert (row["kind"], row["cost"], row["hold"], row["provider"]) == ("settled", 0, 0, "openai")
    assert (row["tokens"], row["mode"]) == ({"input": 12, "output": 34}, "byok")
    report = await verify(scene.stage.pool, scene.stage.redis)
    assert report.ok, report


async def test_an_own_stream_is_not_cut_where_credits_would_end(scene: Scene) -> None:
    await scene.bring("mock/ok?chunks=60&bytes=400")
    answer = await scene.ask(stream=True)
    assert "data: [DONE]" in answer.text
    assert "x-ops-cost=0.000000" in answer.text
    assert (await scene.row())["cost"] == 0


async def test_a_key_that_fails_is_named_and_the_platforms_does_not_step_in(scene: Scene) -> None:
    for status in (401, 402, 403):
        await scene.bring(f"mock/{status}")
        answer = await scene.ask()
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (403, "own_key_refused")
        assert NAME in error["message"]
        assert f"status {status}" in error["message"]
        assert OWN not in answer.text
    for status, told in ((429, 429), (500, 503)):
        await scene.bring(f"mock/{status}")
        answer = await scene.ask()
        assert answer.status_code == told
        assert NAME in answer.json()["error"]["message"]
    assert scene.keys() == [OWN] * 5
    row = await scene.row()
    assert (row["kind"], row["cost"], row["calls"]) == ("released", 0, 0)


async def test_with_its_owners_leave_the_platforms_key_steps_in_and_is_paid(scene: Scene) -> None:
    """Credits for it are held before. Where there are none, or where what is asked for has no price
    for the platform, the own key is alone."""
    await scene.bring("mock/401", fallback=True)
    assert (await scene.ask()).json()["error"]["code"] == "own_key_refused"
    assert scene.keys() == [OWN]
    rich = await scene.stage.new_key(ACME)
    owner = await record(scene.stage, ACME)
    await scene.stage.redis.command("HSET", owner, "pool.b", 10**12)
    answer = await scene.stage.chat(BODY, key=rich)
    assert (answer.status_code, answer.headers["x-ops-attempts"]) == (200, "2")
    assert "x-ops-mode" not in answer.headers
    assert scene.keys()[1:] == [OWN, PLATFORM]
    assert float(answer.headers["x-ops-cost"]) > 0
    row = await scene.row()
    assert (row["provider"], row["mode"], row["cost"] > 0) == ("fake", "platform", True)
    dear = await scene.stage.chat({**BODY, "service_tier": "priority"}, key=rich)
    assert dear.json()["error"]["code"] == "own_key_refused"
    assert scene.keys()[3:] == [OWN]


async def test_an_own_key_for_a_private_address_is_not_followed_there(
    home: Path, redis_url: str, database_url: str, tmp_path: Path
) -> None:
    """Unless the installation says that its tenants may; the platform's provider lies there too."""
    async with (
        FakeUpstream(tmp_path / "bills") as fake,
        door(home, redis_url, database_url) as stage,
    ):
        await stage.add_provider(f"{fake.url}/v1", PLATFORM)
        await stage.add_model(MODEL, "mock/ok")
        assert (await stage.chat(BODY)).status_code == 200
        await bring(stage, await stage.organisation(), f"{fake.url}/v1")
        answer = await stage.chat(BODY)
        assert answer.status_code == 503
        assert "may not lie" in answer.json()["error"]["message"]
        assert len(fake.requests) == 1


async def test_nothing_crosses_over_in_either_direction(scene: Scene) -> None:
    """The client's key, cookies and addresses stay here, the provider's headers there; a field of
    the body that names an address is a field, and a redirect is an error."""
    heads: list[bytes] = []
    body = orjson.dumps({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
    theirs = b"set-cookie: a=b\r\nopenai-organization: org-x\r\nx-request-id: theirs\r\n"
    ok = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" + theirs
    moved = b"HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:1/v1\r\n" + theirs

    async def script(peer: Peer) -> None:
        for first in (ok, moved):
            heads.append(b"".join(await peer.request()))
            await peer.send(first + b"content-length: %d\r\n\r\n" % len(body) + body)
        await peer.closed()

    sent = {"cookie": "session=1", "openai-organization": "org-me", "x-forwarded-for": "8.8.8.8"}
    named = {"base_url": "http://127.0.0.1:1", "api_base": "http://127.0.0.1:1", "api_key": "sk-x"}
    async with serving(script) as server:
        await bring(scene.stage, ACME, server.url.removesuffix("/chat"), "m")
        asked = {**BODY, **named, "metadata": named}
        answer = await scene.stage.chat(asked, key=scene.key, **sent)
        assert answer.status_code == 200
        redirected = await scene.stage.chat(BODY, key=scene.key)
        assert (redirected.status_code, server.connections) == (502, 1)
    head = heads[0].partition(b"\r\n\r\n")[0].decode().lower()
    names = {line.partition(":")[0] for line in head.split("\r\n")[1:]}
    ours = {"host", "content-type", "accept", "accept-encoding", "user-agent", "x-request-id"}
    assert names == ours | {"authorization", "content-length"}
    assert OWN in head
    assert scene.key not in heads[0].decode()
    assert not {"set-cookie", "openai-organization"} & set(answer.headers)
    assert answer.headers["x-request-id"] != "theirs"
