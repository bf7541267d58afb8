"""The stories of one request: a call, a stream, a limit, a failing provider, a client that leaves.

Each runs through a real worker, Redis and Postgres; providers are the fake one.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import openai
import orjson
import pytest

from bench.upstream import FakeUpstream
from control.books.verify import verify
from tests.door_stage import HELLO, DoorStage, door, until

USER: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    async with door(home, redis_url, database_url) as stage:
        yield stage


@pytest.fixture
async def fake(stage: DoorStage, tmp_path: Path) -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream(ledger=tmp_path / "bills") as upstream:
        await stage.add_provider(upstream.url + "/v1", secret="sk-provider-secret")
        yield upstream


def error(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


# A call ------------------------------------------------------------------------------


async def test_a_call_is_answered_priced_and_charged(stage: DoorStage) -> None:
    """What the headers say, the ledger books: 3 tokens in at 1, 3 out at 2 credits per 1,000."""
    answer = await stage.chat()
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "hello, world"
    assert answer.headers["x-ops-cost"] == "0.009000"
    assert answer.headers["x-ops-credits-left"] == "9999.991000"
    assert answer.headers["x-ops-model"] == "ops/echo"
    await stage.quiesce()
    [row] = await stage.usage()
    assert str(row["rid"]) == answer.headers["x-ops-request-id"]
    assert (row["kind"], row["cost"], row["tokens"]) == ("settled", 9000, {"input": 3, "output": 3})
    assert await stage.pool_in_redis() == {"b": 9_999_991_000, "h": 0}


async def test_a_stream_tells_its_hold_first_and_its_cost_last(stage: DoorStage) -> None:
    answer = await stage.chat({**HELLO, "stream": True})
    lines = answer.text.split("\n\n")
    assert "x-ops-held" in answer.headers
    assert "x-ops-cost" not in answer.headers
    assert lines[-3:] == [
        "data: [DONE]",
        ": x-ops-cost=0.009000 x-ops-credits-left=9999.991000",
        "",
    ]


async def test_the_unchanged_openai_sdk_works(stage: DoorStage) -> None:
    async with openai.AsyncOpenAI(base_url=stage.url + "/v1", api_key=stage.key) as client:
        whole = await client.chat.completions.create(model="ops/echo", messages=USER)
        stream = await client.chat.completions.create(
            model="ops/echo",
            messages=USER,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        models = [model.id async for model in client.models.list()]
    assert whole.choices[0].message.content == "hello"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "hello"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 2
    assert models == ["ops/echo"]


async def test_the_sdk_raises_its_own_exceptions(stage: DoorStage) -> None:
    """P30: status and body are those of the API that the client speaks."""
    async with openai.AsyncOpenAI(
        base_url=stage.url + "/v1", api_key="no", max_retries=0
    ) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.chat.completions.create(model="ops/echo", messages=USER)
        client.api_key = stage.key
        with pytest.raises(openai.NotFoundError, match="no/such"):
            await client.chat.completions.create(model="no/such", messages=USER)
        with pytest.raises(openai.BadRequestError, match="messages"):
            await client.chat.completions.create(model="ops/echo", messages=[])


async def test_both_base_paths_serve_the_same(stage: DoorStage) -> None:
    headers = {"authorization": f"Bearer {stage.key}"}
    for path in ("/v1/chat/completions", "/api/v1/llm/chat/completions"):
        answer = await stage.http.post(path, json=HELLO, headers=headers)
        assert answer.status_code == 200


async def test_the_other_spelling_of_a_model_is_the_same_model(stage: DoorStage) -> None:
    answer = await stage.chat({**HELLO, "model": "ops:echo"})
    assert answer.headers["x-ops-model"] == "ops/echo"


# Who may not -------------------------------------------------------------------------


async def test_refusals_have_a_stable_code_and_the_right_status(stage: DoorStage) -> None:
    deep = b'{"model":"ops/echo","messages":[' + b"[" * 70 + b"]" * 70 + b"]}"
    assert error(await stage.chat(b"")) == (400, "body_empty")
    assert error(await stage.chat(b"{")) == (400, "body_invalid_json")
    assert error(await stage.chat(b"[]")) == (400, "body_not_object")
    assert error(await stage.chat(deep)) == (400, "body_too_deep")
    assert error(await stage.chat({"messages": USER})) == (400, "field_missing")
    assert error(await stage.chat({**HELLO, "stream": "yes"})) == (400, "field_invalid")
    assert error(await stage.chat({**HELLO, "model": "no/such"})) == (404, "model_not_found")
    assert error(await stage.chat(key="sk_ops_nonsense")) == (401, "invalid_api_key")
    assert error(await stage.http.post("/v1/chat/completions", json=HELLO)) == (401, "key_missing")
    assert error(await stage.http.get("/v1/chat/completions")) == (405, "method_not_allowed")
    assert error(await stage.http.get("/v1/nothing")) == (404, "route_not_found")
    assert error(await stage.chat(**{"content-encoding": "gzip"})) == (415, "body_encoded")


async def test_a_body_over_the_limit_is_refused_before_it_is_read(stage: DoorStage) -> None:
    limit = stage.worker.settings.body_max_bytes
    assert error(await stage.chat(b" " * (limit + 1))) == (413, "body_too_large")


async def test_a_body_without_a_length_is_bounded_too(stage: DoorStage) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(stage.worker.settings.body_max_bytes // 2**20 + 2):
            yield b" " * 2**20

    headers = {"authorization": f"Bearer {stage.key}"}
    answer = await stage.http.post("/v1/chat/completions", content=pieces(), headers=headers)
    assert error(answer) == (413, "body_too_large")


async def test_a_refused_request_holds_nothing(stage: DoorStage) -> None:
    before = await stage.pool_in_redis()
    await stage.chat(b"{")
    await stage.chat({**HELLO, "model": "no/such"})
    assert await stage.pool_in_redis() == before


async def test_an_unknown_key_with_a_right_check_sum_is_refused(stage: DoorStage) -> None:
    from proxy.who import keys

    assert error(await stage.chat(key=keys.mint(7).text)) == (401, "invalid_api_key")


async def test_a_key_with_anothers_id_and_its_own_secret_is_refused(stage: DoorStage) -> None:
    """The cached record tells who it would be; the digest tells that it is not."""
    from proxy.who import keys

    await stage.chat()
    body = stage.key[: -keys.CRC_LENGTH - keys.SECRET_LENGTH] + "A" * keys.SECRET_LENGTH
    forged = body + keys._checksum(body)
    assert keys.parse(forged) is not None
    assert error(await stage.chat(key=forged)) == (401, "invalid_api_key")


async def test_a_revoked_key_is_dead_for_the_next_request(stage: DoorStage) -> None:
    """P10: also where a worker remembers it."""
    key = await stage.new_key()
    assert (await stage.chat(key=key)).status_code == 200
    kid = key[9:19]
    await stage.pool.execute("UPDATE api_key SET status = 'revoked' WHERE kid = $1", kid)
    assert await stage.drain.publisher.key(kid)
    assert error(await stage.chat(key=key)) == (401, "invalid_api_key")
    assert (await stage.chat()).status_code == 200


async def test_a_suspended_organisation_is_refused(stage: DoorStage) -> None:
    organisation = await stage.organisation()
    await stage.pool.execute("UPDATE organisation SET status = 'suspended'")
    assert await stage.drain.publisher.organisation(str(organisation))
    assert error(await stage.chat()) == (403, "organisation_suspended")


async def test_a_key_for_some_models_gets_only_these(stage: DoorStage, fake: FakeUpstream) -> None:
    await stage.add_model("mock/ok")
    key = await stage.new_key(models=["mock/ok"])
    assert (await stage.chat({**HELLO, "model": "mock/ok"}, key)).status_code == 200
    assert error(await stage.chat(HELLO, key)) == (403, "model_not_allowed")
    headers = {"authorization": f"Bearer {key}"}
    listed = (await stage.http.get("/v1/models", headers=headers)).json()["data"]
    assert [model["id"] for model in listed] == ["mock/ok"]
    assert (await stage.http.get("/v1/models/mock%2Fok", headers=headers)).status_code == 200
    assert (await stage.http.get("/v1/models/ops/echo", headers=headers)).status_code == 404


async def test_a_model_without_a_price_is_not_sold(stage: DoorStage, fake: FakeUpstream) -> None:
    """P06: no price, no call."""
    await stage.add_model("mock/ok", rates=None)
    assert error(await stage.chat({**HELLO, "model": "mock/ok"})) == (400, "price_unknown")
    assert not fake.requests


# Credits and slots --------------------------------------------------------------------


async def test_without_credits_the_answer_is_402(stage: DoorStage) -> None:
    """The refusal names what was needed and what is left, and tells SDKs not to try again."""
    dear = {**HELLO, "max_tokens": 4096, "n": 128}
    assert (await stage.chat(dear)).status_code == 200
    await stage.pool.execute("UPDATE organisation SET name = name")
    owner = f"o:{await stage.organisation()}"
    shard = await stage.pool.fetchval("SELECT shard FROM organisation")
    await stage.redis.command("HSET", f"{{s{shard:02d}}}:{owner}", "pool.b", "5000")
    answer = await stage.chat({**HELLO, "max_tokens": 10})
    assert error(answer) == (402, "insufficient_credits")
    assert answer.headers["x-should-retry"] == "false"
    assert "0.005000 are" in answer.json()["error"]["message"]


async def test_many_at_once_never_overdraw_a_pool(stage: DoorStage) -> None:
    """Exactly as many are admitted as the balance carries holds."""
    body = {**HELLO, "max_tokens": 100}
    hold = 200_000 + len(orjson.dumps(body)) * 1000
    owner = f"o:{await stage.organisation()}"
    shard = await stage.pool.fetchval("SELECT shard FROM organisation")
    name = f"{{s{shard:02d}}}:{owner}"
    await stage.redis.command("HSET", name, "pool.b", hold * 5 + 9000 * 3)
    held = {**body, "stream": True}
    hold_stream = hold + len(b',"stream":true') * 1000
    assert hold_stream * 5 > hold * 5  # the bodies differ by their length alone
    answers = await asyncio.gather(*(stage.chat(held) for _ in range(40)))
    codes = [answer.status_code for answer in answers]
    assert set(codes) <= {200, 402}
    await stage.quiesce()
    pool = await stage.pool_in_redis()
    assert pool["h"] == 0
    assert pool["b"] == hold * 5 + 27_000 - 9000 * codes.count(200)
    assert pool["b"] >= 0


async def test_parallel_requests_are_slots(stage: DoorStage, fake: FakeUpstream) -> None:
    """The slot of a request that runs is taken; when it ends, the next one gets it."""
    await stage.add_model("mock/hang")
    key = await stage.new_key(parallel_max=1)
    waiting = asyncio.create_task(stage.chat({**HELLO, "model": "mock/hang"}, key))
    await until(lambda: bool(fake.requests))
    refused = await stage.chat(HELLO, key)
    assert error(refused) == (429, "parallel_limit")
    assert refused.headers["retry-after"] == "1"
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    await until(lambda: not stage.worker.flow.settler.running)
    await stage.quiesce()
    assert (await stage.chat(HELLO, key)).status_code == 200


# Providers -----------------------------------------------------------------------------


async def test_a_compatible_provider_serves_and_its_usage_is_charged(
    stage: DoorStage, fake: FakeUpstream
) -> None:
    """Cached tokens are a class of their own; the bill of the provider is the truth."""
    model = await stage.add_model("mock/cached", "mock/ok?in=100&out=20&cached=60&reasoning=5")
    answer = await stage.chat({**HELLO, "model": model})
    assert answer.status_code == 200
    await stage.quiesce()
    [row] = await stage.usage()
    assert row["tokens"] == {"input": 40, "cache_read": 60, "output": 15, "reasoning": 5}
    assert row["cost"] == 40 * 3000 + 60 * 300 + 20 * 15000
    [bill] = fake.billed()
    assert bill.request_id == str(row["rid"])


async def test_only_what_belongs_upstream_goes_there(stage: DoorStage, fake: FakeUpstream) -> None:
    """S-23: the provider sees our key for it, never the client's, nor his cookies."""
    model = await stage.add_model("mock/ok")
    await stage.chat({**HELLO, "model": model}, cookie="a=b", **{"x-forwarded-for": "1.2.3.4"})
    [seen] = fake.requests
    headers = {name.lower(): value for name, value in seen.headers.items()}
    assert headers["authorization"] == "Bearer sk-provider-secret"
    assert not {"cookie", "x-forwarded-for"} & set(headers)
    assert orjson.loads(seen.body) == {**HELLO, "model": model}


