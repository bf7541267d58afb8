"""Conversations said to Ollama: the body of `/api/chat`. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from proxy.dialects.base import Reader
from proxy.dialects.conversation import (
    Conversation,
    Media,
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
from proxy.providers.carried import (
    USUAL_DETAIL,
    arguments_of,
    extra_of,
    names_of_calls,
    refuse_any,
    refuse_others,
    refused,
    turns,
)
from proxy.providers.fields import as_json, count
from proxy.providers.minted import is_minted
from proxy.providers.ollama_answer import AnswerReader, whole_answer

NAME = "Ollama"
EFFORTS = frozenset({"low", "medium", "high", "max"})
OWN = ("keep_alive", "options", "num_ctx")
CONTEXT_MIN = 4_096  # tokens; more in powers of two, since a model is loaded anew for each size
BYTES_PER_TOKEN = 3
IMAGE_TOKENS = 1_500


class OllamaSpeech:
    framing: Literal["events", "lines"] = "lines"

    def write(
        self,
        conversation: Conversation,
        *,
        model: str,
        output_max: int,
        stream: bool,
        context_max: int = 0,
    ) -> dict[str, Any]:
        """What does not fit into the context is refused by it, where it would cut by itself."""
        others = dict(refuse_others(conversation, NAME, OWN))
        own = others.pop("options", None)
        own = own if isinstance(own, dict) else {}
        messages = list(_messages(conversation))
        tools = _tools(conversation.tools, conversation.tool_choice)
        most = conversation.output_max or output_max
        options = {
            **_sampling(conversation),
            "num_ctx": others.pop("num_ctx", None) or _room(messages, tools, most, context_max),
            **own,
            "num_predict": min(count(own, "num_predict") or most, most),  # its 0 is no maximum
        }
        body = {
            "model": model,
            "messages": messages,
            "tools": tools or None,
            "format": _format(conversation.shape),
            "think": _think(conversation.reasoning),
            "options": {name: value for name, value in options.items() if value is not None},
            "stream": stream,
            "truncate": False,
            "shift": False,
            **others,
        }
        return {name: value for name, value in body.items() if value is not None}

    def whole(self, answer: bytes) -> Sequence[Event]:
        return whole_answer(answer)

    def reader(self) -> Reader:
        return AnswerReader()


def _room(
    messages: Iterable[Mapping[str, Any]], tools: Sequence[Any], most: int, context_max: int
) -> int:
    """For all that comes in and goes out; a small one is the default, which would cut long ones."""
    images = sum(len(message.get("images", ())) for message in messages)
    texts = [{name: v for name, v in one.items() if name != "images"} for one in messages]
    size = len(as_json([texts, tools]).encode())
    needed = size // BYTES_PER_TOKEN + images * IMAGE_TOKENS + most
    room = max(CONTEXT_MIN, 1 << (needed - 1).bit_length())
    return min(room, context_max) if context_max else room


# Turns ----------------------------------------------------------------------------


def _messages(conversation: Conversation) -> Iterator[dict[str, Any]]:
    names = names_of_calls(conversation.messages)
    if conversation.system:
        yield _message("system", conversation.system)
    for role, parts in turns(conversation.messages, NAME):
        results = [part for part in parts if isinstance(part, ToolResult)]
        for result in results:
            yield _result(result, names)
        if len(parts) > len(results) or not parts:
            yield _message(role, parts[len(results) :])


def _message(role: str, parts: Sequence[Part]) -> dict[str, Any]:
    texts, thoughts, images, calls = list[str](), list[str](), list[str](), list[Any]()
    for part in parts:
        match part:
            case Text(text, extra):
                extra_of(extra, NAME)
                texts.append(text)
            case Refusal(text):
                texts.append(text)
            case Thinking(text) if not part.redacted:
                thoughts.append(text)
            case Media():
                images.append(_image(part))
            case ToolCall():
                calls.append(_call(part))
            case _:
                raise refused(NAME, "A thought that nobody may read", "messages")
    found: dict[str, Any] = {"role": role, "content": "\n".join(texts)}
    found |= {"thinking": "\n".join(thoughts)} if thoughts else {}
    found |= {"images": images} if images else {}
    return {**found, "tool_calls": calls} if calls else found


def _image(media: Media) -> str:
    extra_of(media.extra, NAME)
    if media.kind != "image":
        raise refused(NAME, "Sound" if media.kind == "audio" else "A file", "messages")
    if not media.data:
        raise refused(NAME, "An image by its address (send its data itself)", "messages")
    if media.detail not in USUAL_DETAIL:
        raise refused(NAME, f"The `detail` of an image (`{media.detail}`)", "messages")
    return media.data


def _call(call: ToolCall) -> dict[str, Any]:
    extra_of(call.extra, NAME)
    function = {"name": call.name, "arguments": arguments_of(call, NAME)}
    return {"function": function} if is_minted(call.id) else {"id": call.id, "function": function}


def _result(result: ToolResult, names: Mapping[str, str]) -> dict[str, Any]:
    extra_of(result.extra, NAME)
    name = result.name or names.get(result.id)
    if not name:
        raise refused(NAME, "A tool's result without its call", "messages")
    told = "\n".join(part.text for part in result.parts if isinstance(part, Text))
    found: dict[str, Any] = {"role": "tool", "tool_name": name}
    if not is_minted(result.id):
        found["tool_call_id"] = result.id
    found["content"] = as_json({"error": told}) if result.is_error else told
    images = [_image(part) for part in result.parts if isinstance(part, Media)]
    return {**found, "images": images} if images else found


# Tools, and how to answer -----------------------------------------------------------


def _tools(tools: Sequence[Tool], choice: ToolChoice | None) -> list[dict[str, Any]]:
    """It has no word for which tool is called: none is said by naming none."""
    if choice is not None and tools:
        if choice.mode in ("any", "tool"):
            raise refused(NAME, "The demand for a tool call (`tool_choice`)", "tool_choice")
        if choice.parallel is False:
            raise refused(NAME, "One tool call at a time (`parallel_tool_calls`)", "tool_choice")
        if choice.mode == "none":
            return []
    return [_tool(tool) for tool in tools]


def _tool(tool: Tool) -> dict[str, Any]:
    extra_of(tool.extra, NAME)
    if tool.strict:
        raise refused(NAME, f"`strict` of the tool `{tool.name}`", "tools")
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = {"type": "object", **tool.schema}
    return {"type": "function", "function": function}


def _sampling(conversation: Conversation) -> dict[str, Any]:
    refuse_any(NAME, {"n": conversation.choices > 1})
    sampling = conversation.sampling
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "seed": sampling.seed,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "stop": list(conversation.stop) or None,
    }


def _format(shape: Shape | None) -> Any:
    if shape is None:
        return None
    return "json" if shape.schema is None else shape.schema


def _think(wanted: Reasoning | None) -> bool | str | None:
    if wanted is None:
        return None
    if wanted.off or wanted.effort == "none":
        return False
    if wanted.tokens is not None:
        raise refused(NAME, "How many tokens it may think for", "reasoning")
    if wanted.effort and wanted.effort not in EFFORTS:
        raise refused(NAME, f"An effort of `{wanted.effort}`", "reasoning_effort")
    return wanted.effort or None
