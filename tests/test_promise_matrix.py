"""P20: nothing is lost in translation. Each cell is a call through a whole door to a provider of
that dialect: all of it arrives and all of the answer comes back, or it is refused with a reason.

The page docs/translation.md holds the table; WRITE_TABLES=1 writes it anew.
"""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from bench.ask import ARGUMENTS, REFUSAL, SIGNATURE, TEXT, THOUGHT
from bench.upstream import FakeUpstream
from tests.door_stage import DoorStage, door
from tests.house import ROOT
from tests.matrix_stage import (
    ADAPTERS,
    CLIENTS,
    FEATURES,
    PATHS,
    PROVIDERS,
    REQUESTS,
    Feature,
    Heard,
    heard,
)

PAGE = ROOT / "docs" / "translation.md"
BEGIN, END = "<!-- the matrix: begin -->", "<!-- the matrix: end -->"
SIGNS = ("anthropic", "gemini")  # their thoughts have proofs
NO_GOOD_END = ("content_filter", "refusal", "incomplete")


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    patient = {"OPSCENTER_REDIS_TIMEOUT_MS": "5000"}
    async with door(home, redis_url, database_url, **patient) as stage:
        yield stage


async def cell(
    stage: DoorStage, fake: FakeUpstream, client: str, provider: str, of: Feature, stream: bool
) -> str:
    """What became of it: `yes`, `refused: ...`, or the assertion that failed."""
    body: dict[str, Any] = {"model": model_of(provider, of.behaviour), **REQUESTS[client](of)}
    if stream:
        body["stream"] = True
        if client == "chat":
            body["stream_options"] = {"include_usage": True}
    seen = len(fake.requests)
    answer = await stage.http.post(
        PATHS[client], json=body, headers={"authorization": f"Bearer {stage.key}"}
    )
    if answer.status_code == 400:
        error = answer.json()["error"]
        assert "not_carried" in answer.text, answer.text
        assert len(fake.requests) == seen  # before anything was sent
        return "refused: " + str(error["message"]).partition(" cannot be carried")[0]
    if of.behaviour == "refusal" and provider == "cohere":
        assert answer.status_code == 200 or "error" in answer.text
        return "as an error"  # which is what it is there
    assert answer.status_code == 200, answer.text
    sent = fake.requests[-1].body.decode()
    for mark in of.marks:
        assert mark in sent, f"{mark} is not in {sent}"
    found = heard(client, answer, stream)
    check(client, provider, of, found)
    return "yes"


def check(client: str, provider: str, of: Feature, found: Heard) -> None:
    size = 40_000 if "bytes" in of.behaviour else 160
    whole = (TEXT * (size // len(TEXT) + 1))[:size]
    if of.behaviour == "refusal":
        # in its words, or where the provider has none as an end that is none
        assert REFUSAL in found.text + found.refusal or found.reason in NO_GOOD_END
        return
    assert found.tokens == (12, 34)
    if of.behaviour == "tools":
        assert [orjson.loads(one[2]) for one in found.calls] == [*map(orjson.loads, ARGUMENTS)]
        assert {one[1] for one in found.calls} == {"MARK_tool"}
        assert len({one[0] for one in found.calls}) == 2
        assert found.reason in ("tool_calls", "tool_use", "completed")
        return
    assert found.text == whole
    assert found.reason in ("stop", "end_turn", "completed")
    if of.thinks:
        assert found.thought == THOUGHT
        assert bool(found.proof) >= (provider in SIGNS)
        if client != "responses" and provider in SIGNS:
            assert found.proof == SIGNATURE


async def test_p20_matrix(stage: DoorStage) -> None:
    """Client dialect x provider dialect x feature x stream; the page says what is found."""
    rows: dict[tuple[str, str], list[str]] = {}
    failed = []
    async with FakeUpstream() as fake:
        await served(stage, fake)
        for client in CLIENTS:
            for of in FEATURES:
                row = rows.setdefault((client, of.name), [])
                for provider in PROVIDERS:
                    if client in of.without:
                        row.append("no word for it")
                        continue
                    found = []
                    for stream in (False, True):
                        try:
                            found.append(await cell(stage, fake, client, provider, of, stream))
                        except (AssertionError, KeyError, IndexError, TypeError) as problem:
                            where = f"{client} -> {provider}, {of.name}, stream={stream}"
                            failed.append(f"{where}: {problem!r:.700}")
                            found.append("LOST")
                    assert len(set(found)) == 1 or failed, (client, provider, of.name, found)
                    row.append(found[0])
    assert not failed, "\n".join(failed)
    told = page(rows)
    if os.environ.get("WRITE_TABLES"):
        write(told)
    assert told in PAGE.read_text(), "docs/translation.md is stale: see the top of this file"
    await stage.quiesce()
    assert (await stage.pool_in_redis())["h"] == 0


async def served(stage: DoorStage, fake: FakeUpstream) -> None:
    """A provider of each dialect, and a model of each for every behaviour."""
    for name in PROVIDERS:
        url = fake.url + ("/v1" if name == "openai" else "")
        await stage.add_provider(url, "", name, ADAPTERS[name])
        for behaviour in dict.fromkeys(of.behaviour for of in FEATURES):
            await stage.add_model(
                model_of(name, behaviour), f"mock/{behaviour}", provider=name, output_max=5000
            )


def model_of(provider: str, behaviour: str) -> str:
    return f"{provider}/{behaviour.partition('?')[0]}" + ("-long" if "?" in behaviour else "")


def page(rows: dict[tuple[str, str], list[str]]) -> str:
    lines = []
    for client in CLIENTS:
        heading = "| " + " | ".join(("", *PROVIDERS)) + " |"
        lines += [f"### {PATHS[client]}", "", heading, "|" + " --- |" * (len(PROVIDERS) + 1)]
        for (of, name), row in rows.items():
            if of == client:
                lines.append("| " + " | ".join((name, *row)) + " |")
        lines.append("")
    return "\n".join(lines)


def write(told: str) -> None:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{told}\n{END}{after}")