async def test_usage_is_asked_for_and_hidden_from_who_did_not_ask(
    stage: DoorStage, fake: FakeUpstream
) -> None:
    model = await stage.add_model("mock/ok", "mock/ok?in=7&out=9")
    silent = await stage.chat({**HELLO, "model": model, "stream": True})
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    told = await stage.chat({**HELLO, "model": model, **asked})
    assert '"prompt_tokens":7' not in silent.text
    assert '"prompt_tokens":7' in told.text
    await stage.quiesce()
    assert [row["tokens"] for row in await stage.usage()] == [{"input": 7, "output": 9}] * 2
    assert all(orjson.loads(seen.body)["stream_options"]["include_usage"] for seen in fake.requests)


@pytest.mark.parametrize(
    ("upstream_model", "status", "code"),
    [
        ("mock/500", 503, "upstream_refused"),
        ("mock/429", 429, "upstream_refused"),
        ("mock/401", 502, "upstream_key_refused"),
        ("mock/400", 400, "upstream_refused"),
        ("mock/redirect", 502, "upstream_refused"),
        ("mock/garbage", 502, "upstream_broken"),
        ("mock/close", 503, "upstream_unreachable"),
        ("mock/reset", 503, "upstream_unreachable"),
        ("mock/truncate", 502, "upstream_broken"),
    ],
)
async def test_a_failing_provider_costs_nothing_and_is_told(
    stage: DoorStage, fake: FakeUpstream, upstream_model: str, status: int, code: str
) -> None:
    model = await stage.add_model("mock/bad", upstream_model)
    answer = await stage.chat({**HELLO, "model": model})
    assert error(answer) == (status, code)
    assert "sk-provider-secret" not in answer.text
    if upstream_model == "mock/429":
        assert "retry-after" in answer.headers
    await stage.quiesce()
    [row] = await stage.usage()
    assert (row["kind"], row["cost"], row["reason"]) == ("released", 0, code)
    assert (await stage.pool_in_redis())["h"] == 0


