"""What the turns of a conversation bring beside text: things that the provider reads or has kept,
and tools that are named among the turns. Pure.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Fields = Mapping[str, Any]

#: Parts whose tokens are no more than their bytes.
TEXT = frozenset(
    {
        *("text", "refusal", "input_text", "output_text", "summary_text"),
        *("tool_use", "thinking", "redacted_thinking"),
    }
)
#: Items of Responses that hold all that is read of them; any other may stand for what was kept.
WHOLE = frozenset(
    {
        *("function_call", "function_call_output", "additional_tools"),
        *("custom_tool_call", "custom_tool_call_output", "computer_call", "computer_call_output"),
        *("local_shell_call", "local_shell_call_output", "shell_call", "shell_call_output"),
        *("apply_patch_call", "apply_patch_call_output", "tool_search_call", "tool_search_output"),
        *("mcp_approval_request", "mcp_approval_response", "tool_result"),
    }
)
SPOKEN = (None, "message")
SEALED = ("reasoning", "compaction")  # likewise where their content was given to the client
ADDING = ("tool_addition", "compaction")  # parts that name tools
BRINGING = ("additional_tools", "tool_search_output")  # likewise items
TRIGGER = "compaction_trigger"  # an item that has the conversation summed up, in no usage


def has_more_than_text(fields: Fields) -> bool:
    """Images, audio and files may count for more tokens than they have bytes here."""
    found = _turns(fields) if "input" in fields else fields.get("messages")
    for turn in found if isinstance(found, list) else ():
        if isinstance(turn, dict) and not _is_all_there(turn):
            return True
    return False


def _turns(fields: Fields) -> list[Any]:
    """Whichever of the two names a provider reads, both are looked at."""
    messages, items = fields.get("messages"), fields.get("input")
    turns = messages if isinstance(messages, list) else []
    return turns + items if isinstance(items, list) else turns


def _is_all_there(turn: Fields) -> bool:
    """Also of what a tool has given back; not what the provider has kept."""
    if len(turn) == 2 and isinstance(turn.get("content"), str):
        return True  # a role and a text, as most are
    if ("type" in turn or "id" in turn) and not _is_whole(turn):
        return False
    if turn.get("audio"):  # a turn that was spoken, by its name
        return False
    for name in ("content", "output"):
        parts = turn.get(name)
        if isinstance(parts, dict) and not _is_text(parts):
            return False
        if isinstance(parts, list) and not all(map(_is_text, parts)):
            return False
    return True


def _is_whole(turn: Fields) -> bool:
    kind = turn.get("type")
    if kind in SPOKEN:
        return "id" not in turn or "content" in turn
    if kind in SEALED:
        return bool(turn.get("encrypted_content"))
    return isinstance(kind, str) and kind in WHOLE


def _is_text(part: Any) -> bool:
    if not isinstance(part, dict):
        return False
    kind = part.get("type")
    if not isinstance(kind, str):
        return False
    return kind in TEXT or (kind == "tool_result" and _is_all_there(part))


def tools_in(fields: Fields) -> list[Any]:
    """Definitions as the list `tools` has them; of what sums up the item itself."""
    found: list[Any] = []
    for turn in _turns(fields):
        if not isinstance(turn, dict):
            continue
        if "type" in turn:
            found += _brought(turn)
        content = turn.get("content")
        if isinstance(content, list):
            for part in content:
                if isinstance(part, dict) and part.get("type") in ADDING:
                    found += _added(part)
    return found


def _brought(item: Fields) -> Sequence[Any]:
    kind, tools = item["type"], item.get("tools")
    if kind == TRIGGER:
        return (item,)
    return tools if kind in BRINGING and isinstance(tools, list) else ()


def _added(part: Fields) -> Sequence[Any]:
    """Of Anthropic's messages; what is only named again stands elsewhere."""
    if part["type"] == "tool_addition":
        tool = part.get("tool")
        return (tool["definition"],) if isinstance(tool, dict) and "definition" in tool else ()
    changes = part.get("tool_changes")
    rows = [one for one in changes if isinstance(one, dict)] if isinstance(changes, list) else []
    return [tool for one in rows if one.get("type") == "tool_addition" for tool in _added(one)]
