"""P03: what no provider tells is counted by tiktoken where its vocabulary is at hand, in a process
of its own; in all other cases by bytes.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from bench.upstream import FakeUpstream
from control.books.verify import verify
from proxy.costs import counting
from proxy.costs.counting import KEPT_STEP_BYTES, TEXT_MAX_BYTES, WAITING_MAX, Counting, _Counter
from proxy.costs.vocabularies import Encoding
from proxy.dialects.counting import AROUND
from proxy.types import Call, Delivered, Deployment, Outcome, Usage
from tests.door_stage import DoorStage, door, until
from tests.matrix_stage import events
from tests.test_promise_dialects import HELLO, Caller, add, settled
from tests.vocabulary_stage import counts, fill, small

MODEL = "openai/gpt-4o"
PLACE = Deployment(1, MODEL, "p", "openai", "http://127.0.0.1:1/v1", "gpt-4o-mini")
WORDS = "estimates of the delivered text"
BODY = orjson.dumps({"messages": [{"role": "user", "content": WORDS}]})
BY_BYTES = Usage({"input": 1_000, "output": 1_000}, "estimated")
PATIENCE_S = 60.0
RATES = {"input": 1_000_000_000, "output": 10_000_000_000}


class Came:
    def __init__(self, content_bytes: int = 1_000, **told: int) -> None:
        self.content_bytes, self.told = content_bytes, told


def call(body: bytes = BODY, **more: Any) -> Call:
    return Call("r", "/", body, orjson.loads(body), MODEL, True, True, None, None, **more)


def chunk(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}}
    return b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n"


@pytest.fixture
def encoding(monkeypatch: pytest.MonkeyPatch) -> Encoding:
    return small(monkeypatch)["o200k_base"]


@pytest.fixture
async def made(encoding: Encoding, tmp_path: Path) -> AsyncIterator[Counting]:
    one = Counting(fill(tmp_path / "v", encoding), PATIENCE_S)
    yield one
    await one.close()


async def counted(
    one: Counting,
    text: str = WORDS,
    came: Delivered | None = None,
    asked: Call | None = None,
    letters: int = 3,
) -> Usage:
    """Of a stream that said this, in pieces of so many letters."""
    measure = one.of(asked or call(), PLACE)
    assert measure is not None
    for start in range(0, len(text), letters):
        measure.keep(chunk(text[start : start + letters]))
    outcome, closed = Outcome("settled", usage=BY_BYTES), list[bool]()
    await measure.stream(outcome, came or Came(), lambda: closed.append(True))
    return outcome.usage


def halted(one: Counting) -> _Counter:
    """Its process, which says nothing any more."""
    found = one._counter
    assert found is not None
    assert found._process is not None
    os.kill(found._process.pid, signal.SIGSTOP)
    return found


async def test_the_text_that_was_delivered_is_counted_whole(
    made: Counting, encoding: Encoding
) -> None:
    """Not piece by piece; and nothing of tiktoken is ever in the worker itself."""
    assert made._counter is None, "it is started when it is needed first"
    used = await counted(made)
    tokens = counts(encoding, WORDS)
    assert tokens < len(WORDS)
    expected = {"input": AROUND + tokens, "output": tokens}
    assert used == Usage(expected, "estimated", tokenizer="o200k_base")
    first = made._counter
    again = await asyncio.gather(*(counted(made) for _ in range(8)))
    assert again == [used] * 8
    assert made.kept_bytes == 0
    assert made._counter is first


async def test_a_count_stays_within_what_is_held_and_what_was_told(made: Counting) -> None:
    told = await counted(made, came=Came(input=7))
    assert told.tokens["input"] == 1_000
    assert (await counted(made, came=Came(content_bytes=3))).tokens["output"] == 3
    held = call()
    held.bound(2, 1)
    assert (await counted(made, asked=held)).tokens == {"input": 2, "output": 1}


async def test_of_whole_answers_and_of_embeddings(made: Counting, encoding: Encoding) -> None:
    measure = made.of(call(), PLACE)
    assert measure is not None
    answer = orjson.dumps({"choices": [{"message": {"role": "assistant", "content": WORDS}}]})
    used = await measure.whole(BY_BYTES, "whole", answer)
    assert used == await measure.whole(BY_BYTES, "text", WORDS.encode())
    assert used.tokens["output"] == counts(encoding, WORDS)
    asked = call(orjson.dumps({"input": WORDS}), kind="embeddings", dialect="embeddings")
    measure = made.of(asked, PLACE)
    assert measure is not None
    used = await measure.whole(Usage({"input": 9}, "estimated"), "whole", b"{}")
    assert used.tokens == {"input": counts(encoding, WORDS)}


async def test_nothing_is_kept_where_nothing_can_be_counted(made: Counting, tmp_path: Path) -> None:
    """No vocabulary, another model, another kind of call, or one that is free."""
    other = Deployment(1, "m", "p", "openai", "http://127.0.0.1:1/v1", "llama-4")
    older = Deployment(1, "m", "p", "openai", "http://127.0.0.1:1/v1", "gpt-4-turbo")
    assert Counting(tmp_path / "none", 1).of(call(), PLACE) is None
    assert made.of(call(), other) is made.of(call(), older) is None
    assert made.of(call(kind="speech"), PLACE) is made.of(call(free=True), PLACE) is None


async def test_what_is_too_long_is_counted_by_bytes(
    made: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One stream, all streams of a worker, one request, and too many who wait."""
    assert await counted(made, "x" * TEXT_MAX_BYTES, letters=100_000) == BY_BYTES
    monkeypatch.setattr(counting, "KEPT_MAX_BYTES", KEPT_STEP_BYTES)
    holds = made.of(call(), PLACE)
    assert holds is not None
    holds.keep(chunk(WORDS))
    assert await counted(made) == BY_BYTES
    holds._forget()
    monkeypatch.undo()
    long = call(orjson.dumps({"messages": "x" * TEXT_MAX_BYTES}))
    assert await made.count("o200k_base", long, "text", b"x") is None
    made._waiting = WAITING_MAX
    assert await made.count("o200k_base", call(), "text", b"x") is None
    assert made._counter is None


