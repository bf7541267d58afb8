"""The provider's bytes to the client, untouched and at once; its usage to us."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import relay
from proxy.answers import Exchange
from proxy.costs import billed
from proxy.errors import InsufficientCredits, OpsError, UpstreamBroken, UpstreamRefused
from proxy.metrics import in_memory
from proxy.providers import fields
from proxy.providers.openai import OpenAI
from proxy.settings import Settings
from proxy.stream import delivered, frames, sse
from proxy.types import Call, Deployment, Outcome, Price
from proxy.upstream import Reply

PRICE = Price(1, {"input": 1, "output": 1}, 1_000_000)
PLACE = Deployment(1, "m", "p", "openai", "http://127.0.0.1:1/v1", "m")
USAGE = {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}
DONE = b"data: [DONE]\n\n"
calm = settings(deadline=None, derandomize=True, database=None)


def chunk(text: str = "word ", **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    fields = {"id": "c", "object": "chat.completion.chunk", "choices": [choice], "usage": None}
    return b"data: " + orjson.dumps({**fields, **more}) + b"\n\n"


COUNTED = chunk(choices=[], usage=USAGE)
ERROR = b'data: {"error":{"message":"no","code":"x"}}\n\n'
ODD = chunk('quotes " and "error" and _tokens and [DONE] and \n\n and ü')
STREAM = chunk("a") + ODD + b": comment\n\n" + chunk("b") + COUNTED + DONE
HIDDEN = STREAM.replace(COUNTED, b"")


class Script:
    """An answer that comes in these pieces; notes what had gone out at each reading."""

    status = 200
    headers: tuple[tuple[bytes, bytes], ...] = ((b"content-type", b"text/event-stream"),)

    def __init__(self, pieces: Sequence[bytes], client: "Client") -> None:
        self._pieces, self._client = list(pieces), client
        self.given = b""
        self.gone_out: list[tuple[bytes, int]] = []

    async def read(self) -> bytes | None:
        self.gone_out.append((self.given, len(b"".join(self._client.chunks))))
        if not self._pieces:
            return None
        self.given += self._pieces[0]
        return self._pieces.pop(0)

    def close(self) -> None:
        """Nothing is open."""


class Client:
    """The client's side of a stream."""

    fail: Callable[[OpsError], bytes | None] | None

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    async def chunk(self, data: bytes) -> None:
        self.chunks.append(data)


class Slices:
    """A hold that reaches so far, and can be lengthened so often."""

    def __init__(self, reach: int = 10**9, step: int = 0, times: int = 0) -> None:
        self.reach, self._step, self.times = reach, step, times

    async def more(self) -> bool:
        self.times -= 1
        self.reach += self._step
        return self.times >= 0

    async def refusal(self) -> OpsError:
        return InsufficientCredits(needed="1", left="less")


def call(wanted: bool = True) -> Call:
    body = b'{"model":"m","messages":[],"stream":true}'
    return Call("rid", "/", body, orjson.loads(body), "m", True, wanted, None, None)


async def relayed(
    pieces: Sequence[bytes],
    *,
    wanted: bool = True,
    slices: Slices | None = None,
    limit: int = 2**20,
) -> tuple[Client, Script, Outcome, OpsError | None]:
    client, outcome = Client(), Outcome()
    script = Script(pieces, client)
    reply = Reply(script, OpenAI(), PLACE, Settings(event_max_bytes=limit), 0)
    problem = None
    try:
        await relay.stream(reply, call(wanted), outcome, client, slices or Slices(), PRICE)
    except OpsError as found:
        problem = found
    return client, script, outcome, problem


# Bytes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize(("wanted", "expected"), [(True, STREAM), (False, HIDDEN)])
async def test_bytes_pass_untouched_wherever_the_network_cuts(
    end: bytes, wanted: bool, expected: bytes
) -> None:
    """At every byte; the usage is found, and hidden from a client that did not ask for it."""
    whole, expected = STREAM.replace(b"\n", end), expected.replace(b"\n", end)
    for at in range(len(whole) + 1):
        client, _, outcome, problem = await relayed([whole[:at], whole[at:]], wanted=wanted)
        assert b"".join(client.chunks) == expected, at
        assert (problem, outcome.reason) == (None, "usage_frame"), at
        assert outcome.usage.tokens == {"input": 7, "output": 9}, at


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
async def test_bytes_that_come_one_by_one_pass_untouched(end: bytes) -> None:
    whole = STREAM.replace(b"\n", end)
    client, _, outcome, _ = await relayed([bytes([byte]) for byte in whole])
    assert b"".join(client.chunks) == whole
    assert outcome.reason == "usage_frame"


