"""The fake provider, asked over real sockets: good answers, refusals, HTTP itself, its bills."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.bills import BillFile, read_bills
from bench.connection import Connection
from bench.modes import BEHAVIOURS, PARAMETERS, BadParameter, UnknownModel, parse
from bench.provider import Provider
from bench.raw import KEY, ask, connected, eventually, request, streamed
from bench.upstream import FakeUpstream

README = Path(__file__).parent.parent / "bench" / "README.md"

# Good answers -----------------------------------------------------------------


async def test_a_plain_answer_is_openais_and_is_billed() -> None:
    async with FakeUpstream() as upstream:
        reply = await ask(upstream, request("mock/ok?in=12&out=34&cached=5&reasoning=7&bytes=300"))
        assert (reply.status, reply.headers["x-request-id"]) == (200, "r1")
        assert len(reply.text) == 300
        assert reply.json["choices"][0]["finish_reason"] == "stop"
        usage = reply.json["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (
            12,
            34,
            46,
        )
        assert usage["prompt_tokens_details"]["cached_tokens"] == 5
        assert usage["completion_tokens_details"]["reasoning_tokens"] == 7
        [bill] = upstream.billed()
        assert (bill.request_id, bill.prompt_tokens, bill.completion_tokens) == ("r1", 12, 34)
        assert (bill.cached_tokens, bill.reasoning_tokens, bill.end) == (5, 7, "finished")


async def test_a_stream_tells_usage_in_a_last_chunk_without_choices() -> None:
    async with FakeUpstream() as upstream:
        reply = await ask(upstream, streamed("mock/ok?chunks=5&bytes=101&out=9"))
        *chunks, last = reply.chunks
        assert reply.events[-1] == b"[DONE]"
        assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
        assert len(chunks) == 1 + 5 + 1
        assert len(reply.text) == 101
        assert [chunk["usage"] for chunk in chunks] == [None] * 7
        assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 9)
        finishes = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
        assert finishes == [None] * 6 + ["stop"]


async def test_a_stream_tells_no_usage_unless_asked() -> None:
    async with FakeUpstream() as upstream:
        reply = await ask(upstream, request("mock/ok", fields={"stream": True}))
        assert reply.events[-1] == b"[DONE]"
        assert not any("usage" in chunk for chunk in reply.chunks)
        assert upstream.billed()[0].completion_tokens == 34


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_a_callers_maximum_ends_the_answer(name: str) -> None:
    async with FakeUpstream() as upstream:
        reply = await ask(upstream, request("mock/ok?out=100", fields={name: 8}))
        assert reply.json["choices"][0]["finish_reason"] == "length"
        assert upstream.billed()[0].completion_tokens == 8


@pytest.mark.parametrize("ask_for", [request, streamed])
async def test_each_choice_is_billed(ask_for: Callable[..., bytes]) -> None:
    async with FakeUpstream() as upstream:
        reply = await ask(upstream, ask_for("mock/ok?out=10", fields={"n": 3}))
        rows = [reply.json] if ask_for is request else reply.chunks
        assert {choice["index"] for row in rows for choice in row["choices"]} == {0, 1, 2}
        assert upstream.billed()[0].completion_tokens == 30


async def test_tool_calls_come_whole_or_in_fragments() -> None:
    tools = [{"type": "function", "function": {"name": "weather"}}]
    async with FakeUpstream() as upstream:
        plain = (await ask(upstream, request("mock/tools", fields={"tools": tools}))).json[
            "choices"
        ][0]
        stream = await ask(upstream, streamed("mock/tools", fields={"tools": tools}))
        joined = ["", ""]
        for chunk in stream.chunks:
            for call in (
                chunk["choices"][0]["delta"].get("tool_calls", []) if chunk["choices"] else []
            ):
                joined[call["index"]] += call["function"]["arguments"]
        calls = plain["message"]["tool_calls"]
        assert plain["finish_reason"] == "tool_calls"
        assert calls[0]["function"]["name"] == "weather"
        assert joined == [call["function"]["arguments"] for call in calls]
        assert orjson.loads(joined[0]) == {"city": "Zürich"}


@pytest.mark.parametrize("ask_for", [request, streamed])
async def test_echo_tells_what_was_sent(ask_for: Callable[..., bytes]) -> None:
    async with FakeUpstream() as upstream:
        told = orjson.loads((await ask(upstream, ask_for("mock/echo"))).text)
        assert ["authorization", f"Bearer {KEY}"] in told["headers"]
        assert orjson.loads(told["body"])["model"] == "mock/echo"
        assert upstream.requests[-1].headers["x-request-id"] == "r1"
        assert upstream.requests[-1].body.decode() == told["body"]


async def test_models_are_listed_and_found_with_slashes_raw_or_quoted() -> None:
    async with FakeUpstream() as upstream:
        get = "GET /v1/models{} HTTP/1.1\r\nhost: mock\r\n\r\n"
        listed = await ask(upstream, get.format("").encode())
        assert [row["id"] for row in listed.json["data"]] == [f"mock/{name}" for name in BEHAVIOURS]
        for name in ("/mock/ok", "/mock%2Fok"):
            assert (await ask(upstream, get.format(name).encode())).json["id"] == "mock/ok"
        assert (await ask(upstream, get.format("/gpt").encode())).status == 404


async def test_latency_and_chunk_times_are_kept() -> None:
    async with FakeUpstream() as upstream:
        for ask_for, least_s in ((request, 0.03), (streamed, 0.03 + 3 * 0.02)):
            started = monotonic()
            reply = await ask(upstream, ask_for("mock/ok?latency_ms=30&chunks=4&chunk_ms=20"))
            assert reply.whole
            assert monotonic() - started >= least_s - 0.005  # a loop's clock is coarse
        assert [bill.end for bill in upstream.billed()] == ["finished"] * 2


# Refusals ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "status"),
    [("gpt-5", 404), ("mock/", 404), ("mock/600", 404), ("m" * 500, 404)]
    + [
        (f"mock/ok?{bad}", 400)
        for bad in ("in", "in=", "in=-1", "in=1e3", "in=٣", "x=1", "chunks=0")
    ],
)
async def test_a_name_that_means_nothing_is_refused(model: str, status: int) -> None:
    async with FakeUpstream() as upstream:
        assert (await ask(upstream, request(model))).status == status
        with pytest.raises(UnknownModel if status == 404 else BadParameter):
            parse(model)


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": []},
        {"messages": "hi"},
        {"n": 0},
        {"n": True},
        {"max_tokens": "9"},
        {"model": None},
        {"stream_options": {"include_usage": True}},
    ],
)
async def test_a_body_is_checked_as_openai_checks_it(fields: dict[str, object]) -> None:
    async with FakeUpstream() as upstream:
        reply = await ask(upstream, request("mock/ok", fields=fields))
        assert (reply.status, reply.json["error"]["type"]) == (400, "invalid_request_error")


async def test_nonsense_instead_of_http_is_refused_and_closed() -> None:
    async with FakeUpstream() as upstream:
        reply = await ask(upstream, b"hello\r\n\r\n")
        assert (reply.status, reply.headers["connection"]) == (400, "close")
        await eventually(lambda: not upstream.connections)


def test_the_readme_names_every_behaviour_and_parameter() -> None:
    text = README.read_text()
    missing = [name for name in (*BEHAVIOURS, *PARAMETERS) if f"`{name}`" not in text]
    assert missing == []


# The wire ---------------------------------------------------------------------


class Recorder(asyncio.Transport):
    """A transport that only remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return False

    def resume_reading(self) -> None:
        pass


