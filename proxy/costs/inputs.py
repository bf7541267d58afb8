"""How many tokens can come in by calls that are no conversations: a list of inputs is read one by
one, each within a context of its own. Pure.
"""

from collections.abc import Callable, Mapping
from typing import Any

from proxy.types import Call

TEXT = frozenset({"text", "type"})  # names of an input that is an object, and no more than text


def inputs_max(call: Call, context_max: int) -> int:
    """A token is at least a byte; what is no text may fill a context."""
    return _OF_KIND.get(call.kind, _alone)(call, context_max)


def _alone(call: Call, context_max: int) -> int:
    return min(len(call.body), context_max)


def _prompts(call: Call, context_max: int) -> int:
    several = isinstance(call.fields.get("prompt"), list)
    return len(call.body) if several else _alone(call, context_max)


def _inputs(call: Call, context_max: int) -> int:
    found = call.fields.get("input")
    if isinstance(found, list):
        return len(call.body) + context_max * sum(map(_is_more, found))
    return context_max if _is_more(found) else _alone(call, context_max)


def _pairs(call: Call, context_max: int) -> int:
    """The query is read again with each document."""
    query, documents = call.fields.get("query"), call.fields.get("documents")
    found = documents if isinstance(documents, list) else [documents]
    once = len(query.encode()) if isinstance(query, str) else context_max
    return len(call.body) + once * len(found) + context_max * sum(map(_is_more, found))


def _pictures(call: Call, context_max: int) -> int:
    """Images may be made after others, whatever a provider calls these."""
    given = (name for name, value in call.fields.items() if "image" in name and _is_given(value))
    return context_max if any(given) else _alone(call, context_max)


def _is_given(value: Any) -> bool:
    return bool(value) and isinstance(value, str | list | dict)


def _is_more(found: Any) -> bool:
    """Whether an input is more than a text or its tokens."""
    if isinstance(found, dict):
        return not (found.keys() <= TEXT and isinstance(found.get("text"), str))
    return False


_OF_KIND: Mapping[str, Callable[[Call, int], int]] = {
    "completions": _prompts,
    "embeddings": _inputs,
    "moderation": _inputs,
    "rerank": _pairs,
    "images": _pictures,
}
