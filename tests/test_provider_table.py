"""The table of providers: whole, in step with what else knows of providers, and only a default."""

import pytest

from control.destinations import checked
from control.machine.processes import only_for_proxies
from control.providers import trial
from control.providers.keys import warnings
from control.providers.table import ALIASES, KINDS, kind_of
from proxy.masks import BEGINNINGS, mask
from proxy.providers.catalog import ADAPTERS
from tests.house import ROOT

KEYS = {
    "openai": "sk-proj-" + "a1B2" * 12,
    "anthropic": "sk-ant-api03-" + "a1B2" * 12,
    "google": "AQ.Ab" + "a1B2" * 9,
    "openrouter": "sk-or-v1-" + "0f" * 32,
    "groq": "gsk_" + "a1B2" * 13,
    "huggingface": "hf_" + "aBcD" * 8,
    "xai": "xai-" + "a1B2" * 20,
    "together": "tgp_v1_" + "a1B2" * 10,
    "cohere": "co_" + "a1B2" * 10,
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_a_row_is_whole(kind: object) -> None:
    row = KINDS[kind.name]  # type: ignore[attr-defined]
    if row.is_everywhere:
        assert checked(row.base_url, private=False) == row.base_url
        assert row.variables or not row.needs_key
    for prefix in (*row.prefixes, *row.others):
        assert prefix.startswith(BEGINNINGS), f"proxy/masks.py does not know {prefix}"
    assert kind_of(row.name.upper()) is row


def test_the_page_tells_every_row() -> None:
    page = (ROOT / "docs" / "providers.md").read_text()
    for kind in KINDS.values():
        [line] = [line for line in page.splitlines() if line.startswith(f"| `{kind.name}` |")]
        told = (kind.base_url, kind.adapter, *kind.variables, *kind.prefixes[-1:])
        assert [one for one in told if one not in line] == []


@pytest.mark.parametrize(
    ("name", "url", "adapter"),
    [
        ("ollama", "http://localhost:11434", "ollama"),
        ("ollama", "http://localhost:11434/v1", "compatible"),
        ("google", "https://generativelanguage.googleapis.com/v1beta", "gemini"),
        ("google", "https://generativelanguage.googleapis.com/v1beta/openai", "compatible"),
        ("openai", "https://gateway.test/v1", "openai"),
    ],
)
def test_what_is_spoken_at_an_address(name: str, url: str, adapter: str) -> None:
    assert KINDS[name].adapter_at(url) == adapter


def test_proxies_are_started_without_keys_of_providers() -> None:
    environ = {"PATH": "/bin", "OPENAI_API_KEY": "sk-x", "HF_TOKEN": "hf_x"}
    assert only_for_proxies(environ) == {"PATH": "/bin"}


def test_every_adapter_is_there() -> None:
    assert {kind.adapter for kind in KINDS.values()} <= set(ADAPTERS)


def test_other_names_lead_to_rows() -> None:
    assert {KINDS[name].name for name in ALIASES.values()} <= set(KINDS)
    assert kind_of("x-ai") is KINDS["xai"]
    assert kind_of("nobody") is None


@pytest.mark.parametrize(("name", "key"), KEYS.items())
def test_a_key_of_the_right_provider_is_not_warned_of_and_is_masked_in_errors(
    name: str, key: str
) -> None:
    assert warnings(KINDS[name], key) == []
    assert key not in mask(f"wrong key {key}.")


@pytest.mark.parametrize(
    ("name", "key", "told"),
    [
        ("openai", KEYS["anthropic"], "LOOKS LIKE A KEY OF ANTHROPIC"),
        ("openai", KEYS["openrouter"], "LOOKS LIKE A KEY OF OPENROUTER"),
        ("anthropic", KEYS["openai"], "LOOKS LIKE A KEY OF OPENAI"),
        ("mistral", KEYS["groq"], "LOOKS LIKE A KEY OF GROQ"),
        ("anthropic", "sk-ant-admin01-" + "a" * 30, "serve no calls"),
        ("openai", "sk-admin-" + "a" * 30, "serve no calls"),
        ("groq", "a" * 40, "usually begin with gsk_"),
        ("google", "ya29." + "a" * 40, "usually begin with AQ., AIza"),
    ],
)
def test_a_key_that_looks_wrong_is_warned_of_and_never_refused(
    name: str, key: str, told: str
) -> None:
    [said] = warnings(KINDS[name], key)
    assert told in said
    assert key not in said


def test_where_keys_have_nothing_in_common_nothing_is_guessed() -> None:
    assert warnings(KINDS["mistral"], "a1B2" * 8) == []
    assert warnings(KINDS["compatible"], "sk-" + "a1B2" * 8) == []


@pytest.mark.parametrize(
    ("name", "base_url", "asked"),
    [
        ("openai", "", "https://api.openai.com/v1/models"),
        ("openai", "https://gateway.test/openai", "https://gateway.test/openai/models"),
        ("anthropic", "", "https://api.anthropic.com/v1/models?limit=1"),
        ("anthropic", "https://proxy.test", "https://proxy.test/v1/models?limit=1"),
        ("openrouter", "", "https://openrouter.ai/api/v1/key"),
        ("huggingface", "", "https://huggingface.co/api/whoami-v2"),
        ("huggingface", "https://evil.test/v1", "https://evil.test/v1/models"),
        ("cohere", "", "https://api.cohere.com/v1/check-api-key"),
        ("ollama", "http://gpu:11434/v1", "http://gpu:11434/api/version"),
    ],
)
def test_the_cheap_call_goes_where_the_key_belongs(name: str, base_url: str, asked: str) -> None:
    """A key that was entered for another address is not shown to the provider's own, nor the other
    way round."""
    kind = KINDS[name]
    assert trial.place(kind, base_url or kind.base_url) == asked


@pytest.mark.parametrize(
    ("name", "status", "body", "result"),
    [
        ("openai", 200, b'{"data": []}', "accepted"),
        ("together", 200, b"[]", "accepted"),
        ("openai", 401, b'{"error": {"message": "Incorrect API key"}}', "refused"),
        ("google", 400, b'{"error": {"message": "x", "details": "API_KEY_INVALID"}}', "refused"),
        ("google", 400, b'{"error": {"message": "another mistake"}}', "unknown"),
        ("xai", 400, b'{"code": "x", "error": "Incorrect API key provided"}', "refused"),
        ("cohere", 200, b'{"valid": true}', "accepted"),
        ("cohere", 200, b'{"valid": false}', "refused"),
        ("cohere", 200, b"<html>", "refused"),
        ("openai", 403, b'{"error": "no scope"}', "limited"),
        ("openai", 429, b"slow down", "limited"),
        ("openai", 302, b"", "unknown"),
        ("vllm", 404, b"", "unknown"),
        ("openai", 500, b"<html>", "unknown"),
    ],
)
def test_what_an_answer_means(name: str, status: int, body: bytes, result: str) -> None:
    """A key that may not list models can still be good for calls."""
    found = trial.meaning(KINDS[name], status, body, "sk-secret-0123456789")
    assert found.result == result
    assert found.said


def test_no_answer_brings_the_key_back() -> None:
    key = "sk-secret-0123456789"
    body = f'{{"error": {{"message": "wrong: {key} and {KEYS["groq"]}"}}}}'.encode()
    said = trial.meaning(KINDS["openai"], 401, body, key).said
    assert key not in said
    assert KEYS["groq"] not in said