async def test_the_next_deployment_answers_when_the_first_cannot(
    stage: DoorStage, fake: FakeUpstream
) -> None:
    """P08: however many were tried, one charge; the attempts are told."""
    await stage.add_model("mock/two", "mock/500")
    await stage.add_model("mock/two", "mock/ok?in=7&out=9", rates=None)
    answer = await stage.chat({**HELLO, "model": "mock/two"})
    assert answer.status_code == 200
    assert answer.headers["x-ops-attempts"] == "2"
    await stage.quiesce()
    [row] = await stage.usage()
    assert (row["attempts"], row["tokens"]) == (2, {"input": 7, "output": 9})


async def test_a_provider_that_nobody_listens_for_is_unreachable(stage: DoorStage) -> None:
    await stage.add_provider("http://127.0.0.1:1/v1")
    model = await stage.add_model("mock/ok")
    answer = await stage.chat({**HELLO, "model": model})
    assert error(answer) == (503, "upstream_unreachable")
    assert "refused" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("upstream_model", "source", "reason"),
    [
        ("mock/ok?in=7&out=9", "provider", "usage_frame"),
        ("mock/usage-early?in=7&out=9", "provider", "usage_frame"),
        ("mock/usage-zero", "provider", "usage_frame"),
        ("mock/nousage", "estimated", "no_usage_frame"),
        ("mock/nodone?in=7&out=9", "provider", "upstream_broken"),
        ("mock/truncate@3", "estimated", "upstream_broken"),
        ("mock/error-in-stream@2", "estimated", "error_in_stream"),
        ("mock/garbage@2", "estimated", "no_usage_frame"),
        ("mock/bigline", "estimated", "upstream_broken"),
    ],
)
async def test_the_bill_of_a_stream_follows_one_rule(
    stage: DoorStage, fake: FakeUpstream, upstream_model: str, source: str, reason: str
) -> None:
    """P03: what the provider told is charged, also zero; else an estimate, marked as such."""
    model = await stage.add_model("mock/stream", upstream_model)
    answer = await stage.chat({**HELLO, "model": model, "stream": True})
    assert answer.status_code == 200
    await stage.quiesce()
    [row] = await stage.usage()
    assert (row["kind"], row["usage_source"], row["reason"]) == ("settled", source, reason)
    if upstream_model == "mock/usage-zero":
        assert (row["cost"], row["tokens"]) == (0, {})
    if reason == "upstream_broken":
        assert '"code":"upstream_broken"' in answer.text
    report = await verify(stage.pool, stage.redis)
    assert report.ok, report


