"""A request in Anthropic's Messages dialect, read into a conversation. Pure.

Turns and their blocks are in `messages_blocks`; here is what stands around them.
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
from proxy.dialects.messages_blocks import Turns, hints_of, texts
from proxy.fields import OUTPUT_MAX

ELSEWHERE = ("model", "stream")  # read for every dialect alike
#: What asks for no more than everybody gets.
ORDINARY = {"service_tier": ("auto", "standard_only"), "speed": ("standard",)}
EFFORTS = ("low", "medium", "high", "xhigh", "max")
MODES = {"auto": "auto", "any": "any", "tool": "tool", "none": "none"}


def read(fields: Mapping[str, Any]) -> Conversation:
    others: dict[str, Any] = {}
    top = Fields(fields, "", others, ".{}")
    for name in ELSEWHERE:
        top.take(name)
    for name, words in ORDINARY.items():
        if fields.get(name) in words:
            top.take(name)
    if _keeps_all(fields.get("context_management")):
        top.take("context_management")
    sampling = Sampling(
        temperature=top.number("temperature"),
        top_p=top.number("top_p"),
        top_k=top.whole("top_k", 0, OUTPUT_MAX),
    )
    config = top.fields("output_config")
    found = Conversation(
        system=_system(top),
        messages=_messages(top),
        tools=_tools(top),
        tool_choice=_tool_choice(top),
        output_max=top.whole("max_tokens", 1, OUTPUT_MAX),
        stop=top.texts("stop_sequences"),
        sampling=sampling,
        shape=_shape(config),
        reasoning=_reasoning(top, config),
        user=_user(top),
        hints=hints_of(top),
        others=others,
    )
    if config is not None:
        config.done()
    top.done()
    return found


def _keeps_all(management: Any) -> bool:
    """Whether it asks for no more than that thoughts stay, as they do here."""
    edits = management.get("edits") if isinstance(management, dict) else None
    return isinstance(edits, list) and all(
        isinstance(edit, dict)
        and str(edit.get("type")).startswith("clear_thinking")
        and edit.get("keep") == "all"
        for edit in edits
    )


def _system(top: Fields) -> tuple[Text, ...]:
    if top.has_text("system"):
        text = top.text("system")
        return (Text(text),) if text else ()
    return texts(top, "system")


def _messages(top: Fields) -> tuple[Message, ...]:
    turns = Turns()
    found = tuple(turns.read(message) for message in top.each("messages"))
    if not found:
        raise invalid("messages", "it takes a list of at least one message")
    return found


def _tools(top: Fields) -> tuple[Tool, ...]:
    return tuple(tool for row in top.each("tools") if (tool := _tool(row)) is not None)


def _tool(row: Fields) -> Tool | None:
    kind = row.text("type", "custom")
    if kind != "custom":
        row.unknown(kind)  # one that runs at its provider, or whose schema only the provider knows
        return None
    if row.take("defer_loading"):
        row.refuse("defer_loading", True)
    callers = row.take("allowed_callers")
    if callers not in (None, ["direct"]):
        row.refuse("allowed_callers", callers)
    row.take("eager_input_streaming")  # pieces go out as they come in
    schema = row.object("input_schema")
    if schema is None:
        raise invalid(row.at("input_schema"), "it takes a JSON schema")
    found = Tool(
        name=row.text("name", None),
        description=row.text("description"),
        schema=schema,
        strict=row.flag("strict"),
        extra=hints_of(row),
    )
    row.done()
    return found


def _tool_choice(top: Fields) -> ToolChoice | None:
    choice = top.fields("tool_choice")
    if choice is None:
        return None
    mode = choice.one_of("type", tuple(MODES), None)
    single = choice.flag("disable_parallel_tool_use")
    found = ToolChoice(
        mode=MODES[mode],  # type: ignore[arg-type]
        name=choice.text("name", None) if mode == "tool" else "",
        parallel=None if single is None else not single,
    )
    choice.done()
    return found


def _shape(config: Fields | None) -> Shape | None:
    form = config.fields("format") if config else None
    if form is None:
        return None
    form.one_of("type", ("json_schema",), None)
    schema = form.object("schema")
    if schema is None:
        raise invalid(form.at("schema"), "it takes a JSON schema")
    form.done()
    return Shape(schema=schema, strict=True)


def _reasoning(top: Fields, config: Fields | None) -> Reasoning | None:
    effort = config.one_of("effort", EFFORTS) if config else ""
    thinking = top.fields("thinking")
    if thinking is None:
        return Reasoning(effort=effort, shown=False) if effort else None
    kind = thinking.text("type", None)
    display = thinking.one_of("display", ("summarized", "omitted"))
    if kind not in ("enabled", "adaptive", "disabled"):
        thinking.unknown(kind)
        return None
    budget = thinking.whole("budget_tokens", 1, OUTPUT_MAX)
    if kind == "enabled" and budget is None:
        raise invalid(thinking.at("budget_tokens"), "it is needed where thinking is enabled")
    thinking.done()
    if kind == "disabled":
        return Reasoning(effort=effort, off=True, shown=False)
    return Reasoning(effort=effort, tokens=budget, shown=display != "omitted")


def _user(top: Fields) -> str:
    metadata = top.fields("metadata")
    if metadata is None:
        return ""
    found = metadata.text("user_id")
    metadata.done()
    return found
