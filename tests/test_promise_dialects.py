"""P03 and P21 in every dialect: what a request costs however it ends, by the tables of
docs/money.md, and what its client reads where a stream breaks.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import anthropic
import openai
import orjson
import pytest

from bench.upstream import FakeUpstream
from control.books.verify import verify
from tests.door_stage import DoorStage, door, until
from tests.house import ROOT
from tests.matrix_stage import ADAPTERS, CLIENTS, PATHS, PROVIDERS, events

PAGE = ROOT / "docs" / "money.md"
BEGIN, END = "<!-- other dialects: begin -->", "<!-- other dialects: end -->"
RATES = {"input": 1_000_000_000, "output": 10_000_000_000}  # 1,000 and 10,000 ucr for a token
PIECES = "in=7&out=8&chunks=8&bytes=160"  # a piece has 20 bytes: 5 tokens of an estimate
HELLO = [{"role": "user", "content": "hello"}]
BODIES: dict[str, dict[str, Any]] = {
    "chat": {"messages": HELLO, "max_tokens": 50},
    "messages": {"messages": HELLO, "max_tokens": 50},
    "responses": {"input": "hello", "max_output_tokens": 50},
}
#: Each way to leave or to stay, with what the provider does.
CASES = (
    ("stays for a call", "mock/ok"),
    ("stays", "mock/ok"),
    ("reads slowly", "mock/ok"),
    ("stays for a call", "mock/usage-zero"),
    ("stays", "mock/usage-zero"),
    ("stays", "mock/nousage"),
    ("stays", "mock/nodone"),
    ("stays", "mock/truncate@3"),
    ("stays", "mock/reset@3"),
    ("stays", "mock/error-in-stream@3"),
    ("stays", "mock/500"),
    ("leaves a call", "mock/hang"),
    ("leaves before the first byte", "mock/hang"),
    ("leaves in the middle", "mock/hang@3"),
    ("presses stop", "mock/hang@3"),
    ("leaves after the usage", "mock/lingers"),
)
ENDED = ("anthropic", "gemini", "cohere", "ollama")
FAULTS = ("truncate@3", "reset@3", "nodone", "bigline", "error-in-stream@3")


class Row(NamedTuple):
    client: str
    provider: str
    row: str
    reason: str
    counted_by: str
    cost: str


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    patient = {"OPSCENTER_REDIS_TIMEOUT_MS": "5000"}
    async with door(home, redis_url, database_url, **patient) as stage:
        yield stage


class Caller:
    """A client of one dialect."""

    def __init__(self, stage: DoorStage, fake: FakeUpstream, dialect: str) -> None:
        self._stage, self._fake, self._dialect = stage, fake, dialect

    def _asking(self, model: str, **more: Any) -> Any:
        headers = {"authorization": f"Bearer {self._stage.key}"}
        body = {"model": model, **BODIES[self._dialect], **more}
        return self._stage.http.stream("POST", PATHS[self._dialect], json=body, headers=headers)

    async def acts(self, how: str, model: str) -> bytes:
        stream = "call" not in how
        if how == "presses stop":
            return await self._stopped(model)
        if "before" in how or how == "leaves a call":
            await self._left(model, stream)
            return b""
        async with self._asking(model, stream=stream) as answer:
            if how == "leaves in the middle":
                return await self._third_piece(answer)
            if how == "leaves after the usage":
                return await self._usage(answer)
            if how == "reads slowly":
                return b"".join([piece async for piece in slowly(answer)])
            return bytes(await answer.aread())

    async def _left(self, model: str, stream: bool) -> None:
        async def ask() -> None:
            async with self._asking(model, stream=stream):
                pass

        seen = len(self._fake.requests)
        task = asyncio.create_task(ask())
        await until(lambda: len(self._fake.requests) > seen)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _third_piece(self, answer: Any) -> bytes:
        """Until the text that was sent is there: three pieces of 20 letters."""
        read = b""
        async for piece in answer.aiter_raw():
            read += piece
            if text_of(read) >= 60:
                break
        return read

    async def _usage(self, answer: Any) -> bytes:
        """It is told at the end, whose mark is still to come."""
        read, told = b"", {"messages": b'"message_delta"', "responses": b'"response.completed"'}
        async for piece in answer.aiter_raw():
            read += piece
            if told[self._dialect] in read[: read.rfind(b"\n\n")]:
                break
        return read

    async def _stopped(self, model: str) -> bytes:
        """As the dialect's own client does it, after the third piece."""
        url, key, body = self._stage.url, self._stage.key, BODIES[self._dialect]
        seen = 0
        async with contextlib.AsyncExitStack() as opened:
            stream: Any
            if self._dialect == "messages":
                by = anthropic.AsyncAnthropic(base_url=url, api_key=key)
                await opened.enter_async_context(by)
                stream = await by.messages.create(model=model, stream=True, **body)
            else:
                client = openai.AsyncOpenAI(base_url=url + "/v1", api_key=key)
                await opened.enter_async_context(client)
                stream = await client.responses.create(model=model, stream=True, **body)
            async for event in stream:
                seen += event.type in ("content_block_delta", "response.output_text.delta")
                if seen == 3:
                    break
            await stream.close()
        return b""