# Clients that leave ---------------------------------------------------------------------


async def test_a_client_that_leaves_stops_the_provider_and_pays_for_what_came(
    stage: DoorStage, fake: FakeUpstream
) -> None:
    """P39: the provider's connection is closed; the stream is charged by what was delivered."""
    model = await stage.add_model("mock/long", "mock/hang@3")
    body = orjson.dumps({**HELLO, "model": model, "stream": True})
    headers = {"authorization": f"Bearer {stage.key}"}
    async with stage.http.stream(
        "POST", "/v1/chat/completions", content=body, headers=headers
    ) as answer:
        pieces = answer.aiter_bytes()
        await anext(pieces)
        await pieces.aclose()
    await until(lambda: not fake.connections)
    await until(lambda: not stage.worker.flow.settler.running)
    await stage.quiesce()
    [row] = await stage.usage()
    assert (row["kind"], row["reason"], row["usage_source"]) == (
        "settled",
        "client_gone",
        "estimated",
    )
    assert row["cost"] > 0
    assert (await stage.pool_in_redis())["h"] == 0


async def test_a_client_that_leaves_before_the_answer_pays_nothing(
    stage: DoorStage, fake: FakeUpstream
) -> None:
    model = await stage.add_model("mock/hang")
    task = asyncio.create_task(stage.chat({**HELLO, "model": model}))
    await until(lambda: bool(fake.requests))
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await until(lambda: not stage.worker.flow.settler.running)
    await stage.quiesce()
    [row] = await stage.usage()
    assert (row["kind"], row["cost"], row["reason"]) == ("released", 0, "client_gone")