events = st.sampled_from(
    (chunk("a"), ODD, b": ping\n\n", COUNTED, b"event: x\ndata: 1\ndata: 2\n\n", ERROR, b"\n\n")
)


@calm
@given(st.lists(events, max_size=8), st.sets(st.integers(0, 3000), max_size=9))
async def test_any_stream_cut_anywhere_is_the_same_stream(
    stream: list[bytes], places: set[int]
) -> None:
    whole = b"".join(stream) + DONE
    edges = [0, *sorted(place % (len(whole) + 1) for place in places), len(whole)]
    pieces = [whole[a:b] for a, b in pairwise(edges)]
    client, _, outcome, problem = await relayed([piece for piece in pieces if piece])
    at_once, _, alike, _ = await relayed([whole])
    assert b"".join(client.chunks) == b"".join(at_once.chunks) == whole
    assert problem is None
    assert (outcome.reason, outcome.usage.source) == (alike.reason, alike.usage.source)
    assert (outcome.reason == "error_in_stream") == (ERROR in stream)


async def test_an_error_in_the_middle_brings_no_key_along() -> None:
    """Neither one that looks like any provider's nor, in what came before, a word that does."""
    key = b"gsk_0123456789abcdefghij"
    error = b'data: {"error": {"message": "key %b is over its limit"}}\n\n' % key
    client, _, outcome, _ = await relayed([chunk(key.decode()), error, DONE])
    assert client.chunks[0] == chunk(key.decode())
    assert b"".join(client.chunks[1:]) == error.replace(key, b"***") + DONE
    assert outcome.reason == "error_in_stream"


async def test_whole_events_have_gone_out_before_more_is_read() -> None:
    """Nothing waits for the next piece, and no two pieces are made one."""
    whole = chunk("a") * 5 + STREAM
    pieces = [whole[at : at + 90] for at in range(0, len(whole), 90)]
    _, script, _, _ = await relayed(pieces)
    for come, gone_out in script.gone_out:
        assert gone_out == (come.rfind(b"\n\n") + 2 if b"\n\n" in come else 0)
    client, _, _, _ = await relayed([chunk("a"), chunk("b"), COUNTED, DONE])
    assert client.chunks == [chunk("a"), chunk("b"), COUNTED, DONE]


async def test_a_stream_is_not_read_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for its first frames, which tell how large a frame is without content, and its usage."""
    parsed = []

    class Counting:
        JSONDecodeError = orjson.JSONDecodeError
        dumps = staticmethod(orjson.dumps)

        @staticmethod
        def loads(data: bytes) -> Any:
            parsed.append(data)
            return orjson.loads(data)

    for module in (billed, frames, delivered, fields):
        monkeypatch.setattr(module, "orjson", Counting)
    await relayed([chunk(f"word {nth}") for nth in range(500)] + [COUNTED, DONE])
    assert len(parsed) == delivered.FRAMES_READ + 1
    parsed.clear()
    await relayed([chunk("word") * 500 + COUNTED + DONE])
    assert len(parsed) == delivered.FRAMES_READ + 1


# How it ends ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "reason", "source"),
    [
        (chunk() + COUNTED + DONE, "usage_frame", "provider"),
        (COUNTED + chunk() + DONE, "usage_frame", "provider"),
        (chunk(usage=USAGE) * 3 + DONE, "usage_frame", "provider"),
        (chunk() + COUNTED + DONE.rstrip(), "usage_frame", "provider"),
        (chunk() + DONE, "no_usage_frame", "estimated"),
        (chunk() + ERROR, "error_in_stream", "estimated"),
        (chunk() + ERROR + DONE, "error_in_stream", "estimated"),
        (chunk() + COUNTED + ERROR, "error_in_stream", "provider"),
        (b'data: {"error":{"message":"no"},"usage":%s}\n\n' % orjson.dumps(USAGE),
         "error_in_stream", "provider"),
        (DONE, "no_usage_frame", "none"),
    ],
)  # fmt: skip
async def test_a_stream_ends_as_its_events_say(stream: bytes, reason: str, source: str) -> None:
    _, _, outcome, problem = await relayed([stream])
    assert problem is None
    assert (outcome.reason, outcome.usage.source) == (reason, source)


@pytest.mark.parametrize("stream", [b"", chunk(), chunk() + COUNTED, chunk() + b"data: {"])
async def test_a_stream_without_its_end_mark_was_broken_off(stream: bytes) -> None:
    """What came is charged by the provider's count, or by an estimate; nothing, where none came."""
    client, _, outcome, problem = await relayed([stream] if stream else [])
    assert isinstance(problem, UpstreamBroken)
    assert b"[DONE]" not in b"".join(client.chunks)
    assert outcome.kind == ("settled" if stream else "released")
    assert outcome.usage.source == (
        "provider" if COUNTED in stream else "estimated" if stream else "none"
    )


