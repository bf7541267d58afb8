"""Conversations said to Gemini: the body of `generateContent`. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import orjson

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
from proxy.providers.gemini_answer import AnswerReader, whole_answer
from proxy.providers.minted import is_minted

NAME = "Gemini"
STOPS_MAX = 5
LEVELS = {word: word.upper() for word in ("minimal", "low", "medium", "high", "xhigh")}
#: How many tokens a word of effort is, for models that are told tokens; as Google has it.
BUDGETS = {"minimal": 1_024, "low": 1_024, "medium": 8_192, "high": 24_576}
MODES = {"auto": "AUTO", "none": "NONE", "any": "ANY", "tool": "ANY"}
#: Fields of its own that a client may name, as they are called there.
OWN = {
    "safety_settings": "safetySettings",
    "safetySettings": "safetySettings",
    "cached_content": "cachedContent",
    "cachedContent": "cachedContent",
}
#: The addresses that it opens itself: its own files, its storage, and videos.
FETCHED = (
    "https://generativelanguage.googleapis.com/",
    "gs://",
    "https://www.youtube.com/",
    "https://youtu.be/",
)
_thinks_by_budget = re.compile(r"gemini-(?:1|2)|-2\.5").search


class GeminiSpeech:
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
        """Model and stream stand in its address."""
        others = refuse_others(conversation, NAME, OWN)
        config = {
            "maxOutputTokens": conversation.output_max or output_max,
            "stopSequences": _stops(conversation.stop),
            **_sampling(conversation.sampling, conversation.choices),
            **_shape(conversation.shape),
            "thinkingConfig": _thinking(conversation.reasoning, model),
        }
        tools = [_tool(tool) for tool in conversation.tools]
        body = {
            "systemInstruction": _system(conversation.system),
            "contents": _contents(conversation),
            "tools": [{"functionDeclarations": tools}] if tools else None,
            "toolConfig": _choice(conversation.tool_choice, conversation.tools),
            "generationConfig": _named(config),
            **{OWN[name]: value for name, value in others.items()},
        }
        return _named(body)

    def whole(self, answer: bytes) -> Sequence[Event]:
        return whole_answer(answer)

    def reader(self) -> Reader:
        return AnswerReader()


def _named(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


# Turns ----------------------------------------------------------------------------


def _system(system: Sequence[Text]) -> dict[str, Any] | None:
    for part in system:
        extra_of(part.extra, NAME)
    return {"parts": [{"text": part.text} for part in system]} if system else None


def _contents(conversation: Conversation) -> list[dict[str, Any]]:
    names = names_of_calls(conversation.messages)
    found = []
    for role, parts in turns(conversation.messages, NAME):
        if role == "system":
            raise refused(NAME, "A system message between turns", "messages")
        ours = [_part(part, names) for part in parts]
        if ours or role == "user":
            found.append({"role": "model" if role == "assistant" else "user", "parts": ours})
    return found


def _part(part: Part, names: Mapping[str, str]) -> dict[str, Any]:
    match part:
        case Text(text, extra):
            extra_of(extra, NAME)
            return {"text": text}
        case Refusal(text):
            return {"text": text}
        case Thinking():
            return _thought(part)
        case Media():
            return _media(part)
        case ToolCall(id, name, _, signature, extra):
            extra_of(extra, NAME)
            call = {"id": _id(id), "name": name, "args": arguments_of(part, NAME)}
            return _named({"functionCall": _named(call), "thoughtSignature": signature or None})
        case ToolResult():
            return {"functionResponse": _result(part, names)}


def _id(id: str) -> str | None:
    return None if is_minted(id) else id


def _thought(thought: Thinking) -> dict[str, Any]:
    """A signature without a thought is that of a text, as it came."""
    if thought.redacted:
        raise refused(NAME, "A thought that nobody may read", "messages")
    if not thought.text:
        return {"text": "", "thoughtSignature": thought.signature}
    found = {"text": thought.text, "thought": True}
    return {**found, "thoughtSignature": thought.signature} if thought.signature else found


def _media(media: Media) -> dict[str, Any]:
    extra_of(media.extra, NAME)
    found = _source(media)
    if media.detail == "low":
        return {**found, "mediaResolution": {"level": "MEDIA_RESOLUTION_LOW"}}
    if media.detail not in USUAL_DETAIL:
        raise refused(NAME, f"The `detail` of an image (`{media.detail}`)", "messages")
    return found


def _source(media: Media) -> dict[str, Any]:
    if media.data:
        if not media.media_type:
            raise refused(NAME, "Data without its media type", "messages")
        return {"inlineData": {"mimeType": media.media_type, "data": media.data}}
    if media.url.startswith(FETCHED):
        kind = {"mimeType": media.media_type} if media.media_type else {}
        return {"fileData": {**kind, "fileUri": media.url}}
    if media.url:
        raise refused(NAME, "Data by its address (send the data itself)", "messages")
    raise refused(NAME, "A file by its id", "messages")


def _result(result: ToolResult, names: Mapping[str, str]) -> dict[str, Any]:
    extra_of(result.extra, NAME)
    name = result.name or names.get(result.id)
    if not name:
        raise refused(NAME, "A tool's result without its call", "messages")
    told = "".join(part.text for part in result.parts if isinstance(part, Text))
    response = {"error" if result.is_error else "output": _output(told)}
    media = [_media(part) for part in result.parts if isinstance(part, Media)]
    found = {"id": _id(result.id), "name": name, "response": response, "parts": media or None}
    return _named(found)


def _output(told: str) -> Any:
    """An object as such; any other text as text."""
    if told.startswith("{"):
        try:
            return orjson.loads(told)
        except orjson.JSONDecodeError:
            return told
    return told


# Tools, and how to answer -----------------------------------------------------------


def _tool(tool: Tool) -> dict[str, Any]:
    extra_of(tool.extra, NAME)
    found: dict[str, Any] = {"name": tool.name}
    if tool.description:
        found["description"] = tool.description
    if tool.schema:
        found["parametersJsonSchema"] = tool.schema
    return found


def _choice(choice: ToolChoice | None, tools: Iterable[Tool]) -> dict[str, Any] | None:
    """Arguments are made to fit where a tool is strict and no call is demanded, which does too."""
    tools = tuple(tools)
    if choice is not None and choice.parallel is False and tools:
        raise refused(NAME, "One tool call at a time (`parallel_tool_calls`)", "tool_choice")
    mode = MODES[choice.mode] if choice is not None and tools else None
    if mode in (None, "AUTO") and any(tool.strict for tool in tools):
        mode = "VALIDATED"
    if mode is None:
        return None
    found: dict[str, Any] = {"mode": mode}
    if choice is not None and choice.mode == "tool":
        found["allowedFunctionNames"] = [choice.name]
    return {"functionCallingConfig": found}


def _stops(stop: Sequence[str]) -> list[str] | None:
    if len(stop) > STOPS_MAX:
        raise refused(NAME, f"More than {STOPS_MAX} stop sequences", "stop")
    return list(stop) or None


def _sampling(sampling: Sampling, choices: int) -> dict[str, Any]:
    refuse_any(NAME, {"n": choices > 1})
    return {
        "temperature": sampling.temperature,
        "topP": sampling.top_p,
        "topK": sampling.top_k,
        "seed": sampling.seed,
        "presencePenalty": sampling.presence_penalty,
        "frequencyPenalty": sampling.frequency_penalty,
    }


def _shape(shape: Shape | None) -> dict[str, Any]:
    if shape is None:
        return {}
    return {"responseMimeType": "application/json", "responseJsonSchema": shape.schema}


def _thinking(wanted: Reasoning | None, model: str) -> dict[str, Any] | None:
    if wanted is None:
        return None
    if wanted.off or wanted.effort == "none":
        return {"thinkingBudget": 0}
    found: dict[str, Any] = {"includeThoughts": wanted.shown}
    if wanted.tokens is not None:
        found["thinkingBudget"] = wanted.tokens
    elif wanted.effort:
        by_budget = _thinks_by_budget(model)
        amount = (BUDGETS if by_budget else LEVELS).get(wanted.effort)
        if amount is None:
            raise refused(NAME, f"An effort of `{wanted.effort}` with {model}", "reasoning_effort")
        found["thinkingBudget" if by_budget else "thinkingLevel"] = amount
    return found