async def slowly(answer: Any) -> AsyncIterator[bytes]:
    async for piece in answer.aiter_raw(256):
        await asyncio.sleep(0.001)
        yield piece


def text_of(read: bytes) -> int:
    """Letters of the text in the whole frames."""
    whole = read[: read.rfind(b"\n\n") + 2]
    return sum(_letters(frame) for frame in events(whole))


def _letters(frame: dict[str, Any]) -> int:
    delta = frame.get("delta")
    if isinstance(delta, dict):
        return len(delta.get("text", ""))
    if isinstance(delta, str):
        return len(delta)
    choices = frame.get("choices") or [{}]
    return len(choices[0].get("delta", {}).get("content") or "")


async def add(stage: DoorStage, fake: FakeUpstream, names: tuple[str, ...]) -> None:
    for name in names:
        url = fake.url + ("/v1" if name in ("openai", "native") else "")
        await stage.add_provider(url, "", name, "openai" if name == "native" else ADAPTERS[name])


async def settled(stage: DoorStage, fake: FakeUpstream) -> Any:
    """The row of the request that was the last."""
    await until(lambda: not stage.worker.flow.settler.running)
    await stage.quiesce()
    return (await stage.usage())[-1]


UNTOUCHED = (("messages", "anthropic"), ("responses", "native"))


@pytest.mark.parametrize(("dialect", "provider"), UNTOUCHED)
async def test_p03_disconnect_matrix_of_other_dialects(
    stage: DoorStage, dialect: str, provider: str
) -> None:
    """Where they pass untouched, to the ucr, and the books agree."""
    found = []
    async with FakeUpstream() as fake:
        await add(stage, fake, (provider,))
        for nth, (how, mode) in enumerate(CASES):
            model = await stage.add_model(
                f"{dialect}/{nth}", f"{mode}?{PIECES}", provider=provider, rates=RATES
            )
            await Caller(stage, fake, dialect).acts(how, model)
            row = await settled(stage, fake)
            why, counted_by, cost = row["reason"], row["usage_source"], f"{row['cost']:,}"
            found.append(Row(how, f"`{mode}`", row["kind"], why, counted_by, cost))
            by_the_rule(dialect, how, row)
    report = await verify(stage.pool, stage.redis)
    assert report.ok, report
    assert (await stage.pool_in_redis())["h"] == 0
    told = page(dialect, found)
    if os.environ.get("WRITE_TABLES"):
        write(dialect, told)
    assert told in PAGE.read_text(), "docs/money.md is stale: set WRITE_TABLES=1"