async def test_a_line_beyond_the_limit_ends_the_stream_behind_what_came_before() -> None:
    limit = Settings().event_max_bytes
    assert limit == 2**20
    long = chunk("x" * limit)
    for pieces in ([chunk(), long, DONE], [chunk() + long + DONE], [chunk(), long[:-5], b"y" * 9]):
        client, _, outcome, problem = await relayed(pieces)
        assert isinstance(problem, UpstreamBroken)
        assert str(limit) in problem.sentence
        assert client.chunks == [chunk()]
        assert (outcome.kind, outcome.usage.source) == ("settled", "estimated")


async def test_a_stream_grows_its_hold_or_ends_with_a_last_frame() -> None:
    text = chunk("x" * 50)
    client, _, _, problem = await relayed([text] * 9 + [DONE], slices=Slices(100, 100, 9))
    assert problem is None
    client, _, _, problem = await relayed([text] * 9 + [DONE], slices=Slices(100, 100, 1))
    assert isinstance(problem, InsufficientCredits)
    last = orjson.loads(sse.data(client.chunks[-1]))
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "length"}]
    assert client.chunks[:-1] == [text] * 5


class Wire:
    """Bytes and ends, as a server would send them."""

    def __init__(self) -> None:
        self.sent = b""
        self.gone = False

    async def answer(self, status: int, headers: relay.Headers, body: bytes) -> None:
        raise AssertionError("the stream had begun")

    async def head(self, status: int, headers: relay.Headers) -> None:
        """Nobody looks at it here."""

    async def chunk(self, data: bytes) -> None:
        self.sent += data

    async def end(self, last: bytes) -> None:
        self.sent += last + b"(end)"


@pytest.mark.parametrize(
    ("stream", "estimated"), [(chunk("x" * 40) * 2, True), (chunk() + COUNTED, False)]
)
async def test_p21_a_broken_stream_ends_with_an_error_and_the_usage_so_far(
    stream: bytes, estimated: bool
) -> None:
    """In the client's dialect, and never with a finish that was none."""
    wire, outcome = Wire(), Outcome()
    exchange = Exchange("rid", wire, in_memory())
    await exchange.head(200, [])
    script = Script([stream], Client())
    reply = Reply(script, OpenAI(), PLACE, Settings(), 0)
    with pytest.raises(UpstreamBroken) as caught:
        await relay.stream(reply, call(), outcome, exchange, Slices(), PRICE)
    await exchange.refuse(caught.value)
    assert wire.sent.startswith(stream)
    assert wire.sent.endswith(b"\n\n(end)")
    told = orjson.loads(sse.data(wire.sent.removeprefix(stream).removesuffix(b"(end)")))
    assert told["error"]["code"] == "upstream_broken"
    used = {**USAGE, "estimated": False}
    if estimated:
        used = {"prompt_tokens": 11, "completion_tokens": 20, "total_tokens": 31, "estimated": True}
    assert told["usage"] == used
    assert b"[DONE]" not in wire.sent
    assert b'"finish_reason":"' not in wire.sent


async def test_a_stream_that_only_says_that_it_works_costs_nothing() -> None:
    ping = b": OPENROUTER PROCESSING\n\n"
    client, _, outcome, problem = await relayed([ping * 3, ping * 40])
    assert b"".join(client.chunks) == ping * 43
    assert isinstance(problem, UpstreamBroken)
    assert (outcome.kind, dict(outcome.usage.tokens)) == ("released", {})


@pytest.mark.parametrize("counted", [True, False])
async def test_an_error_with_status_200_is_charged_only_as_the_provider_counts(
    counted: bool,
) -> None:
    usage = {"usage": USAGE} if counted else {}
    body = orjson.dumps({"error": {"message": "overloaded", "code": 502}, **usage})
    outcome = Outcome()
    reply = Reply(Script([body], Client()), OpenAI(), PLACE, Settings(), 0)
    if counted:
        assert await relay.plain(reply, call(), outcome, PRICE) == body
        assert (outcome.kind, outcome.usage.source) == ("settled", "provider")
    else:
        with pytest.raises(UpstreamRefused, match="overloaded"):
            await relay.plain(reply, call(), outcome, PRICE)
        assert outcome.kind == "released"


@pytest.mark.parametrize(
    "kinds", [("text/event-stream", "application/json"), ("a/b", "c/d", "e/f")]
)
def test_of_a_type_that_is_told_twice_the_first_counts(kinds: tuple[str, ...]) -> None:
    script = Script([b"{}"], Client())
    script.headers = tuple((b"content-type", kind.encode()) for kind in kinds)
    reply = Reply(script, OpenAI(), PLACE, Settings(), 0)
    assert reply.content_type == kinds[0].encode()
