"""Turns of Anthropic's Messages dialect, block by block. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from proxy.dialects.checked import Fields, invalid
from proxy.dialects.conversation import (
    Media,
    Message,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from proxy.dialects.signed import opened_id

ROLES = ("user", "assistant", "system")
#: Where a cache may end: for providers that can be told so.
HINTS = ("cache_control",)


class Turns:
    """Reads turns in order, since a result does not say of which tool it is."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}  # of the tools, by their calls' ids

    def read(self, message: Fields) -> Message:
        role = message.one_of("role", ROLES, None)
        if message.has_text("content"):
            text = message.text("content")
            parts: tuple[Part, ...] = (Text(text),) if text else ()
        else:
            parts = tuple(part for block in message.each("content") for part in self._block(block))
        message.done()
        return Message(role=role, parts=parts)  # type: ignore[arg-type]

    def _block(self, block: Fields) -> tuple[Part, ...]:
        kind = block.text("type", None)
        if kind == "tool_use":
            parts: tuple[Part, ...] = (self._call(block),)
        elif kind == "tool_result":
            parts = (self._result(block),)
        elif reader := _READERS.get(kind):
            parts = reader(block)
        else:
            block.unknown(kind)
            return ()
        block.done()
        return parts

    def _call(self, block: Fields) -> ToolCall:
        id, signature = opened_id(block.text("id", None))
        name = block.text("name", None)
        self._names[id] = name
        caller = block.take("caller")
        if caller not in (None, {"type": "direct"}):
            block.refuse("caller", caller)
        arguments = block.object("input")
        if arguments is None:
            raise invalid(block.at("input"), "it takes an object")
        return ToolCall(
            id=id,
            name=name,
            arguments=orjson.dumps(arguments).decode(),
            signature=signature,
            extra=hints_of(block),
        )

    def _result(self, block: Fields) -> ToolResult:
        id, _ = opened_id(block.text("tool_use_id", None))
        if block.has_text("content"):
            parts: tuple[Text | Media, ...] = (Text(block.text("content")),)
        else:
            parts = _result_parts(block)
        return ToolResult(
            id=id,
            name=self._names.get(id, ""),
            parts=parts,
            is_error=block.flag("is_error") or False,
            extra=hints_of(block),
        )


def texts(owner: Fields, name: str) -> tuple[Text, ...]:
    """A list of blocks that may be texts only."""
    found: list[Text] = []
    for block in owner.each(name):
        block.one_of("type", ("text",), None)
        found += _text(block)
        block.done()
    return tuple(found)


def hints_of(owner: Fields) -> dict[str, Any]:
    found = {name: owner.take(name) for name in HINTS}
    return {name: value for name, value in found.items() if value is not None}


def _result_parts(block: Fields) -> tuple[Text | Media, ...]:
    found: list[Text | Media] = []
    for inner in block.each("content"):
        kind = inner.text("type", None)
        reader = _INSIDE.get(kind)
        if reader is None:
            inner.unknown(kind)
            continue
        found += reader(inner)
        inner.done()
    return tuple(found)


def _text(block: Fields) -> tuple[Text, ...]:
    citations = block.list("citations")
    extra = {**hints_of(block), **({"citations": citations} if citations else {})}
    return (Text(block.text("text", None), extra),)


def _image(block: Fields) -> tuple[Media, ...]:
    media = _source(block, Media("image"))
    if media is None:
        return ()
    return (replace(media, extra=hints_of(block)),)


def _document(block: Fields) -> tuple[Text | Media, ...]:
    """A document of text goes as text, with its title and context before it, so that models of
    any provider can read it."""
    title, context = block.text("title"), block.text("context")
    _no_citations(block)
    hints = hints_of(block)
    source = block.fields("source")
    if source is None:
        raise invalid(block.at("source"), "it takes an object")
    kind = source.text("type", None)
    before = "\n".join(line for line in (title, context) if line)
    if kind == "text":
        source.one_of("media_type", ("text/plain",))
        return (_headed(before, source.text("data", None), hints, source),)
    if kind == "content":
        return _content(source, before, hints)
    media = _located(source, kind, Media("file", name=title, extra=hints))
    if media is None:
        return ()
    return (Text(context), media) if context else (media,)


def _content(source: Fields, before: str, hints: Mapping[str, Any]) -> tuple[Text | Media, ...]:
    if source.has_text("content"):
        return (_headed(before, source.text("content"), hints, source),)
    parts = _result_parts(source)
    source.done()
    if parts and hints:
        parts = (*parts[:-1], replace(parts[-1], extra={**parts[-1].extra, **hints}))
    return (Text(before), *parts) if before else parts


def _headed(before: str, text: str, hints: Mapping[str, Any], source: Fields) -> Text:
    source.done()
    return Text(f"{before}\n\n{text}" if before else text, hints)


def _search_result(block: Fields) -> tuple[Text, ...]:
    before = "\n".join((block.text("title", None), block.text("source", None)))
    _no_citations(block)
    found = "\n".join(part.text for part in texts(block, "content"))
    return (Text(f"{before}\n\n{found}", hints_of(block)),)


def _no_citations(block: Fields) -> None:
    """Answers that cite are of one provider only."""
    wanted = block.fields("citations")
    if wanted is not None and wanted.flag("enabled"):
        block.refuse("citations", {"enabled": True})


def _source(block: Fields, media: Media) -> Media | None:
    source = block.fields("source")
    if source is None:
        raise invalid(block.at("source"), "it takes an object")
    return _located(source, source.text("type", None), media)


def _located(source: Fields, kind: str, media: Media) -> Media | None:
    if kind == "base64":
        kind, data = source.text("media_type", None), source.text("data", None)
        media = replace(media, media_type=kind, data=data)
    elif kind == "url":
        media = replace(media, url=source.text("url", None))
    elif kind == "file":
        media = replace(media, file_id=source.text("file_id", None))
    else:
        source.unknown(kind)
        return None
    source.done()
    return media


def _thinking(block: Fields) -> tuple[Thinking, ...]:
    return (Thinking(block.text("thinking", None), signature=block.text("signature")),)


def _redacted(block: Fields) -> tuple[Thinking, ...]:
    return (Thinking("", redacted=block.text("data", None)),)


_INSIDE: Mapping[str, Callable[[Fields], tuple[Text | Media, ...]]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
}
_READERS: Mapping[str, Callable[[Fields], tuple[Part, ...]]] = {
    **_INSIDE,
    "thinking": _thinking,
    "redacted_thinking": _redacted,
}
