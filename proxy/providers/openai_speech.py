"""Conversations said to whatever speaks like OpenAI's chat completions. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from proxy.dialects.base import Reader
from proxy.dialects.conversation import (
    Conversation,
    Media,
    Message,
    Part,
    Reasoning,
    Refusal,
    Shape,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from proxy.dialects.events import Event
from proxy.dialects.media import as_url
from proxy.providers.carried import extra_of, refuse_any, refuse_others, refused
from proxy.providers.openai_answer import AnswerReader, whole_answer

NAME = "an OpenAI-compatible provider"
MODES = {"auto": "auto", "none": "none", "any": "required"}
SOUNDS = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}
#: Words of effort for those who tell tokens.
EFFORTS = ((2_048, "low"), (8_192, "medium"), (1 << 62, "high"))


class OpenAISpeech:
    framing: Literal["events", "lines"] = "events"

    def __init__(self, takes_thoughts: bool = True) -> None:
        """OpenAI itself takes no thoughts back, nor signatures: it needs none."""
        self._takes_thoughts = takes_thoughts

    def write(
        self,
        conversation: Conversation,
        *,
        model: str,
        output_max: int,
        stream: bool,
        context_max: int = 0,
    ) -> dict[str, Any]:
        others, sampling = refuse_others(conversation, NAME), conversation.sampling
        refuse_any(NAME, {"top_k": sampling.top_k})
        body = {
            "model": model,
            "messages": list(_messages(conversation, self._takes_thoughts)),
            "tools": [_tool(tool) for tool in conversation.tools],
            **_choice(conversation.tool_choice),
            **_maximum(conversation, self._takes_thoughts),
            "stop": list(conversation.stop),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
            "response_format": _shape(conversation.shape),
            "reasoning_effort": _effort(conversation.reasoning),
            "n": conversation.choices if conversation.choices > 1 else None,
            "user": conversation.user or None,
            "stream": stream or None,
            "stream_options": {"include_usage": True} if stream else None,
            **others,
        }
        return {name: value for name, value in body.items() if value not in (None, [], {})}

    def whole(self, answer: bytes) -> Sequence[Event]:
        return whole_answer(answer)

    def reader(self) -> Reader:
        return AnswerReader()


# Turns ----------------------------------------------------------------------------


def _messages(conversation: Conversation, takes_thoughts: bool) -> Iterator[dict[str, Any]]:
    if conversation.system:
        yield {"role": "system", "content": _joined(conversation.system)}
    for message in conversation.messages:
        if message.role == "assistant":
            yield _answer(message, takes_thoughts)
        elif message.role == "system":
            yield _named({"role": "system", "content": _contents(message.parts)}, message)
        else:
            yield from _asked(message)


def _asked(message: Message) -> Iterator[dict[str, Any]]:
    """Results of tools are messages of their own, before what the user says beside them; what a
    result shows stands there too, since a tool's message has texts alone."""
    shown: list[Part] = []
    for part in message.parts:
        if isinstance(part, ToolResult):
            texts = [one for one in part.parts if isinstance(one, Text)]
            media = [one for one in part.parts if isinstance(one, Media)]
            extra_of(part.extra, NAME)
            text = _joined(texts)
            if part.is_error:
                text = f"Error: {text}"
            if media:
                shown += [Text(f"What the call {part.id} has shown:"), *media]
            yield {"role": "tool", "tool_call_id": part.id, "content": text}
    said = [*shown, *(part for part in message.parts if not isinstance(part, ToolResult))]
    if said or not message.parts:
        yield _named({"role": "user", "content": _contents(said)}, message)


def _answer(message: Message, takes_thoughts: bool) -> dict[str, Any]:
    """A thought that leads to a call goes back where it is taken."""
    said = [part for part in message.parts if isinstance(part, Text | Refusal | Media)]
    calls = [_call(part, takes_thoughts) for part in message.parts if isinstance(part, ToolCall)]
    thoughts = [part.text for part in message.parts if isinstance(part, Thinking) and part.text]
    found: dict[str, Any] = {"role": "assistant", "content": _contents(said) if said else None}
    if calls:
        found["tool_calls"] = calls
    elif not said:
        found["content"] = ""
    if thoughts and calls and takes_thoughts:
        found["reasoning_content"] = "".join(thoughts)
    return _named(found, message)


