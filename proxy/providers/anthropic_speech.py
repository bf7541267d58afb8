"""Conversations said to Anthropic: the body of a Messages request. Pure."""

import base64
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from proxy.dialects.base import Reader
from proxy.dialects.conversation import (
    Conversation,
    Media,
    Message,
    Part,
    Reasoning,
    Refusal,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from proxy.dialects.events import Event
from proxy.providers.anthropic_answer import AnswerReader, whole_answer
from proxy.providers.carried import (
    USUAL_DETAIL,
    arguments_of,
    extra_of,
    refuse_any,
    refuse_others,
    refused,
    turns,
)

NAME = "Anthropic"
THINKING_MIN = 1_024  # tokens; fewer are refused
#: How many tokens a word of effort is, for models that are told tokens.
BUDGETS = {"minimal": 1_024, "low": 1_024, "medium": 4_096, "high": 16_384}
EFFORTS = frozenset({"low", "medium", "high", "xhigh", "max"})
TEXT_EXTRA = ("cache_control", "citations")
MEDIA_EXTRA = ("cache_control", "citations", "context", "title")
TOOL_EXTRA = (
    *("cache_control", "input_examples"),
    *("allowed_callers", "defer_loading", "eager_input_streaming"),
)
_thinks_by_budget = re.compile(r"claude-(?:3|(?:opus|sonnet|haiku)-4-(?:[015]\b|20\d{6}))").search
_not_of_ids = re.compile(r"[^a-zA-Z0-9_-]")


class AnthropicSpeech:
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
        others = refuse_others(conversation, NAME, ("thinking", "cache_control"))
        most = conversation.output_max or output_max
        body = {
            "model": model,
            "max_tokens": most,
            "system": _texts(conversation.system),
            "messages": _messages(conversation.messages),
            "tools": [_tool(tool) for tool in conversation.tools],
            "tool_choice": _choice(conversation.tool_choice, bool(conversation.tools)),
            "stop_sequences": list(conversation.stop),
            **_sampling(conversation.sampling, conversation.choices),
            **_thinking(conversation, model, most),
            "metadata": {"user_id": conversation.user} if conversation.user else None,
            "stream": stream or None,
            **others,
        }
        return {name: value for name, value in body.items() if value or value == 0.0}

    def whole(self, answer: bytes) -> Sequence[Event]:
        return whole_answer(answer)

    def reader(self) -> Reader:
        return AnswerReader()


# Turns ----------------------------------------------------------------------------


def _messages(messages: Iterable[Message]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for role, parts in turns(messages, NAME):
        content = _blocks(parts) if role != "system" else _texts(parts)
        if content or role != "assistant":  # a model's turn that says nothing is no turn
            found.append({"role": role, "content": content})
    return found


def _blocks(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    if len(parts) == 1 and isinstance(parts[0], Text) and not parts[0].extra:
        return parts[0].text
    return [block for block in map(_block, parts) if block]


def _texts(parts: Iterable[Part]) -> str | list[dict[str, Any]]:
    texts = [part for part in parts if isinstance(part, Text)]
    if len(texts) != len(list(parts)):
        raise refused(NAME, "Anything but text in a system message", "messages")
    return _blocks(texts)


def _block(part: Part) -> dict[str, Any]:
    match part:
        case Text(text, extra):
            found: dict[str, Any] = {"type": "text", "text": text}
            # an empty one is refused there, and says nothing
            return {**found, **extra_of(extra, NAME, TEXT_EXTRA)} if text else {}
        case Refusal(text):
            return {"type": "text", "text": text}
        case Thinking():
            return _thought(part)
        case Media():
            return _media(part)
        case ToolCall(id, name, _, _, extra):
            call = {"type": "tool_use", "id": _id(id), "name": name}
            kept = extra_of(extra, NAME, ("cache_control", "caller"))
            return {**call, "input": arguments_of(part, NAME), **kept}
        case ToolResult():
            return _result(part)


def _thought(thought: Thinking) -> dict[str, Any]:
    if thought.redacted:
        return {"type": "redacted_thinking", "data": thought.redacted}
    if not thought.signature:
        raise refused(NAME, "A thought without its signature", "messages")
    return {"type": "thinking", "thinking": thought.text, "signature": thought.signature}


def _media(media: Media) -> dict[str, Any]:
    kept = dict(extra_of(media.extra, NAME, MEDIA_EXTRA))
    if media.kind == "audio":
        raise refused(NAME, "Sound", "messages")
    if media.detail not in USUAL_DETAIL:
        raise refused(NAME, f"The `detail` of an image (`{media.detail}`)", "messages")
    if media.kind == "image":
        return {"type": "image", "source": _source(media), **kept}
    if media.name:
        kept.setdefault("title", media.name)
    return {"type": "document", "source": _source(media), **kept}


def _source(media: Media) -> dict[str, Any]:
    if media.file_id:
        return {"type": "file", "file_id": media.file_id}
    if media.url:
        return {"type": "url", "url": media.url}
    if not media.media_type:
        raise refused(NAME, "Data without its media type", "messages")
    if media.kind == "file" and media.media_type.startswith("text/"):
        return {"type": "text", "media_type": "text/plain", "data": _plain(media.data)}
    return {"type": "base64", "media_type": media.media_type, "data": media.data}


def _plain(data: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except ValueError:
        raise refused(NAME, "A text that is not base64 of UTF-8", "messages") from None


def _result(result: ToolResult) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "tool_result", "tool_use_id": _id(result.id)}
    content = _blocks(result.parts)
    if content:
        found["content"] = content
    if result.is_error:
        found["is_error"] = True
    return {**found, **extra_of(result.extra, NAME, ("cache_control",))}


def _id(id: str) -> str:
    """Other providers' ids have letters that are refused here; call and result change alike."""
    return _not_of_ids.sub("_", id)


# Tools, and how to answer -----------------------------------------------------------


def _tool(tool: Tool) -> dict[str, Any]:
    kept = extra_of(tool.extra, NAME, TOOL_EXTRA)
    found: dict[str, Any] = {"name": tool.name}
    if tool.description:
        found["description"] = tool.description
    found["input_schema"] = {"type": "object", **tool.schema}
    if tool.strict:
        found["strict"] = True
    return {**found, **kept}


def _choice(choice: ToolChoice | None, has_tools: bool) -> dict[str, Any] | None:
    if choice is None or (not has_tools and choice.mode in ("auto", "none")):
        return None
    found: dict[str, Any] = {"type": choice.mode}
    if choice.mode == "tool":
        found["name"] = choice.name
    if choice.parallel is False and choice.mode != "none":
        found["disable_parallel_tool_use"] = True
    return found


def _sampling(sampling: Sampling, choices: int) -> dict[str, Any]:
    refuse_any(
        NAME,
        {
            "n": choices > 1,
            "seed": sampling.seed is not None,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
        },
    )
    if sampling.temperature is not None and sampling.temperature > 1:
        raise refused(NAME, "A temperature above 1", "temperature")
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
    }


def _thinking(conversation: Conversation, model: str, most: int) -> dict[str, Any]:
    config: dict[str, Any] = {}
    found: dict[str, Any] = {}
    shape = conversation.shape
    if shape is not None:
        if shape.schema is None:
            raise refused(NAME, "Any JSON as an answer, without a schema,", "response_format")
        config["format"] = {"type": "json_schema", "schema": shape.schema}
    wanted = conversation.reasoning
    if wanted is not None:
        found = _thoughts(wanted, model, most, config)
    return {**found, "output_config": config}


def _thoughts(wanted: Reasoning, model: str, most: int, config: dict[str, Any]) -> dict[str, Any]:
    effort = wanted.effort
    if wanted.off or effort == "none":
        return {"thinking": {"type": "disabled"}}
    if wanted.tokens is not None or (effort and _thinks_by_budget(model)):
        tokens = wanted.tokens if wanted.tokens is not None else BUDGETS.get(effort)
        if tokens is None:
            raise refused(NAME, f"An effort of `{effort}` with {model}", "reasoning_effort")
        return {"thinking": {"type": "enabled", "budget_tokens": _budget(wanted, tokens, most)}}
    if not effort:
        return {}
    config["effort"] = effort = "low" if effort == "minimal" else effort
    if effort not in EFFORTS:
        raise refused(NAME, f"An effort of `{effort}`", "reasoning_effort")
    shown = "summarized" if wanted.shown else "omitted"
    return {"thinking": {"type": "adaptive", "display": shown}}


def _budget(wanted: Reasoning, tokens: int, most: int) -> int:
    """Thoughts count as output there, so a word of effort means what has room in it."""
    if wanted.tokens is None and tokens >= most > THINKING_MIN:
        return most - 1
    return tokens
