"""Conversations said to Cohere: the body of `/v2/chat`. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from proxy.dialects.base import Reader
from proxy.dialects.conversation import (
    Conversation,
    Media,
    Part,
    Reasoning,
    Refusal,
    Sampling,
    Shape,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from proxy.dialects.events import Event
from proxy.providers.carried import extra_of, refuse_any, refuse_others, refused, turns
from proxy.providers.cohere_answer import AnswerReader, whole_answer
from proxy.providers.fields import as_json

NAME = "Cohere"
STOPS_MAX = 5
OWN = ("safety_mode", "priority")
CHOICES = {"any": "REQUIRED", "tool": "REQUIRED", "none": "NONE"}


class CohereSpeech:
    framing: Literal["events", "lines"] = "events"

    def write(
        self,
        conversation: Conversation,
        *,
        model: str,
        output_max: int,
        stream: bool,
        context_max: int = 0,
    ) -> dict[str, Any]:
        others = refuse_others(conversation, NAME, OWN)
        tools = conversation.tools
        body = {
            "model": model,
            "messages": list(_messages(conversation)),
            "tools": [_tool(tool) for tool in tools] or None,
            "strict_tools": any(tool.strict for tool in tools) or None,
            "tool_choice": _choice(conversation.tool_choice, tools),
            "max_tokens": conversation.output_max or output_max,
            "stop_sequences": _stops(conversation.stop),
            **_sampling(conversation.sampling, conversation.choices),
            "response_format": _shape(conversation.shape),
            "thinking": _thinking(conversation.reasoning),
            "stream": stream,
            **others,
        }
        return {name: value for name, value in body.items() if value is not None}

    def whole(self, answer: bytes) -> Sequence[Event]:
        return whole_answer(answer)

    def reader(self) -> Reader:
        return AnswerReader()


# Turns ----------------------------------------------------------------------------


def _messages(conversation: Conversation) -> Iterator[dict[str, Any]]:
    if conversation.system:
        yield {"role": "system", "content": _content(conversation.system)}
    for role, parts in turns(conversation.messages, NAME):
        if role == "assistant":
            yield _said(parts)
            continue
        results = [part for part in parts if isinstance(part, ToolResult)]
        for result in results:
            yield _result(result)
        if len(parts) > len(results):
            yield {"role": role, "content": _content(parts[len(results) :])}


def _said(parts: Sequence[Part]) -> dict[str, Any]:
    """What is said before calls is the plan for them."""
    calls = [part for part in parts if isinstance(part, ToolCall)]
    rest = [part for part in parts if not isinstance(part, ToolCall)]
    found: dict[str, Any] = {"role": "assistant"}
    if calls:
        plan = [part.text for part in rest if isinstance(part, Text | Refusal)]
        rest = [part for part in rest if not isinstance(part, Text | Refusal)]
        found |= {"tool_plan": "\n".join(plan)} if plan else {}
        found["tool_calls"] = [_call(call) for call in calls]
    return {**found, "content": _content(rest)} if rest or not calls else found


def _call(call: ToolCall) -> dict[str, Any]:
    extra_of(call.extra, NAME)
    function = {"name": call.name, "arguments": call.arguments or "{}"}
    return {"id": call.id, "type": "function", "function": function}


def _content(parts: Iterable[Part]) -> str | list[dict[str, Any]]:
    match [_block(part) for part in parts]:
        case []:
            return ""
        case [{"type": "text", "text": str(text)}]:
            return text
        case blocks:
            return blocks


def _block(part: Part) -> dict[str, Any]:
    match part:
        case Text(text, extra):
            extra_of(extra, NAME)
            return {"type": "text", "text": text}
        case Refusal(text):
            return {"type": "text", "text": text}
        case Thinking(text) if not part.redacted:
            return {"type": "thinking", "thinking": text}
        case Media(kind="image"):
            return {"type": "image_url", "image_url": _image(part)}
        case Media():
            raise refused(NAME, "Sound" if part.kind == "audio" else "A file", "messages")
        case _:
            raise refused(NAME, "A thought that nobody may read", "messages")


def _image(media: Media) -> dict[str, Any]:
    extra_of(media.extra, NAME)
    if media.file_id:
        raise refused(NAME, "An image by its id", "messages")
    if not media.url and not media.media_type:
        raise refused(NAME, "Data without its media type", "messages")
    url = media.url or f"data:{media.media_type};base64,{media.data}"
    return {"url": url, "detail": media.detail} if media.detail else {"url": url}


def _result(result: ToolResult) -> dict[str, Any]:
    extra_of(result.extra, NAME)
    if any(isinstance(part, Media) for part in result.parts):
        raise refused(NAME, "An image or a file as a tool's result", "messages")
    told = "\n".join(part.text for part in result.parts if isinstance(part, Text))
    content = as_json({"error": told}) if result.is_error else told
    return {"role": "tool", "tool_call_id": result.id, "content": content}


# Tools, and how to answer -----------------------------------------------------------


def _tool(tool: Tool) -> dict[str, Any]:
    extra_of(tool.extra, NAME)
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = {"type": "object", **tool.schema}
    return {"type": "function", "function": function}


def _choice(choice: ToolChoice | None, tools: Sequence[Tool]) -> str | None:
    if choice is None or not tools:
        return None
    if choice.parallel is False:
        raise refused(NAME, "One tool call at a time (`parallel_tool_calls`)", "tool_choice")
    if choice.mode == "tool" and [tool.name for tool in tools] != [choice.name]:
        raise refused(NAME, "The choice of one tool among several", "tool_choice")
    return CHOICES.get(choice.mode)


def _stops(stop: Sequence[str]) -> list[str] | None:
    if len(stop) > STOPS_MAX:
        raise refused(NAME, f"More than {STOPS_MAX} stop sequences", "stop")
    return list(stop) or None


def _sampling(sampling: Sampling, choices: int) -> dict[str, Any]:
    refuse_any(NAME, {"n": choices > 1})
    return {
        "temperature": sampling.temperature,
        "p": sampling.top_p,
        "k": sampling.top_k,
        "seed": sampling.seed,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
    }


def _shape(shape: Shape | None) -> dict[str, Any] | None:
    if shape is None:
        return None
    found: dict[str, Any] = {"type": "json_object"}
    return found if shape.schema is None else {**found, "json_schema": shape.schema}


def _thinking(wanted: Reasoning | None) -> dict[str, Any] | None:
    """It thinks or does not, or for so many tokens; of the words for more or less it has none."""
    if wanted is None:
        return None
    if wanted.off or wanted.effort == "none":
        return {"type": "disabled"}
    if wanted.tokens is not None:
        return {"type": "enabled", "token_budget": wanted.tokens}
    if wanted.effort not in ("", "high"):
        raise refused(NAME, f"An effort of `{wanted.effort}`", "reasoning_effort")
    return {"type": "enabled"} if wanted.effort else None
