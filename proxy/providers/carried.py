"""What a provider's dialect has no place for is refused by its name, never dropped. Pure.

Dropped is only what changes no answer: notes, hints, and what would be so without it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import orjson

from proxy.dialects.conversation import Conversation, Message, Part, ToolCall, ToolResult
from proxy.errors import NotCarried


def _always(_: Any) -> bool:
    return True


def _is_off(value: Any) -> bool:
    return not value


#: Fields of clients that may be left out, each with the values for which that is so.
HARMLESS: Mapping[str, Callable[[Any], bool]] = {
    # notes, for the client's own books
    "metadata": _always,
    "user": _always,
    "safety_identifier": _always,
    # hints, which make an answer faster or cheaper and change nothing in it
    "prompt_cache_key": _always,
    "prompt_cache_retention": _always,
    "cache_control": _always,
    # answered by the gateway itself
    "stream": _always,
    "stream_options": _always,
    # what is so in any case
    "store": _is_off,
    "background": _is_off,
    "logprobs": _is_off,
    "top_logprobs": _is_off,
    "logit_bias": _is_off,
    "include": _is_off,
    "service_tier": lambda value: value in ("auto", "default", "standard", "standard_only"),
    "truncation": lambda value: value == "disabled",
    "modalities": lambda value: value == ["text"],
    "verbosity": lambda value: value == "medium",
}
#: The same of what stands beside a part of a turn.
HARMLESS_EXTRA = frozenset({"cache_control"})
#: How fine an image is looked at where nobody says otherwise.
USUAL_DETAIL = frozenset({"", "auto", "high"})


def refused(provider: str, what: str, param: str | None = None) -> NotCarried:
    return NotCarried(param, what=what, provider=provider)


def refuse_any(provider: str, named: Mapping[str, object]) -> None:
    """Raises for the first field that was named with a value that says something."""
    for name, value in named.items():
        if value:
            raise refused(provider, f"`{name}`", name)


def refuse_others(
    conversation: Conversation, provider: str, known: Iterable[str] = ()
) -> Mapping[str, Any]:
    """Raises unless all that nobody has a word for is known here or harmless; gives the known."""
    kept = {}
    for name, value in conversation.others.items():
        if _says_nothing(value):
            continue
        if name in known:
            kept[name] = value
        elif not _is_harmless(name, value):
            raise refused(provider, f"`{name}`", name)
    return kept


def extra_of(
    extra: Mapping[str, Any], provider: str, known: Iterable[str] = ()
) -> Mapping[str, Any]:
    """The same for what stands beside a part of a turn, or a tool."""
    kept = {}
    for name, value in extra.items():
        if _says_nothing(value):
            continue
        if name in known:
            kept[name] = value
        elif name not in HARMLESS_EXTRA:
            raise refused(provider, f"`{name}`", name)
    return kept


def _says_nothing(value: Any) -> bool:
    return value is None or value == [] or value == {} or value == ""


def _is_harmless(name: str, value: Any) -> bool:
    """Of `messages.0.cache_control` the last name tells."""
    known = HARMLESS.get(name)
    if known is None:
        return name.rpartition(".")[2] in HARMLESS_EXTRA
    return known(value)


def arguments_of(call: ToolCall, provider: str) -> dict[str, Any]:
    """As an object, for dialects that do not carry them as the text which the model wrote."""
    try:
        found = orjson.loads(call.arguments or "{}")
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise refused(provider, f"A call of `{call.name}` whose arguments are no JSON object")
    return found


def turns(messages: Iterable[Message], provider: str) -> Iterator[tuple[str, list[Part]]]:
    """Roles and parts; all results of one turn's tools stand first in the one turn after it."""
    role, parts = "", list[Part]()
    for message in messages:
        if message.name:
            raise refused(provider, "The name of a message's author", "messages")
        ours = list(message.parts)
        if message.role == role == "user" and any(map(_is_result, parts + ours)):
            parts += ours
            continue
        if role:
            yield role, sorted(parts, key=lambda part: not _is_result(part))
        role, parts = message.role, ours
    if role:
        yield role, sorted(parts, key=lambda part: not _is_result(part))


def _is_result(part: Part) -> bool:
    return isinstance(part, ToolResult)


def names_of_calls(messages: Iterable[Message]) -> Mapping[str, str]:
    """Of each call's id the tool's name, for dialects whose results tell it."""
    parts = (part for message in messages for part in message.parts)
    return {part.id: part.name for part in parts if isinstance(part, ToolCall)}
