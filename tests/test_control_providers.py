"""Providers and the platform's keys over the control API: defaults of the table, masks, tests that
cost nothing, keys of the environment, and no key for another address than its own.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from control import sql
from control.providers import environment
from tests.control_stage import Stage, stage
from tests.http_stage import Peer, serving

PROVIDERS = "/api/v1/llm/admin/providers"
KEYS = "/api/v1/llm/admin/system-keys"
SECRET = "sk-proj-0123456789abcdef"
OTHER = "sk-ant-api03-0123456789abcdef"


@pytest.fixture
async def api(
    home: Path, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    for name in ("OPENAI_API_KEY", "GROQ_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    async with stage(home, database_url, redis_url, drained=False) as made:
        yield made


async def published(api: Stage, provider: str) -> Any:
    """What the proxies are told of a provider's deployments."""
    row = await api.state.pool.fetchrow(
        "SELECT base_url, coalesce(secret, env_secret) AS secret FROM provider WHERE name = $1",
        provider,
    )
    assert row is not None
    return row["secret"] and api.state.keys.open(provider, row["base_url"], row["secret"])


async def test_a_known_provider_needs_no_more_than_its_name(api: Stage) -> None:
    made = await api.post(PROVIDERS, {"name": "openai", "secret": SECRET})
    assert made.status == 201, made.body
    assert made.json["base_url"] == "https://api.openai.com/v1"
    assert (made.json["kind"], made.json["adapter"]) == ("openai", "openai")
    assert (made.json["secret"], made.json["source"]) == ("…cdef", "stored")
    assert made.json["warnings"] == []
    second = await api.post(PROVIDERS, {"name": "eu", "kind": "mistral", "secret": SECRET})
    [warning] = second.json["warnings"]
    assert "OPENAI" in warning
    assert SECRET not in warning
    assert (await api.post(PROVIDERS, {"name": "vllm"})).code == "invalid_value"
    assert (await api.post(PROVIDERS, {"name": "x", "kind": "nobody"})).status == 400
    kinds = await api.get(f"{PROVIDERS}/kinds")
    assert {"openai", "azure", "ollama-cloud"} <= {row["name"] for row in kinds.json["data"]}


async def test_system_keys_are_added_edited_masked_and_forgotten(api: Stage) -> None:
    made = await api.post(KEYS, {"provider": "anthropic", "key": OTHER})
    assert (made.status, made.json["id"], made.json["key"]) == (201, "anthropic", "…cdef")
    edited = await api.put(f"{KEYS}/anthropic", {"key": OTHER[:-4] + "9876", "enabled": False})
    assert (edited.json["key"], edited.json["enabled"]) == ("…9876", False)
    moved = await api.patch(f"{KEYS}/anthropic", {"base_url": "https://proxy.test/v1"})
    assert (moved.json["key"], moved.json["source"]) == (None, None)  # it was for another address
    back = await api.patch(f"{KEYS}/anthropic", {"base_url": "https://x.test/v1", "key": OTHER})
    assert back.json["key"] == "…cdef"
    assert await published(api, "anthropic") == OTHER
    gone = await api.delete(f"{KEYS}/anthropic")
    assert (gone.status, gone.json["key"]) == (200, None)
    assert await published(api, "anthropic") is None
    listed = await api.get(KEYS)
    assert [row["id"] for row in listed.json["data"]] == ["anthropic", "ops"]
    assert OTHER.encode() not in b"".join(r.body for r in (made, edited, moved, back, gone, listed))
    for reply in (await api.post(f"{KEYS}/none/test"), await api.delete(f"{KEYS}/none")):
        assert reply.status == 404
    assert (await (await api.person("admin", await api.organisation())).get(KEYS)).status == 403


