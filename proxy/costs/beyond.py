"""What a body asks of its provider beyond the model's own work: tools that it runs itself, a dearer
service, another model. Which of it has a unit, and which no price here. Pure.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from proxy.errors import ServiceUnpriced

Fields = Mapping[str, Any]
Tools = Sequence[tuple[Fields, str | None]]

#: Services whose price differs from the model's, with what asks for the usual one.
SERVICES: Mapping[str, tuple[str, ...]] = {
    "service_tier": ("auto", "default", "standard", "standard_only", "on_demand", "flex"),
    "speed": ("standard",),
    "inference_geo": ("global",),
    "search_parameters": (),
    "context_management": (),  # to sum a conversation up is in no usage
    "models": (),  # others, which may answer in place of the one that was named
    "fallbacks": (),
    "route": (),
    "provider": (),  # which of a router's providers, each at its own price
    "preset": (),
    "plugins": (),
}
#: By these more comes in than the body has, from the provider itself or by way of its tools.
UNSEEN = ("mcp_servers", "cached_content", "cachedContent", "prompt")
KEPT = ("previous_response_id", "conversation")  # turns that the provider has
#: A body with none of these asks for the model's own work alone.
NAMES = frozenset({"tools", "web_search_options", *SERVICES, *UNSEEN, *KEPT})

#: Tools by how their type begins. Of those that the provider runs the unit that it charges for
#: them; none where all it charges is the tokens that they read.
HOSTED: Mapping[str, str] = {
    "web_search": "web_searches",
    "file_search": "file_searches",
    "code_interpreter": "code_runs",
    "code_execution": "code_runs",
    "image_generation": "images",
    "web_fetch": "",
    "mcp": "",
}
#: These the client runs, or they read nothing but the body.
FUNCTIONS = (None, "function", "custom")  # of the client's own
OPEN = ("tool_search", "local_shell", "apply_patch")
OF_PROVIDERS = ("computer", "bash", "text_editor", "memory")  # whose schema the client cannot see
TOOLS_TOKENS = 1_000  # what a provider says to the model about tools, and about each of its own


def check(fields: Fields, tools: Tools, kind: str, model: str) -> None:
    """Raises for what the platform would be charged another price for than the model's."""
    for name in SERVICES.keys() & fields.keys():
        if not _is_usual(name, fields[name]) and (name != "speed" or kind == "chat"):
            raise ServiceUnpriced(name, what=f"`{name}`", model=model)
    for tool, begin in tools:
        if begin is None:
            what = f"A tool of type `{str(tool['type'])[:64]}`"
            raise ServiceUnpriced("tools", what=what, model=model)


def reads_elsewhere(fields: Fields, tools: Tools) -> bool:
    """Whether more comes in than the body has."""
    if fields.get("web_search_options") is not None:
        return True
    if any(fields.get(name) for name in (*UNSEEN, *KEPT)):
        return True
    return any(begin is None or begin in HOSTED for _, begin in tools)


def tools_tokens(fields: Fields, tools: Tools) -> int:
    """What the provider itself says about tools, in tokens that come in."""
    if not fields.get("tools"):
        return 0
    return TOOLS_TOKENS * (1 + sum(begin in OF_PROVIDERS for _, begin in tools))


def tools_of(fields: Fields) -> Tools:
    """Each tool that is more than a function of the client's, with its row of these tables; None
    for those that nobody knows."""
    tools = fields.get("tools")
    if not isinstance(tools, list):
        return ()
    # functions, as most are, go at once
    waiting = [t for t in tools if not (isinstance(t, dict) and t.get("type") in FUNCTIONS)]
    found: list[tuple[Fields, str | None]] = []
    while waiting:
        tool = waiting.pop()
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind == "namespace":
            inner = tool.get("tools")
            waiting += inner if isinstance(inner, list) else ()
        elif isinstance(kind, str) and kind not in FUNCTIONS:
            known = "local_shell" if kind == "shell" and _is_local(tool) else _row_of(kind)
            found.append((tool, known))
    return found


def _row_of(kind: str) -> str | None:
    """Most types end with a version: `web_search_20250305`."""
    for begin in (*OPEN, *HOSTED, *OF_PROVIDERS):
        if kind == begin or kind.startswith(begin + "_"):
            return begin
    return None


def _is_local(tool: Mapping[str, Any]) -> bool:
    environment = tool.get("environment")
    return isinstance(environment, dict) and environment.get("type") == "local"


def _is_usual(name: str, value: Any) -> bool:
    if name == "search_parameters":  # without a mode it searches where it likes
        return value is None or (isinstance(value, dict) and value.get("mode") == "off")
    if name == "context_management":
        return _only_clears(value)
    return not value or value in SERVICES[name]


def _only_clears(value: Any) -> bool:
    edits = value.get("edits") if isinstance(value, dict) else value
    rows = edits if isinstance(edits, list) else [edits] if edits else []
    return all(isinstance(row, dict) and str(row.get("type")).startswith("clear_") for row in rows)
