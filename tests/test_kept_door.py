"""Files and batches at the door, by OpenAI's own client: nobody sees another organisation's;
batches go by keys of one's own, and what they used is booked once.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import UUID, uuid4

import httpx2
import openai
import pytest

from bench.upstream import FakeUpstream
from control.access import add_organisation
from control.books.ledger import grant
from control.books.verify import verify
from proxy.kept.accounts import Place
from proxy.kept.names import Names, Thing
from proxy.kept.wish import EXPIRES_MAX_S
from proxy.reach.http1 import taken_apart
from proxy.types import Deployment, Model
from tests.door_stage import DoorStage, door
from tests.http_stage import Peer, serving

PLATFORM, OWN = "sk-platform-0123456789abcdef", "sk-own-0123456789abcdef"
BODY_MAX = 65_536
ACME, BETA, POOR = UUID(int=0xACE), UUID(int=0xBE7A), UUID(int=0xB00)
LINES = b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {}}\n' * 3
CHAT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
DAY: Literal["24h"] = "24h"


@dataclass(frozen=True, slots=True)
class Scene:
    """Two organisations and one provider that both share."""

    stage: DoorStage
    fake: FakeUpstream
    clients: AsyncExitStack

    async def client(self, organisation: UUID, **limits: Any) -> openai.AsyncOpenAI:
        key = await self.stage.new_key(organisation, **limits)
        made = openai.AsyncOpenAI(base_url=f"{self.stage.url}/v1", api_key=key, max_retries=0)
        return await self.clients.enter_async_context(made)

    async def bring(self, organisation: UUID, url: str = "", **made_up: str) -> None:
        """A key of the organisation's own; one that says which models it serves is of another kind
        of provider."""
        url, kind = url or f"{self.fake.url}/v1", "compatible" if made_up else "openai"
        sealed = self.stage.keyfile.seal(f"o:{organisation}:{kind}", url, OWN)
        await self.stage.pool.execute(
            "INSERT INTO byok_key (id, organisation, kind, name, adapter, base_url, models, secret,"
            " last4) VALUES ($1, $2, $3, 'mine', $3, $4, $5, $6, 'cdef')",
            *(uuid4(), organisation, kind, url, made_up, sealed),
        )
        assert await self.stage.drain.publisher.organisation(str(organisation))

    async def sealed(self, thing: Thing, account: str, theirs: str, url: str) -> str:
        """The id that ACME was told of what lies there."""
        names = Names(self.stage.keyfile, str(ACME))
        place = Deployment(0, "m", "", "", url, "m")
        sealed_as = Place(account, Model("m", 0, 0, 0, (place,), None)).sealed_as
        return names.seal(thing, sealed_as, theirs) or ""

    async def limit(self, unit: str, amount: int) -> None:
        """For ever."""
        await self.stage.pool.execute(
            "INSERT INTO limit_rule (level, organisation, amount, unit, window_kind)"
            " VALUES ('organisation', $1, $2, $3, 'none')",
            *(ACME, amount, unit),
        )
        await self.stage.drain.pusher.push_once()

    async def used(self, client: openai.AsyncOpenAI, name: str) -> int:
        headers = {"authorization": f"Bearer {client.api_key}"}
        told = await self.stage.http.get("/v1/me/limits", headers=headers)
        [row] = [row for row in told.json()["data"] if row["name"] == name]
        return int(row["used"])

    async def rows(self) -> list[Any]:
        await self.stage.quiesce()
        return await self.stage.usage()


@pytest.fixture
async def scene(
    home: Path, redis_url: str, database_url: str, tmp_path: Path
) -> AsyncIterator[Scene]:
    settings = {"OPSCENTER_BYOK_PRIVATE": "on", "OPSCENTER_BODY_MAX_BYTES": str(BODY_MAX)}
    async with (
        FakeUpstream(tmp_path / "bills") as fake,
        door(home, redis_url, database_url, **settings) as stage,
        AsyncExitStack() as clients,
    ):
        async with stage.pool.acquire() as conn:
            person = await conn.fetchval("SELECT person FROM membership LIMIT 1")
            for id, name in ((ACME, "Acme"), (BETA, "Beta"), (POOR, "Poor")):
                await add_organisation(conn, id, name, platform=False, parallel=None)
                await conn.execute("INSERT INTO membership VALUES ($1, $2, 'admin')", id, person)
                if id != POOR:
                    await grant(conn, id, 1_000_000, "start", "test")
        await stage.drain.pusher.push_once()
        await stage.add_provider(f"{fake.url}/v1", PLATFORM)
        await stage.add_model("fake/ok", "mock/ok")
        yield Scene(stage, fake, clients)
        await stage.quiesce()


async def missing(asked: Any, code: str = "file_not_found") -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await asked
    assert refused.value.code == code


async def test_a_file_is_its_organisations_alone(scene: Scene) -> None:
    """Although both have it with one provider, in one account: by its id, by a list, by a batch."""
    acme, beta = await scene.client(ACME), await scene.client(BETA)
    made = await acme.files.create(file=("in.jsonl", LINES), purpose="batch")
    assert (made.filename, made.purpose, made.bytes) == ("in.jsonl", "batch", len(LINES))
    assert await acme.files.retrieve(made.id) == made
    assert (await acme.files.content(made.id)).content == LINES
    theirs = await beta.files.create(file=("b.txt", b"b"), purpose="user_data")
    assert [one async for one in acme.files.list()] == [made]
    assert [one.id async for one in beta.files.list(limit=1)] == [theirs.id]
    assert [one async for one in beta.files.list(purpose="batch")] == []
    for foreign in (made.id, made.id[:-2] + "xx", "file-000000000000000000000001", "x"):
        await missing(beta.files.retrieve(foreign))
        await missing(beta.files.content(foreign))
        await missing(beta.files.delete(foreign))
        await missing(beta.files.list(after=foreign))
        await missing(
            beta.batches.create(input_file_id=foreign, endpoint=CHAT, completion_window=DAY)
        )
    gone = await acme.files.delete(made.id)
    assert (gone.id, gone.deleted) == (made.id, True)
    await missing(acme.files.retrieve(made.id))
    assert [one async for one in acme.files.list()] == []
    assert {one.key for one in scene.fake.requests} == {PLATFORM}
    rows = await scene.rows()
    served = [row for row in rows if row["reason"] == "free"]
    assert {row["model"] for row in rows} == {"fake/files"}
    assert {(row["kind"], row["cost"], row["calls"]) for row in served} == {("released", 0, 1)}
    report = await verify(scene.stage.pool, scene.stage.redis)
    assert not [check for check in report.checks if not check.ok]


async def test_a_list_goes_on_where_it_ended(scene: Scene) -> None:
    acme, beta = await scene.client(ACME), await scene.client(BETA)
    names = [f"{nth}.txt" for nth in range(5)]
    for name in names:
        await acme.files.create(file=(name, b"a"), purpose="user_data")
        await beta.files.create(file=(name, b"b"), purpose="user_data")
    page = await acme.files.list(limit=2)
    assert page.has_more
    assert [one.filename async for one in page] == names[::-1]
    assert [one.filename async for one in acme.files.list(limit=2, order="asc")] == names


async def test_a_batch_goes_by_a_key_of_ones_own_and_is_booked_once(scene: Scene) -> None:
    acme, beta = await scene.client(ACME), await scene.client(BETA)
    await scene.limit("tokens", 10_000)
    platform = await acme.files.create(file=("in.jsonl", LINES), purpose="batch")
    with pytest.raises(openai.PermissionDeniedError, match="byok add") as refused:
        await acme.batches.create(input_file_id=platform.id, endpoint=CHAT, completion_window=DAY)
    assert refused.value.code == "batch_key_needed"
    for organisation in (ACME, BETA):  # both have entered the same account
        await scene.bring(organisation)
    file = await acme.files.create(file=("in.jsonl", LINES), purpose="batch")
    begun = await acme.batches.create(
        input_file_id=file.id, endpoint=CHAT, completion_window=DAY, metadata={"a": "b"}
    )
    assert (begun.input_file_id, begun.metadata) == (file.id, {"a": "b"})
    assert [one.id async for one in acme.batches.list()] == [begun.id]
    assert [one async for one in beta.batches.list()] == []
    await missing(beta.batches.retrieve(begun.id), "batch_not_found")
    await missing(beta.batches.cancel(begun.id), "batch_not_found")
    while (batch := await acme.batches.retrieve(begun.id)).status != "completed":
        assert batch.output_file_id is None
    assert batch.output_file_id is not None
    output = (await acme.files.content(batch.output_file_id)).text
    assert output.count('"status_code":200') == 3
    await missing(beta.files.content(batch.output_file_id))
    for _ in range(2):
        await acme.batches.retrieve(begun.id)
        await scene.rows()
    [row] = [row for row in await scene.rows() if row["reason"] == "batch"]
    tokens = {"input": 100, "cache_read": 20, "output": 30, "reasoning": 4}
    assert {name: count for name, count in row["tokens"].items() if count} == tokens
    assert (row["cost"], row["mode"], row["model"]) == (0, "byok", "openai/batches")
    assert await scene.used(acme, "tokens") == 154
    second = await acme.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window=DAY)
    assert (await acme.batches.cancel(second.id)).status == "cancelled"
    assert {one.key for one in scene.fake.requests if "batches" in one.path} == {OWN}
    await scene.stage.pool.execute("DELETE FROM byok_key WHERE organisation = $1", ACME)
    assert await scene.stage.drain.publisher.organisation(str(ACME))
    await missing(acme.batches.retrieve(begun.id), "batch_not_found")
    # what the organisation left with the platform's key is still there
    assert (await acme.files.retrieve(platform.id)).id == platform.id
    report = await verify(scene.stage.pool, scene.stage.redis)
    assert not [check for check in report.checks if not check.ok]


async def test_what_cannot_be_kept_is_refused_with_its_reason(scene: Scene) -> None:
    stage, fake = scene.stage, scene.fake
    acme = await scene.client(ACME)
    headers = {"authorization": f"Bearer {acme.api_key}"}
    answer = await stage.http.post("/v1/files", files={"file": ("a", b"a")}, headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "purpose")
    with pytest.raises(openai.APIStatusError) as large:
        await acme.files.create(file=("a", bytes(BODY_MAX)), purpose="batch")
    assert (large.value.status_code, large.value.code) == (413, "body_too_large")
    listed = await scene.client(ACME, models=["fake/ok"])
    with pytest.raises(openai.PermissionDeniedError, match="fake/files"):
        await listed.files.list()
    routed = await scene.client(ACME, routes=["/v1/chat/*"])
    with pytest.raises(openai.PermissionDeniedError, match="/v1/files"):
        await routed.files.list()
    poor = await scene.client(POOR)
    with pytest.raises(openai.APIStatusError, match="byok add") as unpaid:
        await poor.files.create(file=("a", b"a"), purpose="batch")
    assert (unpaid.value.status_code, unpaid.value.code) == (402, "file_credits_needed")
    assert not fake.requests
    assert [one async for one in poor.files.list()] == []
    await stage.add_provider("http://127.0.0.1:1/v1", PLATFORM, "down")
    await stage.add_model("down/m", provider="down")
    with pytest.raises(openai.BadRequestError, match="down, fake") as unclear:
        await acme.files.list()
    assert unclear.value.code == "provider_unclear"
    named = {"x-ops-provider": "fake"}
    made = await acme.files.create(file=("a", b"a"), purpose="evals", extra_headers=named)
    assert (await acme.files.retrieve(made.id)).id == made.id  # its id tells where it lies
    other = {"model": "down/m"}
    with pytest.raises(openai.InternalServerError) as down:
        await acme.files.create(file=("a", b"a"), purpose="evals", extra_body=other)
    assert down.value.code == "upstream_unreachable"
    with pytest.raises(openai.BadRequestError, match="fake"):
        await acme.files.list(extra_headers={"x-ops-provider": "nobody"})
    assert (await stage.pool_in_redis(ACME))["h"] == 0


async def test_a_file_that_breaks_off_is_no_whole_one(scene: Scene) -> None:
    """Nor is an answer that tells no id: what a client is told has always an id of ours."""
    cut = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"

    async def script(peer: Peer) -> None:
        heads.append(b"".join(await peer.request()).partition(b"\r\n")[0])
        await peer.send(cut + (b"half" if b"content" in heads[-1] else b'{"id": 7}'))

    heads: list[bytes] = []
    async with serving(script) as server:
        base = server.url.removesuffix("/chat")
        await scene.bring(ACME, base)
        id = await scene.sealed("files", "o:openai", "file-a", base)
        headers = {"authorization": f"Bearer {(await scene.client(ACME)).api_key}"}
        with pytest.raises(httpx2.RemoteProtocolError):
            await scene.stage.http.get(f"/v1/files/{id}/content", headers=headers)
        answer = await scene.stage.http.get(f"/v1/files/{id}", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_broken")
    path = taken_apart(base)[1].decode()
    lines = [f"GET {path}/files/file-a{tail} HTTP/1.1" for tail in ("/content", "")]
    assert [head.decode() for head in heads] == lines
    [broken, unreadable] = await scene.rows()
    assert {row["reason"] for row in (broken, unreadable)} == {"upstream_broken"}


async def test_nobody_makes_an_id_of_what_lies_with_another(scene: Scene) -> None:
    """A key of one's own that says it serves `fake/files` has no part in what is kept there, and
    what the platform's provider is told of an id is told to whom the mark names."""
    acme, beta = await scene.client(ACME), await scene.client(BETA)
    secret = await beta.files.create(file=("secret.txt", b"of Beta"), purpose="user_data")
    assert secret.expires_at is not None
    assert secret.expires_at - secret.created_at == EXPIRES_MAX_S
    account, theirs = Names(scene.stage.keyfile, str(BETA)).open("files", secret.id) or ("", "")
    assert account.startswith("p:fake@")
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        heads.append(b"".join(await peer.request()))

    async with serving(script) as server:
        base = server.url.removesuffix("/chat")
        await scene.bring(ACME, base, **{"fake/files": "x"})
        named = {"x-ops-provider": "fake"}
        made = await acme.files.create(file=("a", b"a"), purpose="evals", extra_headers=named)
    assert not heads
    assert (await acme.files.content(made.id)).content == b"a"
    forged = Names(scene.stage.keyfile, str(ACME)).seal("files", account, theirs) or ""
    for asked in (acme.files.retrieve, acme.files.content, acme.files.delete):
        await missing(asked(forged))
    assert (await beta.files.content(secret.id)).content == b"of Beta"
    deleted = [one.path for one in scene.fake.requests if one.method == "DELETE"]
    assert not deleted
    assert (await acme.files.delete(made.id)).deleted


