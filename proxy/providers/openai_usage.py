"""What OpenAI's dialects say was used, as classes that do not overlap. Pure."""

from collections.abc import Mapping
from math import ceil
from typing import Any

from proxy.types import Usage

TOKENS_MAX = 1_000_000_000  # a provider that counts more than this has not counted


def read_usage(usage: Mapping[str, Any]) -> Usage | None:
    """OpenAI counts cached tokens inside the prompt and reasoning inside the completion; whatever
    the parts say, together they are never more than the whole. Its newer dialects have other names
    for the same."""
    older = "prompt_tokens" in usage or "completion_tokens" in usage
    asked, answered = ("prompt", "completion") if older else ("input", "output")
    prompt, completion = _count(usage, f"{asked}_tokens"), _count(usage, f"{answered}_tokens")
    if prompt is None and completion is None:
        return None
    into = _details(usage, f"{asked}_tokens_details", "input_token_details")
    out = _details(usage, f"{answered}_tokens_details", "output_token_details")
    prompt, completion = prompt or 0, completion or 0
    reasoning = _count(out, "reasoning_tokens") or 0
    if reasoning and _count(usage, "total_tokens") == prompt + completion + reasoning:
        completion += reasoning  # some count it beside the completion, and their total says so
    tokens = {**_parts("input", prompt, into, _INPUT), **_parts("output", completion, out, _OUTPUT)}
    return Usage({name: count for name, count in tokens.items() if count})


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
        parts[name] = min(_count(details, field) or 0, whole)
        whole -= parts[name]
    return {side: whole, **parts}


def _details(usage: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    found = (usage.get(name) for name in names)
    return next((one for one in found if isinstance(one, dict)), {})


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    # bool is an int to Python, and some providers send whole floats
    if type(value) is not int and type(value) is not float:
        return None
    return ceil(value) if 0 <= value <= TOKENS_MAX else None
