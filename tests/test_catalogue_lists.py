"""Providers' own lists of models: each in its shape, read over a socket with its key."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from control.catalogue.fields import Listed, ListInvalid
from control.catalogue.lists import read
from control.catalogue.seen import merged
from tests.control_stage import stage


def listed(shape: str, document: Any) -> Sequence[Listed]:
    return read(shape, orjson.dumps(document)).models


OPENROUTER = {
    "id": "acme/large",
    "name": "Acme: Large",
    "context_length": 1000,
    "top_provider": {"max_completion_tokens": 100},
    "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
    "pricing": {"prompt": "0.00000015", "completion": "0.0000006", "request": "0", "image": "0"},
}


# Shapes ---------------------------------------------------------------------------------


def test_openrouter_says_dollars_for_one_token() -> None:
    [model] = listed("openrouter", {"data": [OPENROUTER]})
    assert model.rates == {"input": 150_000_000, "output": 600_000_000}
    assert (model.context_max, model.output_max, model.name) == (1000, 100, "Acme: Large")
    assert (model.takes, model.gives) == (["text", "image"], ["text"])


@pytest.mark.parametrize(
    ("pricing", "rates"),
    [
        ({"prompt": "-1", "completion": "-1"}, {}),
        ({"prompt": "0", "completion": "0"}, {"input": 0, "output": 0}),
        ({"prompt": "0.000001"}, {}),
        ({"prompt": "0.000001", "completion": "NaN"}, {}),
        ({"prompt": "0.000001", "completion": "1e999999999"}, {}),
        ({"prompt": "0.000001", "completion": "0.000002", "overrides": [{}]}, {}),
        ({"prompt": True, "completion": "0"}, {}),
        (
            {
                "prompt": "0.000001",
                "completion": "0.000002",
                "web_search": "0.005",
                "request": "0.01",
            },
            {
                **{"input": 1_000_000_000, "output": 2_000_000_000},
                **{"web_searches": 5_000_000_000_000, "requests": 10_000_000_000_000},
            },
        ),
        (
            {"prompt": "0.0000003", "completion": "0.0000025", "input_cache_read": "0.00000003"},
            {"input": 300_000_000, "output": 2_500_000_000, "cache_read": 30_000_000},
        ),
    ],
)
def test_a_price_of_openrouter_is_exact_or_none(pricing: Any, rates: dict[str, int]) -> None:
    """-1 means that it is known afterwards only; a price with tiers is left to the package."""
    [model] = listed("openrouter", {"data": [{**OPENROUTER, "pricing": pricing}]})
    assert model.rates == rates


def test_together_is_a_bare_list_with_dollars_for_a_million() -> None:
    row = {
        "id": "org/m",
        "type": "chat",
        "context_length": 9,
        "pricing": {"input": 0.88, "output": 1},
    }
    image = {"id": "org/i", "type": "image", "pricing": {"input": 0, "output": 0}}
    chat, drawn = listed("together", [row, image])
    assert chat.rates == {"input": 880_000_000, "output": 1_000_000_000}
    assert (drawn.rates, drawn.kind) == ({}, "images")


def test_huggingface_has_a_model_at_each_of_its_backends() -> None:
    places = [
        {
            "provider": "novita",
            "status": "live",
            "context_length": 8,
            "pricing": {"input": 0.1, "output": 0.2},
        },
        {"provider": "slow", "status": "staging"},
        {"provider": "free", "status": "live", "pricing": {"input": 0, "output": 0}},
    ]
    first, second = listed("huggingface", {"data": [{"id": "org/m", "providers": places}]})
    assert (first.upstream_model, first.context_max) == ("org/m:novita", 8)
    assert first.rates == {"input": 100_000_000, "output": 200_000_000}
    assert (second.upstream_model, second.rates) == ("org/m:free", {})


def test_the_others_say_what_they_can() -> None:
    """Names, sizes and kinds; of their prices nothing is taken."""
    gemini = {
        "name": "models/gemini-x",
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent"],
    }
    drawing = {"name": "models/imagen-x", "supportedGenerationMethods": ["predict"]}
    assert [
        (m.upstream_model, m.kind, m.output_max)
        for m in listed("google", {"models": [gemini, drawing]})
    ] == [
        ("gemini-x", "", 65_536),
        ("imagen-x", "images", None),
    ]
    claude = {"id": "claude-x", "display_name": "Claude X", "max_input_tokens": 9, "max_tokens": 8}
    assert listed("anthropic", {"data": [claude]}) == [Listed("claude-x", "Claude X", 9, 8)]
    cohere = {"name": "rerank-x", "endpoints": ["rerank"], "context_length": 4096}
    old = {"name": "old", "is_deprecated": True}
    assert [m.kind for m in listed("cohere", {"models": [cohere, old]})] == ["rerank"]
    assert listed("ollama", {"models": [{"name": "llama3.1:8b"}]}) == [Listed("llama3.1:8b")]
    groq = {"id": "m", "context_window": 7, "max_completion_tokens": 6, "pricing": {"prompt": "1"}}
    assert listed("groq", {"data": [groq]}) == [Listed("m", "", 7, 6)]


@pytest.mark.parametrize(
    ("shape", "document", "more"),
    [
        ("anthropic", {"data": [], "has_more": True, "last_id": "x"}, "x"),
        ("anthropic", {"data": [], "has_more": False, "last_id": "x"}, ""),
        ("google", {"models": [], "nextPageToken": "t"}, "t"),
        ("cohere", {"models": [], "next_page_token": "n"}, "n"),
        ("openai", {"data": []}, ""),
    ],
)
def test_lists_have_pages(shape: str, document: Any, more: str) -> None:
    assert read(shape, orjson.dumps(document)).more == more


@pytest.mark.parametrize("document", [b"<html>", b"[]", b'{"data": 5}', b'{"error": {}}', b"null"])
def test_what_is_no_list_is_refused(document: bytes) -> None:
    with pytest.raises(ListInvalid):
        read("openai", document)


@pytest.mark.parametrize("name", ["", "a b", "a\n", "ä", "x" * 181, 5, None, "a\u202eb", "<b>"])
def test_a_name_that_is_none_is_left_out(name: Any) -> None:
    rows = [{"id": name}, "text", None, {"id": "good"}, {}]
    assert [m.upstream_model for m in listed("openai", {"data": rows})] == ["good"]


def test_letters_case_makes_no_second_model() -> None:
    """Packages write names small; a name that is known is kept as it is known."""
    known = ["minimaxai/m2:novita", "gpt-4o", "claude-x", "claude-3-latest"]
    said = ["MiniMaxAI/M2:novita", "gpt-4o-2024-08-06", "claude-x@20250101", "claude-3-20240101"]
    rows, also = merged([Listed(name) for name in said], known)
    assert [row["upstream_model"] for row in rows] == ["minimaxai/m2:novita", *said[1:]]
    assert [row["same_as"] for row in rows] == ["", "gpt-4o", "claude-x", ""]
    assert also == ["claude-3-latest", "claude-x", "gpt-4o"]


# Over a socket --------------------------------------------------------------------------------


@asynccontextmanager
async def lists(pages: dict[str, tuple[int, Any]]) -> AsyncIterator[tuple[str, list[str]]]:
    """A provider on loopback that answers these paths; and the heads of what it was asked."""
    heads: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        heads.append(head)
        status, document = pages.get(head.split()[1], (404, {}))
        body = orjson.dumps(document)
        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads


async def test_providers_are_asked_on_demand_with_their_own_keys(
    home: Path, database_url: str, redis_url: str
) -> None:
    """Pages are followed; one that refuses keeps no other from being asked; no key is shown."""
    pages: dict[str, tuple[int, Any]] = {
        "/v1/models": (200, {"data": [{"id": "grok-9"}]}),
        "/api/v1/models": (200, {"data": [OPENROUTER]}),
        "/mistral/models": (401, {"error": "key canary-key is wrong"}),
    }
    secret = "sk-canary-0123456789abcdef"
    async with lists(pages) as (root, heads), stage(home, database_url, redis_url) as api:
        bases = {"xai": "/v1", "openrouter": "/api/v1", "mistral": "/mistral"}
        for name, path in bases.items():
            wanted = {"name": name, "base_url": root + path, "secret": secret}
            assert (await api.at_home.post("/api/v1/llm/admin/providers", wanted)).status == 201
        told = await api.at_home.post("/api/v1/llm/admin/catalogue/refresh", {})
        assert told.json["data"] == [
            {
                **{"provider": "mistral", "models": 0, "new": 0},
                "problem": "it answers with status 401 instead of 200",
            },
            {"provider": "openrouter", "models": 1, "new": 1, "problem": ""},
            {"provider": "xai", "models": 1, "new": 1, "problem": ""},
        ]
        assert all(f"authorization: Bearer {secret}" in head for head in heads)
        known = await api.at_home.get("/api/v1/llm/admin/catalogue/models/openrouter/acme/large")
        assert known.json["price"]["prices"] == {"input": "0.15", "output": "0.6"}
        assert (known.json["price"]["source"], known.json["served"]) == ("list", True)
        one = await api.at_home.post(
            "/api/v1/llm/admin/catalogue/refresh", {"provider": "openrouter"}
        )
        assert one.json["data"][0]["new"] == 0
        nobody = await api.at_home.post(
            "/api/v1/llm/admin/catalogue/refresh", {"provider": "nobody"}
        )
        assert nobody.status == 404
        viewer = await api.person("analyst")
        assert (await viewer.post("/api/v1/llm/admin/catalogue/refresh", {})).status == 403
