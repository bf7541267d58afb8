"""What a call may use beside tokens, at most: images, sound, characters, searches. Pure."""

from collections.abc import Mapping
from typing import Any

from proxy.errors import PriceUnknown
from proxy.price import Price
from proxy.pricing import NOTHING, has_rate
from proxy.types import Call

TOOL_CALLS_ASSUMED = (
    10  # of each tool that the provider runs itself, where the client sets no limit
)
BYTES_PER_SECOND = 750  # of sound: the least that speech is packed into
DOCUMENTS_PER_SEARCH = 100
BYTES_PER_DOCUMENT = 500  # of longer ones each part counts as one
ONE_REQUEST: Mapping[str, int] = {"requests": 1}
#: Tools that the provider runs and charges for, by how their type begins.
HOSTED = {
    "web_search": "web_searches",
    "file_search": "file_searches",
    "code_interpreter": "code_runs",
    "code_execution": "code_runs",
}


def units_max(call: Call, price: Price) -> Mapping[str, int]:
    """Refused where the provider would charge the platform for what has no price here."""
    fields = call.fields
    if call.kind == "chat" and "tools" not in fields and "web_search_options" not in fields:
        return ONE_REQUEST if "requests" in price.rates else NOTHING  # as most calls are
    units = call.units or _OF_KIND[call.kind](call)
    if price.factor_ppm and call.kind in ("chat", "completions"):
        for name in units:
            if not has_rate(name, price.rates):
                raise PriceUnknown("tools", model=call.model)
    return {**ONE_REQUEST, **units} if "requests" in price.rates else units


def _hosted(call: Call) -> Mapping[str, int]:
    fields = call.fields
    tools = fields.get("tools")
    units: dict[str, int] = {"web_searches": 1} if fields.get("web_search_options") else {}
    for tool in tools if isinstance(tools, list) else ():
        if name := _unit_of(tool):
            most = _whole(tool.get("max_uses")) or _whole(fields.get("max_tool_calls"))
            units[name] = units.get(name, 0) + (most or TOOL_CALLS_ASSUMED)
    return units or NOTHING


def _unit_of(tool: Any) -> str | None:
    kind = tool.get("type") if isinstance(tool, dict) else None
    if kind == "function" or not isinstance(kind, str):
        return None
    return next((unit for begin, unit in HOSTED.items() if kind.startswith(begin)), None)


def _images(call: Call) -> Mapping[str, int]:
    """By quality and size, where these are named: `images/hd/1024x1792`."""
    fields = call.fields
    said = [fields.get(name) for name in ("quality", "size")]
    named = [one for one in said if isinstance(one, str) and one and "/" not in one]
    return {"/".join(["images", *named]): _whole(fields.get("n")) or 1}


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
    "chat": _hosted,
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
