"""What a body asks of its provider beyond the model's own work: tools that it runs itself, a dearer
service, another model. Which of it has a unit, and which no price here. Pure.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from proxy.costs.price import Kind
from proxy.costs.pricing import NOTHING
from proxy.costs.turns import TRIGGER, tools_in
from proxy.errors import ServiceUnpriced
from proxy.types import Call

Fields = Mapping[str, Any]
Tools = Sequence[tuple[Fields, str | None]]

#: Services whose price differs from the model's, with what asks for the usual one.
SERVICES: Mapping[str, tuple[str, ...]] = {
    "service_tier": ("auto", "default", "standard", "standard_only", "on_demand", "flex"),
    "speed": ("standard",),
    "inference_geo": ("global",),
    "search_parameters": (),
    "context_management": (),  # to sum a conversation up is in no usage
    "compaction": (),  # likewise
    "models": (),  # others, which may answer in place of the one that was named
    "fallbacks": (),
    "route": (),
    "provider": (),  # which of a router's providers, each at its own price
    "preset": (),
    "plugins": (),
    "steps": (),  # of making an image
}
#: Those that mean so in some kinds of calls alone.
SOLD_IN: Mapping[str, tuple[Kind, ...]] = {"speed": ("chat",), "steps": ("images",)}
#: By these more comes in than the body has, from the provider itself or by way of its tools.
UNSEEN = ("mcp_servers", "cached_content", "cachedContent", "prompt")
KEPT = ("previous_response_id", "conversation", "thread")  # turns that the provider has
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
OF_PROVIDERS = (  # whose schema the client cannot see
    *("computer", "browser_toolset", "bash", "text_editor", "memory"),
)
OWN = "function"  # the row of a function among the turns
SMALL = (None, "1g")  # memory of a container, at the price of a run
UNCHARGED = ("response-healing",)  # plugins of routers
TOOLS_TOKENS = 1_000  # what a provider says to the model about tools, and about each of its own


def check(call: Call, tools: Tools) -> None:
    """Raises for what the platform would be charged another price for than the model's."""
    fields = call.fields
    for name in SERVICES.keys() & fields.keys():
        if call.kind in SOLD_IN.get(name, (call.kind,)) and not _is_usual(name, fields[name]):
            raise ServiceUnpriced(name, what=f"`{name}`", model=call.model)
    for tool, begin in tools:
        if begin is None:
            raise _unknown(tool, call.model)
        if begin == "code_interpreter" and _memory(tool) not in SMALL:
            what = "A container whose `memory_limit` is not 1g"
            raise ServiceUnpriced("tools", what=what, model=call.model)


def _unknown(tool: Fields, model: str) -> ServiceUnpriced:
    kind = tool["type"]
    if kind == TRIGGER:
        return ServiceUnpriced("input", what=f"An item of type `{kind}`", model=model)
    more = " whose `environment` is not of type `local`" if kind == "shell" else ""
    return ServiceUnpriced("tools", what=f"A tool of type `{kind[:64]}`{more}", model=model)


def _memory(tool: Fields) -> Any:
    container = tool.get("container")
    return container.get("memory_limit") if isinstance(container, dict) else None


def reads_elsewhere(fields: Fields, tools: Tools) -> bool:
    """Whether more comes in than the body has."""
    if fields.get("web_search_options") is not None:
        return True
    if any(fields.get(name) for name in (*UNSEEN, *KEPT)):
        return True
    return any(begin is None or begin in HOSTED for _, begin in tools)


def tools_tokens(fields: Fields, tools: Tools) -> int:
    """What the provider itself says about tools, in tokens that come in."""
    if not fields.get("tools") and not tools:
        return 0
    return TOOLS_TOKENS * (1 + sum(begin in OF_PROVIDERS for _, begin in tools))


def tools_of(call: Call) -> Tools:
    """Each tool that is more than a function of the client's, with its row of these tables; None
    for those that nobody knows; and one row for all functions that stand among the turns."""
    listed = call.fields.get("tools")
    waiting: list[Any] = []
    if isinstance(listed, list):
        # functions, as most are, go at once
        waiting = [t for t in listed if not (isinstance(t, dict) and t.get("type") in FUNCTIONS)]
    if call.dialect != "chat" and (within := tools_in(call.fields)):
        return [*_more(waiting + within), (NOTHING, OWN)]
    return _more(waiting) if waiting else ()


def _more(waiting: list[Any]) -> list[tuple[Fields, str | None]]:
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
    if name == "plugins" and isinstance(value, list):
        return all(isinstance(row, dict) and _is_uncharged(row) for row in value)
    return not value or value in SERVICES[name]


def _is_uncharged(plugin: Fields) -> bool:
    return plugin.get("id") in UNCHARGED or plugin.get("enabled") is False


def _only_clears(value: Any) -> bool:
    edits = value.get("edits") if isinstance(value, dict) else value
    rows = edits if isinstance(edits, list) else [edits] if edits else []
    return all(isinstance(row, dict) and str(row.get("type")).startswith("clear_") for row in rows)