def by_the_rule(dialect: str, how: str, row: Any) -> None:
    """The written rule, computed here once more."""
    tokens, mode = dict(row["tokens"]), row["usage_source"]
    if mode == "provider":
        assert tokens in ({}, {"input": 7, "output": 8}), how
    elif mode == "none":
        assert (row["kind"], row["cost"]) == ("released", 0), how
    else:
        told_early = dialect == "messages" and row["reason"] != "no_usage_frame"
        assert tokens["output"] in (15, 40, 41), (how, tokens)  # three of eight pieces, or all
        assert tokens["input"] == 7 if told_early else 15 < tokens["input"] < 40, how


def page(dialect: str, rows: list[Row]) -> str:
    heading = "| the client | the provider | row | reason | counted by | cost in ucr |"
    lines = [f"`{PATHS[dialect]}`:", "", heading, "|" + " --- |" * 6]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows), ""])


def write(dialect: str, told: str) -> None:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    inner, _, after = rest.partition(END)
    kept = {path: part for path, part in _sections(inner).items() if path != PATHS[dialect]}
    kept[PATHS[dialect]] = told
    text = "\n".join(kept[path] for path in sorted(kept))
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")


def _sections(inner: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in inner.splitlines():
        if line.startswith("`/"):
            path = line.strip("`:")
            found[path] = ""
        if found:
            found[path] += line + "\n"
    return {path: text.rstrip("\n") + "\n" for path, text in found.items()}


# P21 ------------------------------------------------------------------------------------


async def test_p21_stream_faults_in_every_dialect(stage: DoorStage) -> None:
    """Whatever breaks at whichever provider: an error in the client's dialect with the usage so
    far, no good end of ours, and the row says why."""
    async with FakeUpstream() as fake:
        await add(stage, fake, (*PROVIDERS, "native"))
        for provider in (*PROVIDERS, "native"):
            for fault in FAULTS:
                await stage.add_model(
                    f"{provider}/{fault}", f"mock/{fault}?in=7&out=8", provider=provider
                )
        for client in CLIENTS:
            for provider in (*PROVIDERS, "native"):
                for fault in FAULTS:
                    caller = Caller(stage, fake, client)
                    read = await caller.acts("stays", f"{provider}/{fault}")
                    row = await settled(stage, fake)
                    try:
                        broken(client, provider, fault, read, row)
                    except (AssertionError, KeyError, IndexError) as problem:
                        where = f"{client} -> {provider}, {fault}: {row['reason']}"
                        raise AssertionError(f"{where}: {read[-900:]!r}") from problem
    assert (await stage.pool_in_redis())["h"] == 0


def broken(client: str, provider: str, fault: str, read: bytes, row: Any) -> None:
    frames = events(read)
    last = frames[-1]
    ends = provider in ENDED or (client, provider) == ("responses", "native")
    if fault == "nodone" and ends and row["reason"] == "usage_frame":
        return  # it had said why it ended, and what was used; its mark says nothing more
    assert row["reason"] in ("upstream_broken", "error_in_stream")
    assert row["kind"] in ("settled", "released")
    untouched = (client, provider) in (
        *(("chat", "openai"), ("chat", "native")),
        *(("messages", "anthropic"), ("responses", "native")),
    )
    if untouched and fault.startswith("error"):
        assert row["reason"] == "error_in_stream"  # as the provider has told it
        return
    if client == "chat":
        assert last["error"]["code"] == row["reason"]
    elif client == "messages":
        assert last["type"] == "error"
        assert last["error"]["details"]["error_code"] == row["reason"]
    else:
        errors = [frame for frame in frames if frame["type"] == "error"]
        assert [frame["code"] for frame in errors] == [row["reason"]]
        assert frames[-1]["type"] in ("error", "response.failed")
    assert b"[DONE]" not in read
    assert b"message_stop" not in read
    assert b'"type":"response.completed"' not in read
    if not untouched:  # nothing of ours says that it ended well
        assert b'"finish_reason":"stop"' not in read
        assert b'"stop_reason":"end_turn"' not in read
    if row["kind"] == "settled":
        told = orjson.dumps(last).decode() + orjson.dumps(frames[-2:]).decode()
        assert "usage" in told
