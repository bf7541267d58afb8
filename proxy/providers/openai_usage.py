"""What OpenAI's dialects say was used, as classes that do not overlap. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from proxy.providers import hosted
from proxy.providers.fields import Object, count, inner, usage_of
from proxy.types import Usage


def usage_in(answer: Object) -> Object:
    """What tells usage, of an answer or of an event: some put it below a name of their own."""
    whole = inner(answer, "response") or answer
    return inner(whole, "usage") or inner(inner(whole, "x_groq"), "usage")


def read_usage(usage: Mapping[str, Any]) -> Usage | None:
    """OpenAI counts cached tokens inside the prompt and reasoning inside the completion; whatever
    the parts say, together they are never more than the whole. Its newer dialects have other names
    for the same."""
    older = "prompt_tokens" in usage or "completion_tokens" in usage
    asked, answered = ("prompt", "completion") if older else ("input", "output")
    prompt, completion = count(usage, f"{asked}_tokens"), count(usage, f"{answered}_tokens")
    if prompt is None and completion is None:
        return None
    into = _details(usage, f"{asked}_tokens_details", "input_token_details")
    out = _details(usage, f"{answered}_tokens_details", "output_token_details")
    prompt, completion = prompt or 0, completion or 0
    total, reasoning = count(usage, "total_tokens"), count(out, "reasoning_tokens") or 0
    if reasoning and total == prompt + completion + reasoning:
        completion += reasoning  # some count it beside the completion, and their total says so
    if not into and usage.keys() & _CACHED:
        into = {"cached_tokens": max(count(usage, name) or 0 for name in _CACHED)}
    tokens = {**_parts("input", prompt, into, _INPUT), **_parts("output", completion, out, _OUTPUT)}
    found = usage_of(tokens, usage, total)
    beside = {name: number for field, name in _BESIDE.items() if (number := count(usage, field))}
    return replace(found, tokens={**found.tokens, **beside}) if beside else found


def with_tools(usage: Usage | None, answer: Object) -> Usage | None:
    """Tools that the provider has run are items of its answer, and in no count of it."""
    ran = hosted.run(inner(answer, "response") or answer)
    return replace(usage, tokens={**ran, **usage.tokens}) if usage is not None and ran else usage


#: Names that other providers have for what was read from a cache.
_CACHED = frozenset({"prompt_cache_hit_tokens", "cached_tokens"})
#: What some bill beside prompt and completion, and leave out of their total.
_BESIDE = {
    "citation_tokens": "citation",
    "num_search_queries": "web_searches",
    "prompt_audio_seconds": "seconds",
}
_INPUT = (
    ("cache_read", "cached_tokens"),
    ("cache_write", "cache_write_tokens"),
    ("audio_in", "audio_tokens"),
    ("image_in", "image_tokens"),
)
_OUTPUT = (
    ("reasoning", "reasoning_tokens"),
    ("audio_out", "audio_tokens"),
    ("image_out", "image_tokens"),
)


def _parts(
    side: str, whole: int, details: Mapping[str, Any], classes: tuple[tuple[str, str], ...]
) -> dict[str, int]:
    """Disjoint classes that add up to the whole; what no detail claims is plain."""
    if not details:
        return {side: whole}
    parts = {}
    for name, field in classes:
        parts[name] = min(count(details, field) or 0, whole)
        whole -= parts[name]
    return {side: whole, **parts}


def _details(usage: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    found = (usage.get(name) for name in names)
    return next((one for one in found if isinstance(one, dict)), {})
