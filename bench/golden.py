"""Golden invoices: what providers say was used, and what their public lists charge for it.

python -m bench.golden

Writes tests/fixtures/golden_invoices.json. Prices stand here as the lists have them, typed by hand;
the sums are made with decimals from the classes that each case begins with, and the provider's
payload is made from the same classes. Nothing here uses the product's prices, classes or readers.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent.parent / "tests" / "fixtures" / "golden_invoices.json"
NANO = Decimal("0.000000001")
Counts = Mapping[str, int]
#: What a list's price is for; everything else goes by the million.
PER = {
    "seconds": 3_600,
    "pages": 1_000,
    "searches": 1_000,
    "web_searches": 1_000,
    "file_searches": 1_000,
    "images": 1,
}
#: By what else a class is charged where the list has no price for it.
ELSE = {
    "cache_read": "input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "audio_in": "input",
    "cache_audio_in": "audio_in",
    "image_in": "input",
    "video_in": "input",
    "reasoning": "output",
    "audio_out": "output",
    "image_out": "output",
}
INPUT = (
    *("input", "cache_read", "cache_write", "cache_write_1h"),
    *("audio_in", "cache_audio_in", "image_in", "video_in"),
)

# Prices: provider, model, dollars; after `above N` those where more tokens come in -----

LISTS = """
openai gpt-4o             input 2.5 cache_read 1.25 output 10 web_searches 10
openai gpt-4o-2024-08-06  input 2.5 cache_read 1.25 output 10 web_searches 10
openai gpt-4o-mini        input 0.15 cache_read 0.075 output 0.6
openai gpt-4.1            input 2 cache_read 0.5 output 8 file_searches 2.5
openai gpt-4.1-mini       input 0.4 cache_read 0.1 output 1.6
openai gpt-4.1-nano       input 0.1 cache_read 0.025 output 0.4
openai o1                 input 15 cache_read 7.5 output 60
openai o3                 input 2 cache_read 0.5 output 8
openai o3-mini            input 1.1 cache_read 0.55 output 4.4
openai o4-mini            input 1.1 cache_read 0.275 output 4.4
openai gpt-5              input 1.25 cache_read 0.125 output 10
openai gpt-5-mini         input 0.25 cache_read 0.025 output 2
openai gpt-5-nano         input 0.05 cache_read 0.005 output 0.4
openai gpt-4-turbo        input 10 output 30
openai gpt-4              input 30 output 60
openai gpt-3.5-turbo      input 0.5 output 1.5
openai text-embedding-3-small input 0.02
openai text-embedding-3-large input 0.13
openai text-embedding-ada-002 input 0.1
openai whisper-1          seconds 0.36
openai tts-1              characters 15
openai tts-1-hd           characters 30
openai gpt-image-1        input 5 image_in 10 image_out 40
openai dall-e-3           images 0.04
openai dall-e-2           images 0.02
anthropic claude-opus-4-1   input 15 cache_write 18.75 cache_write_1h 30 cache_read 1.5
    output 75 web_searches 10
anthropic claude-opus-4-5   input 5 cache_write 6.25 cache_write_1h 10 cache_read 0.5
    output 25 web_searches 10
anthropic claude-haiku-4-5  input 1 cache_write 1.25 cache_write_1h 2 cache_read 0.1
    output 5 web_searches 10
anthropic claude-sonnet-4-5 input 3 cache_write 3.75 cache_write_1h 6 cache_read 0.3
    output 15 web_searches 10 above 200000 input 6 cache_write 7.5 cache_write_1h 12
    cache_read 0.6 output 22.5 web_searches 10
anthropic claude-sonnet-4-5-20250929 input 3 cache_write 3.75 cache_write_1h 6 cache_read 0.3
    output 15 web_searches 10 above 200000 input 6 cache_write 7.5 cache_write_1h 12
    cache_read 0.6 output 22.5 web_searches 10
anthropic claude-3-5-haiku-20241022 input 0.8 cache_write 1 cache_write_1h 1.6 cache_read 0.08
    output 4 web_searches 10
google gemini-2.5-pro        input 1.25 cache_read 0.125 output 10 above 200000 input 2.5
    cache_read 0.25 output 15
google gemini-2.5-flash      input 0.3 cache_read 0.03 audio_in 1 cache_audio_in 0.1 output 2.5
google gemini-2.5-flash-lite input 0.1 cache_read 0.01 audio_in 0.3 cache_audio_in 0.03 output 0.4
google gemini-2.0-flash      input 0.1 cache_read 0.025 audio_in 0.7 cache_audio_in 0.175
    output 0.4