async def test_a_key_of_the_environment_is_used_where_none_was_entered(
    api: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only at the provider's own address; what was entered counts before it."""
    monkeypatch.setenv("GROQ_API_KEY", "gsk_0123456789abcdef")
    made = await api.post(KEYS, {"provider": "groq"})
    assert (made.json["key"], made.json["source"]) == ("…cdef", "environment")
    assert await published(api, "groq") == "gsk_0123456789abcdef"
    entered = await api.put(f"{KEYS}/groq", {"key": "gsk_fedcba98765432xy"})
    assert (entered.json["key"], entered.json["source"]) == ("…32xy", "stored")
    assert (await api.delete(f"{KEYS}/groq")).json["source"] == "environment"
    elsewhere = await api.post(
        KEYS, {"provider": "groq", "name": "mine", "base_url": "https://evil.test/v1"}
    )
    assert elsewhere.json["source"] is None
    pool, keys = api.state.pool, api.state.keys
    before = await pool.fetchval("SELECT version FROM snapshot")
    await environment.refresh(pool, keys, {"GROQ_API_KEY": "gsk_0123456789abcdef"})
    assert await pool.fetchval("SELECT version FROM snapshot") == before
    await environment.refresh(pool, keys, {"GROQ_API_KEY": "gsk_another-0123456789"})
    assert await published(api, "groq") == "gsk_another-0123456789"
    await environment.refresh(pool, keys, {})
    assert await published(api, "groq") is None
    assert await pool.fetchval("SELECT version FROM snapshot") > before


def answering(*replies: bytes) -> tuple[list[bytes], Any]:
    """A provider that says one thing after the other, and what it was asked."""
    asked: list[bytes] = []

    async def script(peer: Peer) -> None:
        asked.append(await peer.begin())
        status, _, body = replies[min(len(asked), len(replies)) - 1].partition(b" ")
        head = b"HTTP/1.1 %b x\r\ncontent-length: %d\r\n" % (status, len(body))
        await peer.send(head + b"location: http://127.0.0.1:1/\r\n\r\n" + body)

    return asked, script


async def test_a_key_is_tested_by_a_call_that_costs_nothing(api: Stage) -> None:
    """What it found is kept. A redirect is not followed, and no answer brings the key back."""
    wrong = b'401 {"error": {"message": "no such key: %b"}}' % SECRET.encode()
    asked, script = answering(b'200 {"data": []}', wrong, b"302 ")
    async with serving(script) as server:
        base = server.url.removesuffix("/chat")
        made = {"name": "house", "kind": "compatible", "base_url": base, "secret": SECRET}
        assert (await api.post(PROVIDERS, made)).status == 201
        found = [await api.post(f"{PROVIDERS}/house/test") for _ in range(3)]
        assert [one.json["test"] for one in found] == ["accepted", "refused", "unknown"]
        assert server.connections == 3
    assert asked[0].startswith(b"GET /v1/models HTTP/1.1\r\n")
    assert f"authorization: Bearer {SECRET}".encode() in asked[0]
    assert SECRET.encode() not in b"".join(one.body for one in found)
    away = await api.post(f"{PROVIDERS}/house/test")
    assert away.json["test"] == "unreachable"
    [row] = [row for row in (await api.get(PROVIDERS)).json["data"] if row["name"] == "house"]
    assert (row["test"], row["tested_at"] is not None) == ("unreachable", True)
    assert (await api.post(f"{PROVIDERS}/ops/test")).status == 404


async def test_a_provider_without_its_key_serves_only_who_brings_one(api: Stage) -> None:
    """Its models are there with their places; none of them is a place of the platform's."""
    await api.post(PROVIDERS, {"name": "openai"})
    model = {
        "id": "openai/gpt",
        "provider": "openai",
        "upstream_model": "gpt",
        "prices": {"input": "1", "output": "2"},
        "context_max": 1000,
        "output_max": 100,
    }
    assert (await api.post("/api/v1/llm/admin/models", model)).status == 201
    query = "SELECT upstream_model FROM model_place WHERE model = 'openai/gpt' AND kind = 'openai'"
    assert await api.state.pool.fetchval(query) == "gpt"
    told = await api.state.redis.command("HGET", "{ops}:snapshot", "models")
    assert b'"places":[["openai","gpt"]]' in told.replace(b" ", b"")
    assert b"api.openai.com" not in told
    await api.put(f"{PROVIDERS}/openai/secret", {"secret": SECRET})
    told = await api.state.redis.command("HGET", "{ops}:snapshot", "models")
    assert b"api.openai.com" in told
    assert SECRET.encode() not in told


async def test_what_a_test_has_found_goes_with_its_key(api: Stage) -> None:
    """With another key or address, also of the environment; not when it is switched off."""
    pool = api.state.pool

    async def tested(*names: str) -> list[str]:
        for name in names:
            subject = f"provider:{name}"
            await pool.execute(sql.load()["key_test_put"], subject, "accepted", "well")
        rows = (await api.get(PROVIDERS)).json["data"]
        return [row["name"] for row in rows if row["test"]]

    await api.post(PROVIDERS, {"name": "openai", "secret": SECRET})
    await api.post(PROVIDERS, {"name": "groq"})
    one = f"{PROVIDERS}/openai"
    assert await tested("openai", "groq") == ["groq", "openai"]
    assert (await api.patch(one, {"enabled": False})).json["test"] == "accepted"
    for change in ({"secret": SECRET}, {"base_url": "https://gw.test/v1", "secret": SECRET}):
        assert (await api.patch(one, change)).json["test"] is None
        assert await tested("openai") == ["groq", "openai"]
    assert (await api.delete(f"{KEYS}/openai")).json["test"] is None
    await environment.refresh(pool, api.state.keys, {"GROQ_API_KEY": "gsk_0123456789abcdef"})
    assert await tested() == []


async def test_a_key_that_was_replaced_while_it_was_tested_is_not_told_good(api: Stage) -> None:
    async def script(peer: Peer) -> None:
        await peer.begin()
        await api.put(f"{PROVIDERS}/house/secret", {"secret": OTHER})
        await peer.send(b"HTTP/1.1 200 x\r\ncontent-length: 2\r\n\r\n{}")

    async with serving(script) as server:
        base = server.url.removesuffix("/chat")
        await api.post(PROVIDERS, {"name": "house", "base_url": base, "secret": SECRET})
        found = await api.post(f"{PROVIDERS}/house/test")
    assert (found.status, "Test it again" in found.message) == (409, True)
    [row] = [row for row in (await api.get(PROVIDERS)).json["data"] if row["name"] == "house"]
    assert row["test"] is None


async def test_another_address_may_speak_another_dialect(api: Stage) -> None:
    """Many serve OpenAI's beside their own; what was asked for by name stays."""
    own = "https://generativelanguage.googleapis.com/v1beta"
    await api.post(PROVIDERS, {"name": "google", "secret": SECRET})
    for url, adapter in ((f"{own}/openai", "compatible"), (own, "gemini")):
        edited = await api.patch(f"{PROVIDERS}/google", {"base_url": url, "secret": SECRET})
        assert edited.json["adapter"] == adapter
    given = {"name": "mine", "kind": "google", "adapter": "openai", "base_url": own}
    assert (await api.post(PROVIDERS, given)).status == 201
    edited = await api.patch(f"{PROVIDERS}/mine", {"base_url": f"{own}/openai"})
    assert edited.json["adapter"] == "openai"
