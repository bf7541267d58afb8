"""What providers' own lists of models look like. Pure: bytes in, models out.

Only OpenRouter, Together and HuggingFace say prices that can be trusted. What cannot be read is
left out: a list never takes a model away by being odd in one line.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlencode

import orjson

from control.catalogue.fields import (
    Json,
    Listed,
    ListInvalid,
    listed,
    object_of,
    rows_of,
    text_of,
    texts_of,
    tokens_of,
)
from control.catalogue.rates import Inexact, rate

MODELS_MAX = 20_000  # of one list
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Page:
    models: Sequence[Listed]
    more: str = ""  # what to ask the next page with


Reader = Callable[[Any], Page]


def first_path(shape: str) -> str:
    """What to ask for beneath the base URL."""
    return {
        "anthropic": "/models?limit=1000",
        "google": "/models?pageSize=1000",
        "cohere": "/models?page_size=1000",
        "ollama": "/api/tags",
    }.get(shape, "/models")


def next_path(shape: str, more: str) -> str:
    name = {"anthropic": "after_id", "google": "pageToken", "cohere": "page_token"}[shape]
    return f"{first_path(shape)}&{urlencode({name: more})}"


def read(shape: str, document: bytes) -> Page:
    """`shape` is whose list it is: anthropic, google, cohere, ollama, openrouter, together,
    huggingface; anything else is like OpenAI's."""
    try:
        whole = orjson.loads(document)
    except orjson.JSONDecodeError as problem:
        raise ListInvalid(f"it is no JSON: {problem}") from None
    page = READERS.get(shape, _openai)(whole)
    if len(page.models) > MODELS_MAX:
        raise ListInvalid(f"it names more than {MODELS_MAX} models")
    return page


# Their shapes -------------------------------------------------------------------------


def _openai(whole: Any) -> Page:
    """Also Groq's, Mistral's, xAI's and vLLM's, which say a little more."""
    return Page([one for row in rows_of(whole, "data") if (one := _plain(row))])


def _plain(row: Json) -> Listed | None:
    context = tokens_of(
        row, "context_window", "max_context_length", "max_model_len", "context_length"
    )
    return listed(
        row, "id", context_max=context, output_max=tokens_of(row, "max_completion_tokens")
    )


def _anthropic(whole: Any) -> Page:
    models = [
        one
        for row in rows_of(whole, "data")
        if (
            one := listed(
                row,
                "id",
                name=text_of(row, "display_name"),
                context_max=tokens_of(row, "max_input_tokens"),
                output_max=tokens_of(row, "max_tokens"),
            )
        )
    ]
    return Page(models, text_of(whole, "last_id") if whole.get("has_more") is True else "")


def _google(whole: Any) -> Page:
    models = []
    for row in rows_of(whole, "models"):
        methods = row.get("supportedGenerationMethods")
        found = listed(
            {**row, "name": text_of(row, "name").removeprefix("models/")},
            "name",
            name=text_of(row, "displayName"),
            context_max=tokens_of(row, "inputTokenLimit"),
            output_max=tokens_of(row, "outputTokenLimit"),
            kind=_google_kind(methods if isinstance(methods, list) else []),
        )
        models += [found] if found else []
    return Page(models, text_of(whole, "nextPageToken"))


def _google_kind(methods: Sequence[Any]) -> str:
    if "embedContent" in methods:
        return "embeddings"
    return "images" if methods == ["predict"] else ""


def _cohere(whole: Any) -> Page:
    models = []
    for row in rows_of(whole, "models"):
        ends = row.get("endpoints")
        kinds = [_COHERE[one] for one in ends if one in _COHERE] if isinstance(ends, list) else []
        found = listed(
            row, "name", context_max=tokens_of(row, "context_length"), kind=(kinds or [""])[0]
        )
        models += [found] if found and row.get("is_deprecated") is not True else []
    return Page(models, text_of(whole, "next_page_token"))


_COHERE = {"chat": "chat", "embed": "embeddings", "rerank": "rerank"}


def _ollama(whole: Any) -> Page:
    return Page([one for row in rows_of(whole, "models") if (one := listed(row, "name"))])


