"""What OpenAI's dialects say was used, as classes that do not overlap. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from proxy.providers import hosted
from proxy.providers.fields import Object, count, doubt_of, inner
from proxy.types import Usage

Classes = tuple[tuple[str, str], ...]


def usage_in(answer: Object) -> Object:
    """What tells usage, of an answer or of an event: some put it below a name of their own."""
    whole = inner(answer, "response") or answer
    return inner(whole, "usage") or inner(inner(whole, "x_groq"), "usage")


def read_usage(usage: Mapping[str, Any]) -> Usage | None:
    """OpenAI counts cached tokens inside the prompt and reasoning inside the completion; whatever
    the parts say, together they are never more than the whole. Its newer dialects have other names
    for the same."""
    older = "prompt_tokens" in usage or "completion_tokens" in usage
    asked, answered, asked_of, answered_of = _OLDER if older else _NEWER
    prompt, completion = count(usage, asked), count(usage, answered)
    if prompt is None and completion is None:
        return None
    into, out = usage.get(asked_of), usage.get(answered_of)
    if not into or type(into) is not dict:
        into = inner(usage, "input_token_details")
    if not out or type(out) is not dict:
        out = inner(usage, "output_token_details")
    prompt, completion = prompt or 0, completion or 0
    total = count(usage, "total_tokens")
    reasoning = count(out, "reasoning_tokens") if out else None
    if reasoning and total == prompt + completion + reasoning:
        completion += reasoning  # some count it beside the completion, and their total says so
    if not into and not _CACHED.isdisjoint(usage):
        into = {"cached_tokens": max(count(usage, name) or 0 for name in _CACHED)}
    tokens: dict[str, int] = {}
    _add_parts(tokens, "input", prompt, into, _INPUT)
    _add_parts(tokens, "output", completion, out, _OUTPUT)
    if not _BESIDE.keys().isdisjoint(usage):
        beside = {name: count(usage, field) or 0 for field, name in _BESIDE.items()}
        tokens |= {name: number for name, number in beside.items() if number}
    differs = total is not None and total != prompt + completion
    return Usage(tokens, doubt="total_differs" if differs else doubt_of(usage))


def with_tools(usage: Usage | None, answer: Object) -> Usage | None:
    """Tools that the provider has run are items of its answer, and in no count of it."""
    ran = hosted.run(inner(answer, "response") or answer)
    return replace(usage, tokens={**ran, **usage.tokens}) if usage is not None and ran else usage


_OLDER = (
    *("prompt_tokens", "completion_tokens"),
    *("prompt_tokens_details", "completion_tokens_details"),
)
_NEWER = (
    *("input_tokens", "output_tokens"),
    *("input_tokens_details", "output_tokens_details"),
)
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


def _add_parts(
    tokens: dict[str, int], side: str, whole: int, details: Object, classes: Classes
) -> None:
    """Disjoint classes that add up to the whole; what no detail claims is plain."""
    for name, field in classes if details else ():
        if details.get(field) and (part := min(count(details, field) or 0, whole)):
            tokens[name] = part
            whole -= part
    if whole:
        tokens[side] = whole
