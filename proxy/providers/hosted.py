"""Tools that a provider runs itself and sells by the call, as its answers tell of them. Pure."""

from proxy.providers.fields import Object, inner, rows, text

#: Items of OpenAI's Responses.
ITEMS = {
    "web_search_call": "web_searches",
    "file_search_call": "file_searches",
    "code_interpreter_call": "code_runs",
    "image_generation_call": "images",
}
LOOKED = frozenset({"open_page", "find_in_page"})  # at what a search has found: not sold
#: Blocks of Anthropic's Messages, by how the tool's name ends.
BLOCKS = {"web_search": "web_searches", "code_execution": "code_runs"}


def unit_of(part: Object) -> str | None:
    """What such a part of an answer is sold as, if it is sold."""
    kind = text(part, "type")
    if kind == "server_tool_use":
        name = text(part, "name")
        return next((unit for end, unit in BLOCKS.items() if name.endswith(end)), None)
    if part.get("status") == "failed" or text(inner(part, "action"), "type") in LOOKED:
        return None
    return ITEMS.get(kind)


def run(answer: Object) -> dict[str, int]:
    """How often which of them ran for a whole answer."""
    found: dict[str, int] = {}
    if "output" not in answer and "content" not in answer:
        return found
    for part in (*rows(answer, "output"), *rows(answer, "content")):
        if unit := unit_of(part):
            found[unit] = found.get(unit, 0) + 1
    return found
