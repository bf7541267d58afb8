"""Messages of OpenAI's chat completions, read as turns. Pure.

What a provider wants to see again comes back as it was told: `thinking_blocks` of an assistant's
message, and what is signed in a tool call's id.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from proxy.dialects.checked import Fields, invalid
from proxy.dialects.conversation import (
    Media,
    Message,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from proxy.dialects.media import inline
from proxy.dialects.signed import opened_id

ROLES = ("system", "developer", "user", "assistant", "tool")
FORMATS = {"wav": "audio/wav", "mp3": "audio/mpeg"}
#: Of an answer that comes back, what says nothing to anybody.
ECHOED = ("reasoning_details", "annotations")


class Turns:
    """Results of tools are parts of the user's turn that follows."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._names: dict[str, str] = {}  # of the tools, by their calls' ids

    def read(self, message: Fields) -> None:
        role = message.one_of("role", ROLES, None)
        name = "" if role == "tool" else message.text("name")
        if role == "tool":
            self._add("user", (self._result(message),), name, joins=True)
        elif role == "assistant":
            self._add("assistant", tuple(self._said(message)), name)
        elif role == "user":
            self._add("user", tuple(_content(message)), name, joins=self._ends_with_results)
        else:
            self._add("system", tuple(_content(message)), name)
        message.done()

    @property
    def _ends_with_results(self) -> bool:
        last = self.messages[-1] if self.messages else None
        return last is not None and any(isinstance(part, ToolResult) for part in last.parts)

    def _add(self, role: Any, parts: tuple[Part, ...], name: str, joins: bool = False) -> None:
        last = self.messages[-1] if self.messages else None
        if joins and not name and last is not None and self._ends_with_results:
            self.messages[-1] = replace(last, parts=last.parts + parts)
        else:
            self.messages.append(Message(role, parts, name))

    def _result(self, message: Fields) -> ToolResult:
        id, _ = opened_id(message.text("tool_call_id", None))
        parts = tuple(_content(message))
        for part in parts:
            if not isinstance(part, Text | Media):
                raise invalid(message.at("content"), "it takes texts and media")
        name = message.text("name") or self._names.get(id, "")
        return ToolResult(id, name, parts)  # type: ignore[arg-type]

    def _said(self, message: Fields) -> Iterator[Part]:
        yield from _thoughts(message)
        yield from _content(message)
        if refusal := message.text("refusal"):
            yield Refusal(refusal)
        for call in message.each("tool_calls"):
            yield self._call(call)
        for name in ECHOED:
            message.take(name)

    def _call(self, call: Fields) -> ToolCall:
        kind = call.text("type", "function")
        function = call.fields("function") if kind == "function" else None
        if function is None:
            raise invalid(call.at("type"), "a call of another kind than function is not carried")
        id, signature = opened_id(call.text("id", None))
        signature = signature or _google_signature(call)
        found = ToolCall(
            id, function.text("name", None), function.text("arguments", "") or "{}", signature
        )
        self._names[id] = found.name
        call.take("index")
        function.done()
        call.done()
        return found


def _google_signature(call: Fields) -> str:
    """As Google's own layer for OpenAI's clients has it."""
    extra = call.object("extra_content")
    google = extra.get("google") if extra else None
    told = google.get("thought_signature") if isinstance(google, dict) else None
    return told if isinstance(told, str) else ""


def _thoughts(message: Fields) -> Iterator[Thinking]:
    older = message.text("reasoning")
    shown = message.text("reasoning_content") or older
    blocks = list(message.each("thinking_blocks"))
    for block in blocks:
        kind = block.one_of("type", ("thinking", "redacted_thinking"), None)
        if kind == "thinking":
            yield Thinking(block.text("thinking"), block.text("signature"))
        else:
            yield Thinking("", redacted=block.text("data", None))
        block.done()
    if shown and not blocks:
        yield Thinking(shown)


def _content(message: Fields) -> Iterator[Part]:
    if message.has_text("content"):
        if text := message.text("content"):
            cached = message.take("cache_control")
            yield Text(text, {"cache_control": cached} if cached else {})
        return
    for part in message.each("content"):
        kind = part.text("type", None)
        reader = _READERS.get(kind)
        if reader is None:
            part.unknown(kind)
            continue
        cached = part.take("cache_control")
        found = reader(part)
        if cached and isinstance(found, Text | Media):
            found = replace(found, extra={"cache_control": cached})
        yield found
        part.done()


def _text(part: Fields) -> Text:
    return Text(part.text("text", None))


def _refusal(part: Fields) -> Refusal:
    return Refusal(part.text("refusal", None))


def _image(part: Fields) -> Media:
    image = _inner(part, "image_url")
    url, detail = image.text("url", None), image.text("detail")
    image.done()
    return replace(_located(url, Media("image")), detail=detail)


def _audio(part: Fields) -> Media:
    audio = _inner(part, "input_audio")
    kind = audio.one_of("format", tuple(FORMATS), None)
    found = Media("audio", media_type=FORMATS[kind], data=audio.text("data", None))
    audio.done()
    return found


def _file(part: Fields) -> Media:
    file = _inner(part, "file")
    data, media = file.text("file_data"), Media("file", name=file.text("filename"))
    media = replace(media, file_id=file.text("file_id"))
    file.done()
    return _located(data, media) if data else media


def _inner(part: Fields, name: str) -> Fields:
    found = part.fields(name)
    if found is None:
        raise invalid(part.at(name), "it takes an object")
    return found


def _located(url: str, media: Media) -> Media:
    found = inline(url)
    if found is None:
        return replace(media, url=url)
    return replace(media, media_type=found[0], data=found[1])


_READERS: Mapping[str, Any] = {
    "text": _text,
    "refusal": _refusal,
    "image_url": _image,
    "input_audio": _audio,
    "file": _file,
}