async def test_two_requests_may_be_split_at_any_byte() -> None:
    pair = request("mock/ok?out=1", "a") + streamed("mock/ok?out=2&chunks=2", "b")
    with BillFile(None) as bills:
        provider = Provider(bills, None)
        answers = set()
        for cut in range(len(pair) + 1):
            transport, connection = Recorder(), Connection(provider, set())
            connection.connection_made(transport)
            for part in (pair[:cut], pair[cut:]):
                connection.data_received(part)
            answers.add(transport.sent)
        assert len(answers) == 1
        assert [bill.request_id for bill in bills.bills()] == ["a", "b"] * (len(pair) + 1)


async def test_pipelined_requests_are_answered_in_order_also_where_one_takes_time() -> None:
    async with FakeUpstream() as upstream:
        async with connected(upstream) as client:
            pair = request("mock/ok?latency_ms=20&bytes=1") + request("mock/ok?bytes=2", "r2")
            both = await client.ask(pair, lambda reply: reply.body.count(b'"usage"') == 2)
        assert both.body.index(b'"content":"T"') < both.body.index(b'"content":"Th"')
        assert [bill.request_id for bill in upstream.billed()] == ["r1", "r2"]


async def test_a_connection_is_kept_until_the_client_wants_it_closed() -> None:
    async with FakeUpstream() as upstream, connected(upstream) as client:
        for _ in range(3):
            assert (await client.ask(request("mock/ok"))).whole
        last = request("mock/ok?latency_ms=1").replace(b"host: mock", b"connection: close")
        assert (await client.ask(last)).whole
        assert not (await client.ask(b"")).whole


async def test_stopping_bills_what_was_under_way(tmp_path: Path) -> None:
    ledger = tmp_path / "bills.jsonl"
    async with AsyncExitStack() as after, FakeUpstream(ledger) as upstream:
        client = await after.enter_async_context(connected(upstream))
        await client.ask(
            streamed("mock/hang@2?chunks=4&out=40"), lambda reply: len(reply.events) == 3
        )
    assert [(bill.end, bill.completion_tokens) for bill in read_bills(ledger)] == [("aborted", 20)]


async def test_a_bill_half_written_is_not_read(tmp_path: Path) -> None:
    ledger = tmp_path / "bills.jsonl"
    async with FakeUpstream(ledger) as upstream:
        await ask(upstream, request("mock/ok"))
        with ledger.open("ab") as file:
            file.write(b'{"request_id": "r2", "mod')
        assert [bill.request_id for bill in upstream.billed()] == ["r1"]


async def test_it_speaks_tls(tmp_path: Path) -> None:
    server, client_side = _contexts(tmp_path)
    async with FakeUpstream(ssl_context=server) as upstream:
        assert upstream.url.startswith("https://127.0.0.1:")
        async with connected(upstream, client_side) as client:
            assert (await client.ask(streamed("mock/ok"))).events[-1] == b"[DONE]"


def _contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mock")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(hours=1))
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "mock.pem"
    path.write_bytes(private + builder.sign(key, hashes.SHA256()).public_bytes(pem))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    return server, client
