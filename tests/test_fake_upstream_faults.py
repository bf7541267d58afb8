"""The fake provider's faults: what comes over the wire, and what is billed for it."""

from collections.abc import Callable

import orjson
import pytest

from bench.raw import KEY, ask, connected, eventually, request, streamed
from bench.upstream import FakeUpstream


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 503, 529])
async def test_an_error_has_its_status_and_openais_shape_and_costs_nothing(status: int) -> None:
    async with FakeUpstream() as upstream:
        reply = await ask(upstream, streamed(f"mock/{status}"))
        assert reply.status == status
        assert set(reply.json["error"]) == {"message", "type", "param", "code"}
        assert reply.headers.get("retry-after") == ("1" if status == 429 else None)
        assert upstream.billed() == []


async def test_an_errors_wait_can_be_chosen() -> None:
    async with FakeUpstream() as upstream:
        reply = await ask(upstream, request("mock/503?retry_after=7"))
        assert reply.headers["retry-after"] == "7"


async def test_a_401_shows_the_key_it_was_given() -> None:
    async with FakeUpstream() as upstream:
        reply = await ask(upstream, request("mock/401"))
        assert reply.status == 401
        assert KEY in reply.json["error"]["message"]


async def test_a_spent_quota_and_a_redirect() -> None:
    async with FakeUpstream() as upstream:
        quota = await ask(upstream, request("mock/quota"))
        assert (quota.status, quota.json["error"]["code"]) == (429, "insufficient_quota")
        redirect = await ask(upstream, request("mock/redirect"))
        assert (redirect.status, redirect.body) == (307, b"")
        assert redirect.headers["location"].startswith("/redirected/")


async def test_a_fault_can_be_over_after_some_times() -> None:
    async with FakeUpstream() as upstream:
        statuses = [(await ask(upstream, request("mock/503?times=2"))).status for _ in range(4)]
        assert statuses == [503, 503, 200, 200]
        assert (await ask(upstream, request("mock/503?times=2&tag=1"))).status == 503


@pytest.mark.parametrize("ask_for", [request, streamed])
async def test_hang_sends_nothing_and_bills_nothing(ask_for: Callable[..., bytes]) -> None:
    async with FakeUpstream() as upstream:
        async with connected(upstream) as client:
            await client.ask(ask_for("mock/hang"), until=lambda reply: True)
            await eventually(lambda: upstream.requests)
            assert await client.is_silent()
        await eventually(lambda: not upstream.connections)
        assert upstream.billed() == []


@pytest.mark.parametrize(
    ("fault", "end"), [("hang", "aborted"), ("truncate", "cut"), ("reset", "cut"), ("close", "cut")]
)
@pytest.mark.parametrize("pieces", range(1, 6))
async def test_a_stream_that_stops_is_billed_for_what_was_produced(
    fault: str, end: str, pieces: int
) -> None:
    async with FakeUpstream() as upstream:
        async with connected(upstream) as client:
            reply = await client.ask(
                streamed(f"mock/{fault}@{pieces}?chunks=5&in=7&out=50&reasoning=10"),
                until=lambda reply: fault == "hang" and len(reply.events) == 1 + pieces,
            )
            assert not reply.whole
            assert len(reply.chunks) == 1 + pieces
            assert reply.reset == (fault == "reset")
        await eventually(upstream.billed)
        [bill] = upstream.billed()
        assert (bill.end, bill.prompt_tokens) == (end, 7)
        assert (bill.completion_tokens, bill.reasoning_tokens) == (10 * pieces, 2 * pieces)


@pytest.mark.parametrize("fault", ["truncate", "reset@1", "close@1"])
async def test_a_plain_answer_that_stops_is_billed_whole(fault: str) -> None:
    async with FakeUpstream() as upstream:
        reply = await ask(upstream, request(f"mock/{fault}"))
        assert 0 < len(reply.body) < int(reply.headers["content-length"])
        [bill] = upstream.billed()
        assert (bill.end, bill.completion_tokens) == ("cut", 34)


@pytest.mark.parametrize("fault", ["close", "reset", "truncate@0"])
async def test_a_connection_can_end_without_content_and_costs_nothing(fault: str) -> None:
    async with FakeUpstream() as upstream:
        reply = await ask(upstream, streamed(f"mock/{fault}"))
        assert not reply.whole
        assert (reply.status, reply.reset) == (200 if "@" in fault else 0, fault == "reset")
        assert upstream.billed() == []


async def test_usage_may_be_missing_early_or_zero() -> None:
    async with FakeUpstream() as upstream:
        missing = await ask(upstream, streamed("mock/nousage"))
        assert [chunk["usage"] for chunk in missing.chunks] == [None] * 10
        assert "usage" not in (await ask(upstream, request("mock/nousage"))).json
        early = await ask(upstream, streamed("mock/usage-early"))
        assert early.chunks[0]["usage"]["total_tokens"] == 46
        assert [chunk["usage"] for chunk in early.chunks[1:]] == [None] * 9
        zero = await ask(upstream, streamed("mock/usage-zero"))
        assert zero.chunks[-1]["usage"]["total_tokens"] == 0
        assert [bill.completion_tokens for bill in upstream.billed()] == [34, 34, 34, 0]


async def test_garbage_is_no_json_and_no_sse() -> None:
    async with FakeUpstream() as upstream:
        plain = await ask(upstream, request("mock/garbage"))
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(plain.body)
        stream = await ask(upstream, streamed("mock/garbage@2?chunks=4&out=40"))
        assert orjson.loads(stream.events[2])["choices"]
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(stream.events[3])
        assert [bill.completion_tokens for bill in upstream.billed()] == [20]


async def test_an_error_comes_within_a_stream() -> None:
    async with FakeUpstream() as upstream:
        reply = await ask(upstream, streamed("mock/error-in-stream@2?chunks=4&out=40"))
        assert (reply.status, reply.whole) == (200, True)
        assert set(reply.chunks[-1]) == {"error"}
        assert b"[DONE]" not in reply.body
        [bill] = upstream.billed()
        assert (bill.end, bill.completion_tokens) == ("cut", 20)


async def test_a_stream_may_end_without_done() -> None:
    async with FakeUpstream() as upstream:
        reply = await ask(upstream, streamed("mock/nodone"))
        assert (reply.whole, reply.chunks[-1]["usage"]["total_tokens"]) == (True, 46)
        assert b"[DONE]" not in reply.body


async def test_one_line_may_be_over_a_mebibyte() -> None:
    async with FakeUpstream() as upstream:
        reply = await ask(upstream, streamed("mock/bigline"))
        assert max(map(len, reply.events)) > 1024 * 1024
        assert len((await ask(upstream, request("mock/bigline"))).text) == 1_310_720


@pytest.mark.parametrize("ask_for", [request, streamed])
async def test_a_bomb_does_not_end_and_does_not_block_others(ask_for: Callable[..., bytes]) -> None:
    async with FakeUpstream() as upstream:
        async with connected(upstream) as client:
            bomb = await client.ask(
                ask_for("mock/bomb"), until=lambda reply: len(reply.body) > 1_000_000
            )
            assert not bomb.whole
            assert (await ask(upstream, request("mock/ok", "r2"))).status == 200
        await eventually(lambda: len(upstream.billed()) == 2)
        [bill] = [bill for bill in upstream.billed() if bill.request_id == "r1"]
        assert bill.end == "aborted"
        assert bill.completion_tokens > 34
