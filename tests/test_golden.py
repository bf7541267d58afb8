"""Golden invoices: the bill equals the provider's public list to the nano-dollar.

The cases, their payloads and sums come from `bench/golden.py`, which shares nothing with the
product. Three are compared with it: the adapters that read payloads, the prices of the catalogue,
and the price engine of the package from which these are.
"""

from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

import orjson
import pytest

from bench import golden
from control.catalogue import ours, package
from proxy.costs.price import Price, Tier, read_price
from proxy.costs.pricing import PER_MILLION, cost_ucr, unpriced, worst_ucr
from proxy.providers import (
    anthropic_answer,
    cohere_answer,
    gemini_answer,
    ollama_answer,
    openai_usage,
)
from proxy.types import Usage

Case = Mapping[str, Any]
CASES: list[Case] = orjson.loads(golden.FILE.read_bytes())
READERS: Mapping[str, Callable[[Mapping[str, Any]], Usage | None]] = {
    "openai": openai_usage.read_usage,
    "xai": openai_usage.read_usage,
    "anthropic": anthropic_answer.read_usage,
    "gemini": gemini_answer.read_usage,
    "cohere": cohere_answer.read_usage,
    "ollama": ollama_answer.read_usage,
}
HOUSE = Price(1, {"input": 2_000_000_000, "output": 4_000_000_000}, PER_MILLION)


@pytest.fixture(scope="module")
def prices() -> dict[str, Price]:
    return {
        f"{row['provider']}/{row['upstream_model']}": read_price(
            1, {**row["prices"][0], "factor_ppm": PER_MILLION}
        )
        for row in package.rows()
        if row["prices"]
    }


def price_of(case: Case, prices: Mapping[str, Price]) -> Price:
    return HOUSE if case["provider"] == "house" else prices[f"{case['provider']}/{case['model']}"]


def named(case: Case) -> str:
    return f"{case['provider']}/{case['model']} {case['classes']}"


def test_the_corpus_is_what_its_program_writes() -> None:
    assert golden.FILE.read_text() == golden.text()


def test_the_corpus_is_wide() -> None:
    assert len(CASES) >= 300
    assert len({case["provider"] for case in CASES}) == 11
    assert set().union(*(case["classes"] for case in CASES)) >= {
        *("input", "output", "reasoning", "cache_read", "cache_write", "cache_write_1h"),
        *("audio_in", "cache_audio_in", "image_in", "image_out", "images", "seconds"),
        *("characters", "pages", "searches", "web_searches", "file_searches"),
    }


def test_p04_golden_invoices(prices: Mapping[str, Price]) -> None:
    """By the prices of the catalogue; and nothing of it is charged by a stand-in."""
    wrong = [
        f"{named(case)}: {cost}, the list says {case['ucr']}"
        for case in CASES
        if (cost := cost_ucr(case["classes"], price_of(case, prices))) != case["ucr"]
    ]
    assert wrong == []
    assert [named(c) for c in CASES if unpriced(c["classes"], price_of(c, prices))] == []


def test_p04_golden_invoices_are_read_into_the_classes_that_they_were_made_from() -> None:
    wrong = []
    for case in CASES:
        if case["dialect"] != "none":
            read = READERS[case["dialect"]](case["usage"])
            if read is None or dict(read.tokens) != _told(case):
                wrong.append(f"{named(case)}: {read}")
    assert wrong == []


def test_a_hold_by_its_classes_covers_every_invoice(prices: Mapping[str, Price]) -> None:
    for case in CASES:
        price, counts = price_of(case, prices), case["classes"]
        into = sum(n for name, n in counts.items() if name in golden.INPUT)
        units = {n: c for n, c in counts.items() if n in golden.PER or n == "characters"}
        out = sum(counts.values()) - into - sum(units.values())
        assert worst_ucr(into, out, price.reached_by(into), units) >= case["ucr"], named(case)


def test_the_packages_own_engine_says_the_same() -> None:
    """As an oracle; models with prices of ours it does not know."""
    import genai_prices

    asked = 0
    for case in CASES:
        if not _is_known_there(case):
            continue
        provider, model = _there(case)
        found = genai_prices.calc_price(_usage(case["classes"]), model, provider_id=provider)
        nano = (found.total_price * 10**9).to_integral_value(ROUND_CEILING)
        assert nano == case["ucr"], named(case)
        asked += 1
    assert asked >= 280


@pytest.mark.parametrize("markup", [0, 1_000_000, 1_100_000, 1_250_000, 4_000_000])
def test_a_markup_is_a_part_of_the_one_rounding(prices: Mapping[str, Price], markup: int) -> None:
    for case in CASES:
        plain = price_of(case, prices)
        price = Price(1, plain.rates, markup, tuple(Tier(t.above, t.rates) for t in plain.tiers))
        exact = Decimal(case["dollars"]) * markup * 1_000
        assert cost_ucr(case["classes"], price) == exact.to_integral_value(ROUND_CEILING)


def _told(case: Case) -> dict[str, int]:
    """Ollama counts thoughts among its answer, as what they are."""
    return dict(case["classes"])


def _is_known_there(case: Case) -> bool:
    """Not what prices of ours are for; and that Groq counts ten seconds at least no price says."""
    is_ours = f"{case['provider']}/{case['model']}" in ours.PRICES
    short = case["provider"] == "groq" and case["classes"].get("seconds", 10) < 10
    return not (is_ours or short or case["provider"] == "house")


def _there(case: Case) -> tuple[str, str]:
    """As the package calls them."""
    model, _, backend = case["model"].partition(":")
    if case["provider"] == "huggingface":
        return f"huggingface_{backend}", model
    return case["provider"], case["model"]


def _usage(classes: Mapping[str, int]) -> Any:
    """Whole counts with their parts inside, as the package wants them."""
    from genai_prices import Usage as Whole

    def of(*names: str) -> int:
        return sum(classes.get(name, 0) for name in names)

    return Whole(
        input_tokens=of(*golden.INPUT),
        output_tokens=of("output", "reasoning", "audio_out", "image_out"),
        cache_read_tokens=of("cache_read", "cache_audio_in"),
        cache_write_tokens=of("cache_write", "cache_write_1h"),
        cache_write_1h_tokens=of("cache_write_1h"),
        input_audio_tokens=of("audio_in", "cache_audio_in"),
        cache_audio_read_tokens=of("cache_audio_in"),
        input_image_tokens=of("image_in"),
        output_image_tokens=of("image_out"),
        input_characters=of("characters"),
        audio_seconds=of("seconds"),
        input_audio_seconds=of("seconds"),
        input_document_pages=of("pages"),
        web_searches=of("web_searches"),
        storage_searches=of("file_searches"),
    )