google gemini-2.5-flash-image input 0.3 output 2.5 image_out 30
google gemini-embedding-001  input 0.15
google imagen-4.0-generate-001 images 0.04
x-ai grok-3            input 3 cache_read 0.75 output 15
x-ai grok-3-mini       input 0.3 cache_read 0.075 output 0.5
x-ai grok-code-fast-1  input 0.2 cache_read 0.02 output 1.5
groq llama-3.3-70b-versatile input 0.59 output 0.79
groq llama-3.1-8b-instant    input 0.05 output 0.08
groq qwen/qwen3-32b          input 0.29 output 0.59
groq whisper-large-v3        seconds 0.111
groq whisper-large-v3-turbo  seconds 0.04
mistral codestral-2508 input 0.3 output 0.9
mistral ministral-8b   input 0.1 output 0.1
mistral mistral-nemo   input 0.15 output 0.15
mistral mistral-embed  input 0.1
mistral mistral-ocr-2505 pages 1
cohere command-a       input 2.5 output 10
cohere command-r       input 0.15 output 0.6
cohere command-r-plus  input 2.5 output 10
cohere command-r7b     input 0.0375 output 0.15
cohere embed-v4.0      input 0.12
cohere rerank-v3.5     searches 2
together meta-llama/Llama-3.3-70B-Instruct-Turbo input 0.88 output 0.88
together meta-llama/Meta-Llama-3.1-405B-Instruct-Turbo input 3.5 output 3.5
together meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo input 0.18 output 0.18
openrouter openai/gpt-4o-mini  input 0.15 cache_read 0.075 output 0.6
openrouter openai/gpt-4.1      input 2 cache_read 0.5 output 8
openrouter anthropic/claude-3-haiku input 0.25 output 1.25
openrouter allenai/molmo-7b-d:free input 0 output 0
huggingface meta-llama/Llama-3.3-70B-Instruct:groq input 0.59 output 0.79
huggingface meta-llama/Llama-3.1-8B-Instruct:cerebras input 0.1 output 0.1
huggingface meta-llama/Llama-3.3-70B-Instruct:sambanova input 0.6 output 1.2
house llama3.1:8b      input 2 output 4
"""
DIALECTS = {"anthropic": "anthropic", "google": "gemini", "cohere": "cohere", "house": "ollama"}
SIZES = (
    (1, 1, 0),
    (7, 14, 3),
    (1_234, 567, 89),
    (99_999, 4_096, 12_345),
    (150_000, 64_000, 50_000),
)
EDGES = ((199_999, 1, 0), (200_000, 10, 0), (200_001, 10, 0), (120_000, 333, 80_001))


def lists() -> Iterator[tuple[str, str, list[tuple[int, dict[str, Decimal]]]]]:
    for line in LISTS.replace("\n    ", " ").strip().splitlines():
        provider, model, *words = line.split()
        tiers: list[tuple[int, dict[str, Decimal]]] = [(-1, {})]
        pairs = zip(words[::2], words[1::2], strict=True)
        for name, number in pairs:
            if name == "above":
                tiers.append((int(number), {}))
            else:
                tiers[-1][1][name] = Decimal(number)
        yield provider, model, tiers


def dollars(counts: Counts, tiers: list[tuple[int, dict[str, Decimal]]]) -> Decimal:
    """By the list: beyond an edge all of a request is charged by the higher prices."""
    came = sum(counts.get(name, 0) for name in INPUT)
    prices = [each for above, each in tiers if came > above][-1] if came else tiers[0][1]
    total = Decimal(0)
    for name, count in counts.items():
        charged = name
        while charged not in prices:
            charged = ELSE[charged]
        total += prices[charged] * count / PER.get(charged, 1_000_000)
    return total


# Cases --------------------------------------------------------------------------------


def cases(
    provider: str, prices: Mapping[str, Decimal], has_tiers: bool
) -> Iterator[dict[str, int]]:
    """Disjoint classes: plain, then with each further class that the list has a price for."""
    if "output" not in prices:
        yield from _units(prices)
        return
    for into, out, cached in (*SIZES, *(EDGES if has_tiers else ())):
        yield _tidy(input=into, output=out)
        if "cache_read" in prices and cached:
            yield _tidy(input=into, cache_read=cached, output=out)
    thinks = provider in ("openai", "google", "x-ai", "anthropic") and "image_out" not in prices
    if thinks:
        yield _tidy(input=321, output=17, reasoning=4_000)
    if "cache_write" in prices:
        yield _tidy(input=3, cache_write=2_048, output=9)
        yield _tidy(input=3, cache_write=1_000, cache_write_1h=1_048, cache_read=77, output=9)
    if "audio_in" in prices:
        yield _tidy(input=50, audio_in=1_920, output=33)
        yield _tidy(input=50, audio_in=20, cache_audio_in=1_900, cache_read=5, output=33)
    if "image_out" in prices:
        yield _tidy(input=18, image_in=258, image_out=1_290)
    if "web_searches" in prices:
        yield _tidy(input=900, output=300, web_searches=3)
    if "file_searches" in prices:
        yield _tidy(input=900, output=300, file_searches=2)


def _units(prices: Mapping[str, Decimal]) -> Iterator[dict[str, int]]:
    if "image_out" in prices:
        yield _tidy(input=18, image_in=258, image_out=1_290)
        yield _tidy(input=4_000, image_out=6_240)
        return
    [name] = prices
    for count in (1, 3, 11, 59, 3_600, 12_345):
        yield {name: count}


def _tidy(**counts: int) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


# As the providers tell them -----------------------------------------------------------


def openai(counts: Counts) -> dict[str, Any]:
    """Cached tokens inside the prompt, thoughts inside the completion."""
    came = sum(counts.get(name, 0) for name in INPUT)
    thought = counts.get("reasoning", 0)
    went = counts.get("output", 0) + thought + counts.get("audio_out", 0)
    return {
        "prompt_tokens": came,
        "completion_tokens": went,
        "total_tokens": came + went,
        "prompt_tokens_details": {"cached_tokens": counts.get("cache_read", 0), "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": thought, "audio_tokens": 0},
    }


def xai(counts: Counts) -> dict[str, Any]:
    """Thoughts beside the completion; the total says so."""
    told = openai(counts)
    told["completion_tokens"] -= counts.get("reasoning", 0)
    return told


def anthropic(counts: Counts) -> dict[str, Any]:
    """What was cached stands beside the input."""
    short, long = counts.get("cache_write", 0), counts.get("cache_write_1h", 0)
    thought = counts.get("reasoning", 0)
    return {
        "input_tokens": counts.get("input", 0),
        "cache_creation_input_tokens": short + long,
        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
        "cache_read_input_tokens": counts.get("cache_read", 0),
        "output_tokens": counts.get("output", 0) + thought,
        "output_tokens_details": {"thinking_tokens": thought},
        "server_tool_use": {"web_search_requests": counts.get("web_searches", 0)},
        "service_tier": "standard",
    }


def gemini(counts: Counts) -> dict[str, Any]:
    """What was cached inside the prompt, thoughts beside the answer; by kinds of what it is."""
    came = sum(counts.get(name, 0) for name in INPUT)
    cached, cached_audio = counts.get("cache_read", 0), counts.get("cache_audio_in", 0)
    audio, image = counts.get("audio_in", 0) + cached_audio, counts.get("image_in", 0)
    drawn, thought = counts.get("image_out", 0), counts.get("reasoning", 0)
    went = counts.get("output", 0) + drawn
    return {
        "promptTokenCount": came,
        "cachedContentTokenCount": cached + cached_audio,
        "candidatesTokenCount": went,
        "thoughtsTokenCount": thought,
        "totalTokenCount": came + went + thought,
        "promptTokensDetails": _kinds(TEXT=came - audio - image, AUDIO=audio, IMAGE=image),
        "cacheTokensDetails": _kinds(TEXT=cached, AUDIO=cached_audio),
        "candidatesTokensDetails": _kinds(TEXT=went - drawn, IMAGE=drawn),
    }


def _kinds(**counts: int) -> list[dict[str, Any]]:
    return [{"modality": kind, "tokenCount": count} for kind, count in counts.items() if count]


def cohere(counts: Counts) -> dict[str, Any]:
    """The model's own count is higher than what is billed."""
    came, went = counts.get("input", 0), counts.get("output", 0)
    if searches := counts.get("searches"):
        return {"billed_units": {"search_units": searches}}
    billed = {"input_tokens": float(came), "output_tokens": float(went)}
    return {
        "billed_units": billed,
        "tokens": {"input_tokens": came + 66, "output_tokens": went + 2},
    }


