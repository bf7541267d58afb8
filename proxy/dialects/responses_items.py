"""Items of a Responses request, put together to turns. Pure."""

from typing import Literal

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
from proxy.dialects.signed import opened_id, opened_thought
from proxy.errors import NotKept

Role = Literal["user", "assistant", "system"]
ROLES: dict[str, Role] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
}
#: Of an item that came from an answer: how far it had come, and its name there.
FORMER = ("id", "status", "phase")
SOUNDS = {"mp3": "audio/mpeg", "wav": "audio/wav"}
FILE = "application/pdf"  # what a file is, where its data does not say


class Items:
    """What an answer was made of is one turn, and so are results of tools that follow each other;
    a message is a turn by itself."""

    def __init__(self) -> None:
        self._turns: list[tuple[Role, str, list[Part]]] = []
        self._names: dict[str, str] = {}  # of the functions, by their calls' ids

    def turns(self) -> tuple[Message, ...]:
        return tuple(Message(role, tuple(parts)) for role, _, parts in self._turns)

    def read(self, item: Fields) -> None:
        kind = item.text("type", "message")
        if kind == "item_reference":
            raise NotKept(item.path, name=item.path)
        for name in FORMER:
            item.take(name)
        if kind == "message":
            self._message(item)
        elif kind == "function_call":
            self._add("assistant", "answer", self._call(item))
        elif kind == "function_call_output":
            self._add("user", "results", self._result(item))
        elif kind == "reasoning":
            self._add("assistant", "answer", *_thoughts(item))
        else:
            item.unknown(kind)
        item.done()

    def _add(self, role: Role, group: str, *parts: Part) -> None:
        if group and self._turns and self._turns[-1][1] == group:
            self._turns[-1][2].extend(parts)
        else:
            self._turns.append((role, group, list(parts)))

    def _message(self, item: Fields) -> None:
        role = ROLES[item.one_of("role", tuple(ROLES), None)]
        if item.has_text("content"):
            parts: list[Part] = [Text(item.text("content"))]
        else:
            parts = [part for row in item.each("content") if (part := _part(row)) is not None]
        self._add(role, "answer" if role == "assistant" else "", *parts)

    def _call(self, item: Fields) -> ToolCall:
        id, signature = opened_id(item.text("call_id", None))
        name = item.text("name", None)
        self._names[id] = name
        _called_directly(item)
        return ToolCall(id, name, item.text("arguments", None), signature)

    def _result(self, item: Fields) -> ToolResult:
        id, _ = opened_id(item.text("call_id", None))
        item.take("name")
        _called_directly(item)
        if item.has_text("output"):
            parts: tuple[Text | Media, ...] = (Text(item.text("output")),)
        else:
            read = (_part(row) for row in item.each("output"))
            parts = tuple(part for part in read if isinstance(part, Text | Media))
        return ToolResult(id, self._names.get(id, ""), parts)


def _called_directly(item: Fields) -> None:
    caller = item.take("caller")
    if caller not in (None, {"type": "direct"}):
        item.refuse("caller", caller)


def _thoughts(item: Fields) -> tuple[Thinking, ...]:
    """What was shown of a thought, and what proves it; nothing where nothing came back."""
    shown = "\n\n".join(
        row.text("text", None) for name in ("summary", "content") for row in _rows(item, name)
    )
    sealed = item.text("encrypted_content")
    if sealed:
        return (opened_thought(sealed, shown),)
    return (Thinking(shown),) if shown else ()


def _rows(item: Fields, name: str) -> list[Fields]:
    rows = list(item.each(name))
    for row in rows:
        row.one_of("type", ("summary_text", "reasoning_text"), None)
    return rows


def _part(row: Fields) -> Part | None:
    kind = row.text("type", None)
    row.take("prompt_cache_breakpoint")  # changes no answer
    found: Part | None = None
    if kind in ("input_text", "output_text", "text"):
        for name in ("annotations", "logprobs"):
            row.take(name)
        found = Text(row.text("text", None))
    elif kind == "refusal":
        found = Refusal(row.text("refusal", None))
    elif kind == "input_image":
        found = _image(row)
    elif kind == "input_file":
        found = _file(row)
    elif kind == "input_audio":
        found = _sound(row)
    else:
        row.unknown(kind)
    row.done()
    return found


def _image(row: Fields) -> Media:
    url, file_id, detail = row.text("image_url"), row.text("file_id"), row.text("detail")
    if not url and not file_id:
        raise invalid(row.at("image_url"), "it takes an address, or there is a file_id")
    held = inline(url)
    if held:
        return Media("image", media_type=held[0], data=held[1], detail=detail)
    return Media("image", url=url, file_id=file_id, detail=detail)


def _file(row: Fields) -> Media:
    data, url, file_id = row.text("file_data"), row.text("file_url"), row.text("file_id")
    if not (data or url or file_id):
        raise invalid(row.at("file_data"), "it takes base64, or there is a file_url or a file_id")
    name, detail = row.text("filename"), row.text("detail")
    media_type, data = inline(data) or (FILE if data else "", data)
    return Media("file", media_type, data, url, file_id, name, detail)


def _sound(row: Fields) -> Media:
    sound = row.fields("input_audio")
    if sound is None:
        raise invalid(row.at("input_audio"), "it takes an object")
    form = sound.one_of("format", tuple(SOUNDS), None)
    found = Media("audio", SOUNDS[form], sound.text("data", None))
    sound.done()
    return found