# Redis away --------------------------------------------------------------------------------


async def test_without_redis_nothing_is_admitted(stage: DoorStage, fake: FakeUpstream) -> None:
    """P11: fail closed, at once, with Retry-After; no provider is asked."""
    model = await stage.add_model("mock/ok")
    await stage.redis.command("FLUSHDB")
    answer = await stage.chat({**HELLO, "model": model})
    assert error(answer) == (503, "not_ready")
    assert answer.headers["retry-after"] == "2"
    assert not fake.requests


async def test_a_wiped_redis_is_filled_again_from_the_ledger(stage: DoorStage) -> None:
    await stage.chat()
    await stage.quiesce()
    await stage.redis.command("FLUSHDB")
    await stage.drain.prepare()
    answer = await stage.chat()
    assert answer.headers["x-ops-credits-left"] == "9999.982000"
    await stage.quiesce()
    report = await verify(stage.pool, stage.redis)
    assert report.ok, report


async def test_a_client_that_leaves_while_he_is_admitted_leaves_no_hold(
    stage: DoorStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script has taken the hold, the answer finds nobody: it is given back at once."""
    await stage.chat()
    held_back: list[Callable[[], None]] = []
    with monkeypatch.context() as patch:
        for connection in stage.worker.flow.admission._shards.pipe._seed._ready:
            answer = connection._answer_waiting
            patch.setattr(connection, "_answer_waiting", lambda a=answer: held_back.append(a))
            patch.setattr(connection, "expire", lambda now: None)
        task = asyncio.create_task(stage.chat())
        while not (await stage.pool_in_redis())["h"]:  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await until(lambda: stage.worker.metrics.cells[stage.worker.metrics.running] == 0)
    for answer in held_back:
        answer()
    metrics = stage.worker.metrics
    await until(lambda: metrics.cells[metrics.settled] == 2)
    await stage.quiesce()
    assert (await stage.pool_in_redis())["h"] == 0
    assert [(row["kind"], row["reason"]) for row in await stage.usage()][1:] == [
        ("released", "client_gone")
    ]


async def test_pictures_by_address_hold_the_whole_context(stage: DoorStage) -> None:
    """An address of a few bytes may stand for thousands of tokens."""
    text = {**HELLO, "stream": True}
    part = {"type": "image_url", "image_url": {"url": "https://example.test/x.png"}}
    picture = {**text, "messages": [{"role": "user", "content": [part]}]}
    held = [(await stage.chat(body)).headers["x-ops-held"] for body in (text, picture)]
    assert float(held[0]) < 9
    assert float(held[1]) == (32768 * 1000 + 1024 * 2000) / 1_000_000


async def test_a_stream_that_breaks_before_its_first_event_costs_nothing(stage: DoorStage) -> None:
    async def only_a_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(only_a_head, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        await stage.add_provider(f"http://{host}:{port}/v1")
        model = await stage.add_model("mock/bad")
        answer = await stage.chat({**HELLO, "model": model, "stream": True})
    assert "upstream_broken" in answer.text
    await stage.quiesce()
    assert [(row["kind"], row["cost"]) for row in await stage.usage()] == [("released", 0)]