def _openrouter(whole: Any) -> Page:
    """Prices are texts, dollars for one token; -1 stands for "known only afterwards"."""
    models = []
    for row in rows_of(whole, "data"):
        top, made = object_of(row, "top_provider"), object_of(row, "architecture")
        rates, note = _per_one(object_of(row, "pricing"))
        found = listed(
            row,
            "id",
            name=text_of(row, "name"),
            context_max=tokens_of(row, "context_length"),
            output_max=tokens_of(top, "max_completion_tokens"),
            takes=texts_of(made, "input_modalities"),
            gives=texts_of(made, "output_modalities"),
            rates=rates,
            note=note,
        )
        models += [found] if found else []
    return Page(models)


_PER_ONE = {
    "prompt": "input",
    "completion": "output",
    "input_cache_read": "cache_read",
    "input_cache_write": "cache_write",
    "input_cache_write_1h": "cache_write_1h",
    "internal_reasoning": "reasoning",
    "audio": "audio_in",
    "request": "requests",
    "web_search": "web_searches",
}
#: Prices that one call cannot be charged by as they are said: by the image, by tier, by the hour.
_NOT_PLAIN = ("overrides", "discount")


def _per_one(pricing: Json) -> tuple[dict[str, int], str]:
    if any(pricing.get(name) for name in _NOT_PLAIN):
        return {}, ""  # the package knows tiers
    notes: list[str] = []
    try:
        said = {
            one: rate(Decimal(str(pricing[name])), 1, one, notes)
            for name, one in _PER_ONE.items()
            if pricing.get(name) is not None
        }
    except (Inexact, InvalidOperation):
        return {}, ""
    plain = ("input", "output")
    kept = {name: one for name, one in said.items() if one or name in plain}
    return (kept, "; ".join(notes)) if set(plain) <= set(kept) else ({}, "")


def _together(whole: Any) -> Page:
    """A bare list; dollars for a million tokens."""
    models = []
    for row in rows_of({"data": whole}, "data"):
        pricing = object_of(row, "pricing")
        found = listed(
            row,
            "id",
            name=text_of(row, "display_name"),
            context_max=tokens_of(row, "context_length"),
            kind=_TOGETHER.get(text_of(row, "type"), ""),
            rates=_per_million(pricing, "input", "output")
            if text_of(row, "type") in _PRICED
            else {},
        )
        models += [found] if found else []
    return Page(models)


_TOGETHER = {
    "chat": "chat",
    "language": "completions",
    "code": "completions",
    "embedding": "embeddings",
    "rerank": "rerank",
    "image": "images",
    "moderation": "moderation",
    "transcribe": "transcription",
    "audio": "speech",
}
_PRICED = ("chat", "language", "code")  # of the others 0 does not mean free


def _huggingface(whole: Any) -> Page:
    """A model is had at each of its backends, at that one's price."""
    models = []
    for row in rows_of(whole, "data"):
        places = row.get("providers")
        for place in places if isinstance(places, list) else []:
            if not isinstance(place, dict) or place.get("status", "live") != "live":
                continue
            named = {"id": f"{text_of(row, 'id')}:{text_of(place, 'provider')}"}
            found = listed(
                named,
                "id",
                context_max=tokens_of(place, "context_length"),
                rates=_per_million(object_of(place, "pricing"), "input", "output"),
            )
            models += [found] if found and text_of(row, "id") and text_of(place, "provider") else []
    return Page(models)


def _per_million(pricing: Json, *names: str) -> dict[str, int]:
    """Both or none; and both 0 is what lists say that have no prices."""
    try:
        said = {name: rate(Decimal(str(pricing[name])), MILLION, name, []) for name in names}
    except (Inexact, InvalidOperation, KeyError):
        return {}
    return said if any(said.values()) else {}


READERS: Mapping[str, Reader] = {
    "anthropic": _anthropic,
    "google": _google,
    "cohere": _cohere,
    "ollama": _ollama,
    "openrouter": _openrouter,
    "together": _together,
    "huggingface": _huggingface,
}
