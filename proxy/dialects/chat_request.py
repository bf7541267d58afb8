"""A request in the dialect of OpenAI's chat completions, read into a conversation. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from proxy.dialects.chat_parts import Turns
from proxy.dialects.checked import Fields, invalid
from proxy.dialects.conversation import (
    Conversation,
    Message,
    Reasoning,
    Sampling,
    Shape,
    Text,
    Tool,
    ToolChoice,
)
from proxy.fields import CHOICES_MAX, OUTPUT_MAX

#: Read for every dialect alike, or answered by the writer.
ELSEWHERE = ("model", "stream", "stream_options", "metadata")
#: What asks for no more than everybody gets.
ORDINARY: Mapping[str, tuple[Any, ...]] = {
    "service_tier": ("auto", "default"),
    "store": (False,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "function_call": ("auto", "none"),
    "functions": ([],),
}
HINTS = ("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "prediction")
MODES: Mapping[str, Literal["auto", "none", "any", "tool"]] = {
    "auto": "auto",
    "none": "none",
    "required": "any",
}


def read(fields: Mapping[str, Any]) -> Conversation:
    others: dict[str, Any] = {}
    top = Fields(fields, "", others, "[{}]")
    for name in ELSEWHERE:
        top.take(name)
    for name, words in ORDINARY.items():
        if fields.get(name) in words:
            top.take(name)
    system, messages = _turns(top)
    limits = [top.whole(n, 1, OUTPUT_MAX) for n in ("max_completion_tokens", "max_tokens")]
    user = top.text("user")
    found = Conversation(
        system=system,
        messages=messages,
        tools=tuple(_tools(top)),
        tool_choice=_tool_choice(top),
        output_max=max((n for n in limits if n is not None), default=None),
        stop=_stop(top),
        sampling=_sampling(top),
        shape=_shape(top),
        reasoning=_reasoning(top),
        choices=top.whole("n", 1, CHOICES_MAX) or 1,
        user=top.text("safety_identifier") or user,
        hints={name: value for name in HINTS if (value := top.take(name)) is not None},
        others=others,
    )
    top.done()
    return found


def _turns(top: Fields) -> tuple[tuple[Text, ...], tuple[Message, ...]]:
    """What instructs the model before the first turn; then the turns."""
    turns = Turns()
    for message in top.each("messages"):
        turns.read(message)
    messages, system = turns.messages, list[Text]()
    while messages and messages[0].role == "system" and not messages[0].name:
        system += [part for part in messages.pop(0).parts if isinstance(part, Text)]
    if not messages:
        raise invalid("messages", "it takes at least one message that is no instruction")
    return tuple(system), tuple(messages)


def _tools(top: Fields) -> Iterator[Tool]:
    for row in top.each("tools"):
        kind = row.text("type", "function")
        function = row.fields("function") if kind == "function" else None
        if function is None:
            row.unknown(kind)  # runs at its provider, or is called with something else than JSON
            continue
        cached = row.take("cache_control")
        yield Tool(
            name=function.text("name", None),
            description=function.text("description"),
            schema=function.object("parameters") or {"type": "object", "properties": {}},
            strict=function.flag("strict"),
            extra={"cache_control": cached} if cached else {},
        )
        function.done()
        row.done()


def _tool_choice(top: Fields) -> ToolChoice | None:
    parallel = top.flag("parallel_tool_calls")
    single = False if parallel is False else None
    if top.has_text("tool_choice"):
        return ToolChoice(MODES[top.one_of("tool_choice", tuple(MODES))], parallel=single)
    choice = top.fields("tool_choice")
    if choice is None:
        return None if single is None else ToolChoice(parallel=False)
    kind = choice.text("type", None)
    function = choice.fields("function") if kind == "function" else None
    if function is None:
        choice.unknown(kind)
        return None
    found = ToolChoice("tool", function.text("name", None), single)
    function.done()
    choice.done()
    return found


def _stop(top: Fields) -> tuple[str, ...]:
    return (top.text("stop"),) if top.has_text("stop") else top.texts("stop")


def _sampling(top: Fields) -> Sampling:
    return Sampling(
        temperature=top.number("temperature"),
        top_p=top.number("top_p"),
        top_k=top.whole("top_k", 0, OUTPUT_MAX),
        seed=top.whole("seed", -(2**63), 2**63 - 1),
        presence_penalty=top.number("presence_penalty"),
        frequency_penalty=top.number("frequency_penalty"),
    )


def _shape(top: Fields) -> Shape | None:
    form = top.fields("response_format")
    if form is None:
        return None
    kind = form.one_of("type", ("text", "json_object", "json_schema"), None)
    inner = form.fields("json_schema") if kind == "json_schema" else None
    if kind == "json_schema" and inner is None:
        raise invalid(form.at("json_schema"), "it takes an object")
    form.done()
    if inner is None:
        return None if kind == "text" else Shape()
    found = Shape(inner.object("schema"), inner.text("name", "answer"), inner.flag("strict"))
    if found.schema is None:
        raise invalid(inner.at("schema"), "it takes a JSON schema")
    inner.take("description")
    inner.done()
    return found


def _reasoning(top: Fields) -> Reasoning | None:
    """By OpenAI's field, or by Anthropic's, which other gateways take here too."""
    effort, thinking = top.text("reasoning_effort"), top.fields("thinking")
    if thinking is None:
        return Reasoning(effort=effort, off=effort == "none") if effort else None
    kind = thinking.one_of("type", ("enabled", "adaptive", "disabled"), None)
    budget = thinking.whole("budget_tokens", 1, OUTPUT_MAX)
    thinking.done()
    return Reasoning(effort, budget, off=kind == "disabled")