async def test_who_waits_too_long_has_bytes(made: Counting) -> None:
    """The process goes on; one that says nothing for long is ended, and another takes its place."""
    made._patience_s = 0.0
    assert await counted(made) == BY_BYTES
    made._patience_s = PATIENCE_S
    assert (await counted(made)).tokenizer
    first = halted(made)
    made._patience_s, first._heard = 0.0, -1e9
    first._asked[-1] = asyncio.get_running_loop().create_future()  # somebody has long waited
    assert await counted(made) == BY_BYTES
    assert first.ended
    made._patience_s = PATIENCE_S
    assert (await counted(made)).tokenizer
    assert made._counter is not first


async def test_a_worker_that_ends_lets_nobody_wait(made: Counting) -> None:
    """Bytes are counted, before it is too late to settle."""
    assert (await counted(made)).tokenizer
    first = halted(made)
    waiting = asyncio.create_task(counted(made))
    await until(lambda: bool(first._asked))
    await made.close()
    assert (waiting.done(), first.ended) == (True, True)
    assert await waiting == BY_BYTES
    assert made.of(call(), PLACE) is None


async def test_a_process_that_dies_is_rested(made: Counting) -> None:
    assert (await counted(made)).tokenizer
    first = halted(made)
    waiting = asyncio.create_task(counted(made))
    await until(lambda: bool(first._asked))
    assert first._process is not None
    os.kill(first._process.pid, signal.SIGKILL)
    assert await waiting == BY_BYTES
    assert first.ended
    assert await counted(made) == BY_BYTES, "it is not started again at once"
    made._rest_until = 0
    assert (await counted(made)).tokenizer