def ollama(counts: Counts) -> dict[str, Any]:
    return {
        "prompt_eval_count": counts.get("input", 0),
        "eval_count": counts.get("output", 0) + counts.get("reasoning", 0),
        "total_duration": 4_883_583_458,
    }


WRITERS: Mapping[str, Callable[[Counts], dict[str, Any]]] = {
    "openai": openai,
    "xai": xai,
    "anthropic": anthropic,
    "gemini": gemini,
    "cohere": cohere,
    "ollama": ollama,
}


def usage(provider: str, counts: Counts) -> tuple[str, dict[str, Any]]:
    """In the provider's dialect; `none` where a door counts for itself, or another one tells."""
    if set(counts) & {"seconds", "characters", "pages", "images", "file_searches"}:
        return "none", {}
    if provider == "openai" and set(counts) & {"web_searches", "image_out"}:
        return "none", {}
    dialect = "xai" if provider == "x-ai" else DIALECTS.get(provider, "openai")
    return dialect, WRITERS[dialect](counts)


def invoices() -> Iterator[dict[str, Any]]:
    for provider, model, tiers in lists():
        for counts in cases(provider, tiers[0][1], len(tiers) > 1):
            cost = dollars(counts, tiers)
            dialect, told = usage(provider, counts)
            yield {
                "provider": provider,
                "model": model,
                "dialect": dialect,
                "usage": told,
                "classes": counts,
                "dollars": f"{cost:f}",
                "ucr": int((cost / NANO).to_integral_value(ROUND_CEILING)),
            }


def text() -> str:
    lines = ",\n".join(json.dumps(one) for one in invoices())
    return f"[\n{lines}\n]\n"


if __name__ == "__main__":
    FILE.write_text(text())
    print(f"{FILE}: {text().count(chr(10)) - 2} invoices")