def _named(found: dict[str, Any], message: Message) -> dict[str, Any]:
    return {**found, "name": message.name} if message.name else found


def _contents(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    """One text as a text: not all who speak this dialect take lists."""
    if all(isinstance(part, Text) for part in parts) and len(parts) <= 1:
        return _joined([part for part in parts if isinstance(part, Text)])
    return [_content(part) for part in parts]


def _content(part: Part) -> dict[str, Any]:
    match part:
        case Text():
            extra_of(part.extra, NAME)
            return {"type": "text", "text": part.text}
        case Refusal():
            return {"type": "refusal", "refusal": part.text}
        case Media():
            return _media(part)
    raise refused(NAME, f"A part of the kind {type(part).__name__} at this place", "messages")


def _media(media: Media) -> dict[str, Any]:
    extra_of(media.extra, NAME)
    if media.kind == "audio":
        if media.media_type not in SOUNDS or not media.data:
            raise refused(NAME, f"Sound as {media.media_type or 'an address'}", "messages")
        sound = {"data": media.data, "format": SOUNDS[media.media_type]}
        return {"type": "input_audio", "input_audio": sound}
    if media.kind == "image" and not media.file_id:
        url = media.url or as_url(media.media_type, media.data)
        detail = {"detail": media.detail} if media.detail else {}
        return {"type": "image_url", "image_url": {"url": url, **detail}}
    return {"type": "file", "file": _file(media)}


def _file(media: Media) -> dict[str, Any]:
    if media.kind == "image" or media.url:
        what = "An image by its file" if media.kind == "image" else "A file by its address"
        raise refused(NAME, what, "messages")
    if media.file_id:
        return {"file_id": media.file_id}
    return {"filename": media.name or "file", "file_data": as_url(media.media_type, media.data)}


def _joined(texts: Iterable[Text]) -> str:
    found = list(texts)
    for text in found:
        extra_of(text.extra, NAME, ("citations",))
    return "\n\n".join(text.text for text in found)


# Tools, and how to answer ------------------------------------------------------------


def _call(call: ToolCall, takes_thoughts: bool) -> dict[str, Any]:
    extra_of(call.extra, NAME)
    function = {"name": call.name, "arguments": call.arguments}
    signed = {"google": {"thought_signature": call.signature}}
    extra = {"extra_content": signed} if call.signature and takes_thoughts else {}
    return {"id": call.id, "type": "function", "function": function, **extra}


def _tool(tool: Tool) -> dict[str, Any]:
    extra_of(tool.extra, NAME)
    function: dict[str, Any] = {"name": tool.name, "parameters": dict(tool.schema)}
    if tool.description:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _choice(choice: ToolChoice | None) -> dict[str, Any]:
    if choice is None:
        return {}
    parallel = {} if choice.parallel is None else {"parallel_tool_calls": choice.parallel}
    if choice.mode == "tool":
        named = {"type": "function", "function": {"name": choice.name}}
        return {"tool_choice": named, **parallel}
    usual = choice.mode == "auto"
    return {**({} if usual else {"tool_choice": MODES[choice.mode]}), **parallel}


def _maximum(conversation: Conversation, elsewhere: bool) -> dict[str, int]:
    """By the name that every server knows; models of OpenAI that think take the newer alone."""
    if conversation.output_max is None:
        return {}
    newer = not elsewhere and conversation.reasoning is not None and not conversation.reasoning.off
    name = "max_completion_tokens" if newer else "max_tokens"
    return {name: conversation.output_max}


def _shape(shape: Shape | None) -> dict[str, Any] | None:
    if shape is None:
        return None
    if shape.schema is None:
        return {"type": "json_object"}
    strict = {} if shape.strict is None else {"strict": shape.strict}
    inner = {"name": shape.name, "schema": dict(shape.schema), **strict}
    return {"type": "json_schema", "json_schema": inner}


def _effort(reasoning: Reasoning | None) -> str | None:
    if reasoning is None or reasoning.off:
        return "none" if reasoning is not None and reasoning.effort == "none" else None
    if reasoning.effort or reasoning.tokens is None:
        return reasoning.effort or None
    return next(word for most, word in EFFORTS if (reasoning.tokens or 0) <= most)
