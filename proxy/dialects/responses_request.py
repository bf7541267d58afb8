"""A request in OpenAI's Responses dialect, read into a conversation. Pure.

Items of the input are in `responses_items`; here is what stands around them. Nothing of an answer
is kept, so `store` is answered with false, and what refers to an earlier answer is refused.
"""

from collections.abc import Mapping
from typing import Any

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
from proxy.dialects.responses_items import Items
from proxy.errors import NotKept
from proxy.fields import OUTPUT_MAX

#: Read for every dialect alike, answered by the writer, or without an effect on functions.
ELSEWHERE = ("model", "stream", "store", "metadata", "stream_options", "max_tool_calls")
KEPT = ("previous_response_id", "conversation", "prompt")
#: What asks for no more than everybody gets.
ORDINARY: Mapping[str, tuple[Any, ...]] = {
    "truncation": ("disabled",),
    "background": (False,),
    "service_tier": ("auto", "default"),
    "top_logprobs": (0,),
}
HINTS = ("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options")
#: Where an answer is to say more than its text, and whether it can.
INCLUDED = "reasoning.encrypted_content"
LOGPROBS = "message.output_text.logprobs"  # the others are of tools that no request gets here with
MODES = {"auto": "auto", "none": "none", "required": "any"}
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
SUMMARIES = ("auto", "concise", "detailed")


def read(fields: Mapping[str, Any]) -> Conversation:
    others: dict[str, Any] = {}
    top = Fields(fields, "", others, "[{}]")
    _pass_over(top, fields)
    system, messages = _turns(top)
    choice, names = _tool_choice(top)
    found = Conversation(
        system=system,
        messages=messages,
        tools=_tools(top, names),
        tool_choice=choice,
        output_max=top.whole("max_output_tokens", 1, OUTPUT_MAX),
        sampling=Sampling(temperature=top.number("temperature"), top_p=top.number("top_p")),
        shape=_shape(top),
        reasoning=_reasoning(top),
        user=top.text("safety_identifier") or top.text("user"),
        hints={name: value for name in HINTS if (value := top.take(name)) is not None},
        others=others,
    )
    top.take("user")
    top.done()
    return found


def _pass_over(top: Fields, fields: Mapping[str, Any]) -> None:
    for name in KEPT:
        if top.take(name) is not None:
            raise NotKept(name, name=name)
    for name in ELSEWHERE:
        top.take(name)
    for name, words in ORDINARY.items():
        if fields.get(name) in words:
            top.take(name)
    if LOGPROBS in top.texts("include"):
        top.refuse(LOGPROBS, True)


def _turns(top: Fields) -> tuple[tuple[Text, ...], tuple[Message, ...]]:
    """Instructions and what else comes before the first turn; then the turns."""
    instructions = top.text("instructions")
    system: tuple[Text, ...] = (Text(instructions),) if instructions else ()
    if top.has_text("input"):
        return system, (Message("user", (Text(top.text("input")),)),)
    items = Items()
    for item in top.each("input"):
        items.read(item)
    turns = items.turns()
    while turns and turns[0].role == "system":
        system += tuple(part for part in turns[0].parts if isinstance(part, Text))
        turns = turns[1:]
    if not turns:
        raise invalid("input", "it takes a text, or a list of items with at least one message")
    return system, turns


def _tools(top: Fields, names: frozenset[str] | None) -> tuple[Tool, ...]:
    found = (tool for row in top.each("tools") if (tool := _tool(row)) is not None)
    return tuple(tool for tool in found if names is None or tool.name in names)


def _tool(row: Fields) -> Tool | None:
    kind = row.text("type", None)
    if kind != "function":
        row.unknown(kind)  # runs at its provider, or is called with something else than JSON
        return None
    if row.take("defer_loading"):
        row.refuse("defer_loading", True)
    callers = row.take("allowed_callers")
    if callers not in (None, ["direct"]):
        row.refuse("allowed_callers", callers)
    if row.take("async"):
        row.refuse("async", True)
    row.take("output_schema")  # of what the client gives back; nobody is held to it
    found = Tool(
        name=row.text("name", None),
        description=row.text("description"),
        schema=row.object("parameters") or {"type": "object", "properties": {}},
        strict=row.flag("strict"),
    )
    row.done()
    return found


def _tool_choice(top: Fields) -> tuple[ToolChoice | None, frozenset[str] | None]:
    """Also which of the tools may be called, where that is not all."""
    parallel = top.flag("parallel_tool_calls")
    single = False if parallel is False else None
    if top.has_text("tool_choice"):
        mode = top.one_of("tool_choice", tuple(MODES))
        return ToolChoice(MODES[mode], parallel=single), None  # type: ignore[arg-type]
    choice = top.fields("tool_choice")
    if choice is None:
        return (None if single is None else ToolChoice(parallel=False)), None
    kind = choice.text("type", None)
    if kind == "function":
        name = choice.text("name", None)
        choice.done()
        return ToolChoice("tool", name, single), None
    if kind == "allowed_tools":
        return _allowed(choice, single)
    choice.unknown(kind)
    return None, None


def _allowed(choice: Fields, single: bool | None) -> tuple[ToolChoice, frozenset[str]]:
    mode = choice.one_of("mode", ("auto", "required"), "auto")
    names: set[str] = set()
    for row in choice.each("tools"):
        row.one_of("type", ("function",), None)
        names.add(row.text("name", None))
        row.done()
    choice.done()
    return ToolChoice(MODES[mode], parallel=single), frozenset(names)  # type: ignore[arg-type]


def _shape(top: Fields) -> Shape | None:
    text = top.fields("text")
    if text is None:
        return None
    if text.one_of("verbosity", ("low", "medium", "high"), "medium") != "medium":
        text.refuse("verbosity", True)
    form = text.fields("format")
    text.done()
    kind = form.one_of("type", ("text", "json_object", "json_schema"), None) if form else "text"
    if form is None or kind == "text":
        return None
    if kind == "json_object":
        return Shape()
    schema = form.object("schema")
    if schema is None:
        raise invalid(form.at("schema"), "it takes a JSON schema")
    if (description := form.text("description")) and "description" not in schema:
        schema = {"description": description, **schema}
    found = Shape(schema, form.text("name", None), form.flag("strict"))
    form.done()
    return found


def _reasoning(top: Fields) -> Reasoning | None:
    wanted = top.fields("reasoning")
    if wanted is None:
        return None
    effort = wanted.one_of("effort", EFFORTS)
    summary = wanted.one_of("summary", SUMMARIES) or wanted.one_of("generate_summary", SUMMARIES)
    for name, ordinary in (("mode", "standard"), ("context", "auto")):
        if (value := wanted.text(name, ordinary)) != ordinary:
            wanted.refuse(name, value)
    wanted.take("generate_summary")
    wanted.done()
    if not effort and not summary:
        return None
    return Reasoning(effort=effort, off=effort == "none", shown=bool(summary))