async def test_a_file_that_is_gone_without_a_word_is_deleted(scene: Scene) -> None:
    """And a member's own key of the same provider takes nothing away of his organisation's."""

    async def script(peer: Peer) -> None:
        heads.append(b"".join(await peer.request()).partition(b" HTTP")[0])
        await peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    heads: list[bytes] = []
    async with serving(script) as server:
        base = server.url.removesuffix("/chat")
        await scene.bring(ACME, base)
        person = await scene.stage.pool.fetchval("SELECT person FROM membership LIMIT 1")
        sealed = scene.stage.keyfile.seal(f"m:{ACME}:{person}:openai", base, OWN)
        await scene.stage.pool.execute(
            "INSERT INTO byok_key (id, organisation, person, kind, name, adapter, base_url, models,"
            " secret, last4) VALUES ($1, $2, $3, 'openai', 'his', 'openai', $4, '{}', $5, 'cdef')",
            *(uuid4(), ACME, person, base, sealed),
        )
        id = await scene.sealed("files", "o:openai", "file-a", base)
        assert (await (await scene.client(ACME)).files.delete(id)).model_dump() == {
            "id": id,
            "object": "file",
            "deleted": True,
        }
    [head] = heads
    assert head.startswith(b"DELETE ")
    assert head.endswith(b"/files/file-a")