@pytest.mark.parametrize("data", [b"", b"\xff not a vocabulary"])
async def test_a_file_that_is_not_whole_is_never_used(
    encoding: Encoding, tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, with the file and what helps."""
    one = Counting(fill(tmp_path / "v", encoding, data=data), PATIENCE_S)
    assert await counted(one) == BY_BYTES
    [said] = [row.getMessage() for row in caplog.records if row.name.endswith("counting")]
    assert encoding.cached_as in said
    assert "copy it there anew" in said
    assert one.of(call(), PLACE) is None
    await one.close()


# At the door ------------------------------------------------------------------------------


@pytest.fixture
async def stage(
    home: Path, redis_url: str, database_url: str, tmp_path: Path, encoding: Encoding
) -> AsyncIterator[DoorStage]:
    folder = fill(tmp_path / "vocabularies", encoding)
    settings = {
        "OPSCENTER_REDIS_TIMEOUT_MS": "5000",
        "OPSCENTER_VOCABULARIES": str(folder),
        "OPSCENTER_COUNT_TIMEOUT_MS": "60000",
    }
    async with door(home, redis_url, database_url, **settings) as stage:
        yield stage


PLACES = (
    *(("chat", "openai"), ("chat", "anthropic")),
    *(("messages", "anthropic"), ("responses", "native"), ("responses", "ollama")),
)
ENDS = (
    ("stays", "mock/nousage", "no_usage_frame"),
    ("stays for a call", "mock/nousage", "no_usage_frame"),
    ("stays", "mock/truncate@3", "upstream_broken"),
    ("leaves in the middle", "mock/hang@3", "client_gone"),
    ("stays", "mock/ok", "usage_frame"),
)
PIECES = "in=7&out=8&chunks=8&bytes=160"
OUTPUT_MAX = 50  # that is asked for, and held


def text_of(read: bytes) -> str:
    """What a client of any of the dialects was told, whole or in pieces."""
    if read.startswith(b"{"):
        answer = orjson.loads(read)
        return str(answer["choices"][0]["message"]["content"])
    return "".join(map(_text, events(read[: read.rfind(b"\n\n") + 2])))


def _text(frame: dict[str, Any]) -> str:
    delta = frame.get("delta")
    if isinstance(delta, dict):
        return str(delta.get("text", ""))
    if isinstance(delta, str):
        return delta
    choices = frame.get("choices") or [{}]
    return str(choices[0].get("delta", {}).get("content") or "")


async def test_p03_disconnect_matrix_with_a_vocabulary(
    stage: DoorStage, encoding: Encoding
) -> None:
    """What was delivered is counted, its row says by what, and the books agree; what a provider
    has told is charged as told."""
    async with FakeUpstream() as fake:
        await add(stage, fake, tuple(dict.fromkeys(provider for _, provider in PLACES)))
        for nth, (dialect, provider) in enumerate(PLACES):
            for case, (how, mode, reason) in enumerate(ENDS):
                if "call" in how and dialect != "chat":
                    continue
                model = await stage.add_model(
                    f"{nth}-{case}/gpt-4o",
                    f"{mode}?{PIECES}",
                    provider=provider,
                    rates=RATES,
                )
                read = await Caller(stage, fake, dialect).acts(how, model)
                row = await settled(stage, fake)
                by_the_rule(encoding, row, reason, text_of(read), (dialect, provider, how, mode))
        await told_as_charged(stage, fake, encoding)
    report = await verify(stage.pool, stage.redis)
    assert report.ok, report
    assert (await stage.pool_in_redis())["h"] == 0


def by_the_rule(
    encoding: Encoding, row: Any, reason: str, text: str, where: tuple[str, ...]
) -> None:
    tokens = dict(row["tokens"])
    assert row["reason"] == reason, where
    if reason == "usage_frame":
        assert (row["usage_source"], row["tokenizer"]) == ("provider", ""), where
        assert tokens == {"input": 7, "output": 8}, where
        return
    assert (row["usage_source"], row["tokenizer"]) == ("estimated", "o200k_base"), where
    sent = AROUND + counts(encoding, "hello")
    told_early = where[1] == "anthropic" and reason != "no_usage_frame"
    assert tokens["input"] == (7 if told_early else sent), where
    assert tokens["output"] == min(counts(encoding, text), OUTPUT_MAX) > 0, where
    assert row["cost"] == 1_000 * tokens["input"] + 10_000 * tokens["output"] <= row["hold"], where


async def told_as_charged(stage: DoorStage, fake: FakeUpstream, encoding: Encoding) -> None:
    """Where the answer is said anew its usage is ours: the count that is charged."""
    await stage.add_model(MODEL, f"mock/nousage?{PIECES}", provider="anthropic", rates=RATES)
    answer = await stage.chat({"model": MODEL, "messages": HELLO})
    told, used = answer.json(), answer.json()["usage"]
    assert used["completion_tokens"] == counts(encoding, told["choices"][0]["message"]["content"])
    assert used["prompt_tokens"] == AROUND + counts(encoding, "hello")
    row = await settled(stage, fake)
    assert (row["tokens"]["output"], row["tokenizer"]) == (used["completion_tokens"], "o200k_base")
    assert Decimal(answer.headers["x-ops-cost"]) * 1_000_000 == row["cost"]
