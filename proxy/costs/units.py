"""What a call may use beside tokens, at most: images, sound, characters, searches. Pure."""

from collections.abc import Mapping
from typing import Any

from proxy.costs.beyond import HOSTED, NAMES, Tools, check, tools_of
from proxy.costs.price import Price
from proxy.costs.pricing import NOTHING, has_rate
from proxy.errors import ToolUnpriced
from proxy.types import Call

TOOL_CALLS_ASSUMED = (
    10  # of each tool that the provider runs itself, where the client sets no limit
)
BYTES_PER_SECOND = 750  # of sound: the least that speech is packed into
DOCUMENTS_PER_SEARCH = 100
BYTES_PER_DOCUMENT = 500  # of longer ones each part counts as one
SIZES = ("low", "medium", "high")  # of what a search reads
NO_TOOLS: Tools = ()
ONE_REQUEST: Mapping[str, int] = {"requests": 1}


def units_max(call: Call, price: Price) -> Mapping[str, int]:
    """Refused where the provider would charge the platform for what has no price here."""
    fields, tools = call.fields, NO_TOOLS
    is_plain = NAMES.isdisjoint(fields)
    if call.kind == "chat":
        if not is_plain or call.dialect != "chat":  # others may name tools among the turns
            tools = tools_of(call)
            is_plain = is_plain and not tools
        if is_plain:
            return ONE_REQUEST if "requests" in price.rates else NOTHING  # as most calls are
        units = _hosted(call, tools)
    else:
        units = _OF_KIND[call.kind](call)
    if price.factor_ppm and not is_plain:
        check(call, tools)
        if call.kind == "chat":
            _check_rates(units, call, price)
    return {**ONE_REQUEST, **units} if "requests" in price.rates else units


def _check_rates(units: Mapping[str, int], call: Call, price: Price) -> None:
    """Of each tool that the provider runs and charges for."""
    for name in units:
        if not has_rate(name, price.rates):
            unit = name.partition("/")[0]
            raise ToolUnpriced("tools", model=call.model, unit=unit)


def _hosted(call: Call, tools: Tools) -> Mapping[str, int]:
    units: dict[str, int] = {}
    if call.fields.get("web_search_options") is not None:
        units[search_of(call.fields)] = 1
    for tool, begin in tools:
        if name := HOSTED.get(begin or ""):
            units[name] = units.get(name, 0) + (_calls_max(call, tool) or TOOL_CALLS_ASSUMED)
    return units or NOTHING


def search_of(fields: Mapping[str, Any]) -> str:
    """What a chat completion's own search is sold as: by how much it reads, where that is named."""
    options = fields.get("web_search_options")
    size = options.get("search_context_size") if isinstance(options, dict) else None
    return f"web_searches/{size}" if size in SIZES else "web_searches"


def _calls_max(call: Call, tool: Mapping[str, Any]) -> int | None:
    """The client's own limit, where the provider of his dialect keeps to it."""
    if call.dialect == "messages":
        return _whole(tool.get("max_uses"))
    return _whole(call.fields.get("max_tool_calls")) if call.dialect == "responses" else None


def _images(call: Call) -> Mapping[str, int]:
    """By quality and size, where these are named: `images/hd/1024x1792`."""
    fields = call.fields
    said = [fields.get("quality"), fields.get("size") or _sides(fields)]
    named = [one for one in said if isinstance(one, str) and one and "/" not in one]
    return {"/".join(["images", *named]): _whole(fields.get("n")) or 1}


def _sides(fields: Mapping[str, Any]) -> str | None:
    """A size that is told as two numbers."""
    width, height = (_whole(fields.get(name)) for name in ("width", "height"))
    return f"{width}x{height}" if width and height else None


def _characters(call: Call) -> Mapping[str, int]:
    text = call.fields.get("input")
    return {"characters": len(text) if isinstance(text, str) else len(call.body)}


def _seconds(call: Call) -> Mapping[str, int]:
    return {"seconds": -(-len(call.body) // BYTES_PER_SECOND)}


def _searches(call: Call) -> Mapping[str, int]:
    documents = call.fields.get("documents")
    count = len(documents) if isinstance(documents, list) else 1
    return {"searches": -(-(count + len(call.body) // BYTES_PER_DOCUMENT) // DOCUMENTS_PER_SEARCH)}


def _none(call: Call) -> Mapping[str, int]:
    return NOTHING


_OF_KIND = {
    "completions": _none,
    "embeddings": _none,
    "images": _images,
    "speech": _characters,
    "transcription": _seconds,
    "rerank": _searches,
    "moderation": _none,
}


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
