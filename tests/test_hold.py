"""What is held covers what can be charged: lists of inputs, tools that a provider runs, sound and
images; and what asks for another price than the model's is refused where the platform pays.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy import errors
from proxy.costs.beyond import TOOLS_TOKENS
from proxy.costs.hold import allowed, hold_of, input_max, likely_input, lowered, output_max
from proxy.costs.price import Price
from proxy.costs.units import units_max
from proxy.errors import FieldInvalid, MaxCostExceeded, PriceUnknown
from proxy.fields import check_spelling
from proxy.request import read
from proxy.served import BY_PATH
from proxy.settings import Settings
from proxy.types import Call, Model
from tests.door_stage import HELLO, door

MILLION = 1_000_000
SETTINGS = Settings(slice_tokens=100, output_assumed=50)
PRICE = Price(1, {"input": 2 * MILLION, "output": 10 * MILLION}, MILLION)
MODEL = Model("m", 1_000, 200, 0, (), PRICE)
CONTEXT = MODEL.context_max
TURN = {"role": "user", "content": "x"}
LONG = "x" * 3 * CONTEXT
PICTURE = {"type": "image_url", "image_url": {"url": "https://a/b"}}
FUNCTION = {"type": "function", "name": "f", "parameters": {}}
PATHS = {
    "chat": "/v1/chat/completions",
    "messages": "/v1/messages",
    "responses": "/v1/responses",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "moderation": "/v1/moderations",
    "rerank": "/v1/rerank",
    "images": "/v1/images/generations",
    "speech": "/v1/audio/speech",
}
NEEDED: dict[str, dict[str, Any]] = {
    "chat": {"messages": [TURN]},
    "messages": {"messages": [TURN], "max_tokens": 9},
    "responses": {"input": "x"},
    "images": {"prompt": "x"},
    "speech": {"input": "x"},
}


def call(dialect: str, betas: str = "", /, **fields: Any) -> Call:
    body = orjson.dumps({"model": "m", **NEEDED.get(dialect, {}), **fields})
    headers = {b"anthropic-beta": betas.encode()} if betas else {}
    return read(BY_PATH[PATHS[dialect]], "r", PATHS[dialect], body, SETTINGS, headers)


def tools(*types: str, **more: Any) -> dict[str, Any]:
    return {"tools": [{"type": one} for one in types], **more}


# What comes in ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "fields"),
    [
        ("embeddings", {"input": [LONG, LONG]}),
        ("embeddings", {"input": [[1] * CONTEXT, [2] * CONTEXT]}),
        ("embeddings", {"input": [{"text": LONG}, {"type": "text", "text": LONG}]}),
        ("moderation", {"input": [LONG, LONG]}),
        ("completions", {"prompt": [LONG, LONG]}),
    ],
)
def test_each_of_a_list_of_inputs_has_a_context_of_its_own(
    dialect: str, fields: dict[str, Any]
) -> None:
    asked = call(dialect, **fields)
    assert input_max(asked, MODEL) == len(asked.body) > 2 * CONTEXT
    assert likely_input(asked, MODEL) == len(asked.body) // 4 + 1
    assert hold_of(asked, MODEL, PRICE, SETTINGS).input_tokens == len(asked.body)


@pytest.mark.parametrize(
    ("dialect", "fields"),
    [
        ("embeddings", {"input": LONG}),
        ("embeddings", {"input": {"image": "https://a/b"}}),
        ("completions", {"prompt": LONG}),
        ("speech", {"input": LONG}),
        ("images", {"prompt": LONG}),
        ("images", {"image_url": "https://a/b"}),
    ],
)
def test_one_input_has_one_context_at_most(dialect: str, fields: dict[str, Any]) -> None:
    assert input_max(call(dialect, **fields), MODEL) == CONTEXT


@pytest.mark.parametrize("dialect", ["embeddings", "moderation"])
def test_each_input_that_is_no_text_may_fill_a_context(dialect: str) -> None:
    found = [PICTURE, {"image": "https://a/b"}, "text", {"text": "t", "image": "https://a/b"}]
    asked = call(dialect, input=found)
    assert input_max(asked, MODEL) == len(asked.body) + 3 * CONTEXT


@pytest.mark.parametrize(
    ("query", "documents", "more"),
    [
        ("häl" * 500, ["a"] * 100, 100 * 4 * 500),
        ("q", [{"text": "a"}] * 7, 7),
        ("q", [{"image": "https://a/b"}, "a"], 2 + CONTEXT),
        ({"image": "https://a/b"}, ["a", "b"], 2 * CONTEXT),
    ],
)
def test_a_query_is_read_again_with_each_document(query: Any, documents: Any, more: int) -> None:
    asked = call("rerank", query=query, documents=documents)
    assert input_max(asked, MODEL) == len(asked.body) + more


@pytest.mark.parametrize(
    ("dialect", "fields"),
    [
        ("responses", tools("web_search")),
        ("responses", tools("mcp")),
        ("messages", tools("web_fetch_20250910")),
        ("messages", tools("mcp_toolset")),
        ("messages", {"mcp_servers": [{"url": "https://a"}]}),
        ("chat", {"web_search_options": {}}),
        ("chat", {"cached_content": "cachedContents/a"}),
        ("chat", {"cachedContent": "cachedContents/a"}),
        ("responses", {"prompt": {"id": "pmpt_a"}}),
        ("responses", {"previous_response_id": "resp_a"}),
        ("responses", {"conversation": "conv_a"}),
        ("responses", {"input": [{"type": "item_reference", "id": "a"}]}),
        ("responses", {"input": [{"type": "reasoning", "id": "rs_a", "summary": []}]}),
        (
            "responses",
            {
                "input": [
                    {"type": "computer_call_output", "output": {"type": "image", "file_id": 1}}
                ]
            },
        ),
        ("chat", {"messages": [{"role": "assistant", "audio": {"id": "audio_a"}}]}),
    ],
)
def test_what_nobody_has_sent_may_fill_the_context(dialect: str, fields: dict[str, Any]) -> None:
    """Pages that a tool of the provider's reads come in as tokens, and so does what it has kept."""
    assert input_max(call(dialect, **fields), MODEL) == CONTEXT


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        ({"tools": []}, 0),
        ({"tools": [FUNCTION]}, TOOLS_TOKENS),
        (tools("bash_20250124", "computer_20250124", "custom"), 3 * TOOLS_TOKENS),
        ({"tools": [{"name": "f", "input_schema": {}}]}, TOOLS_TOKENS),
    ],
)
def test_what_a_provider_says_about_tools_comes_in_too(fields: dict[str, Any], more: int) -> None:
    asked = call("messages", **fields)
    wide = replace(MODEL, context_max=100_000)
    assert input_max(asked, wide) == len(asked.body) + more


def test_features_on_trial_may_let_a_model_take_and_give_more() -> None:
    asked = call("messages", "context-1m-2025-08-07,output-128k-2025-02-19", max_tokens=900)
    long = replace(asked, body=b"x" * 5 * CONTEXT)
    assert (input_max(long, MODEL), output_max(long, MODEL)) == (5 * CONTEXT, 900)
    other = replace(long, betas="interleaved-thinking-2025-05-14")
    assert (input_max(other, MODEL), output_max(other, MODEL)) == (CONTEXT, 200)


# What the provider runs ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "fields", "units"),
    [
        ("messages", {"tools": [{"type": "web_search_20250305", "max_uses": 3}]}, 3),
        ("messages", tools("web_search_20250305", max_tool_calls=2), 10),
        ("responses", tools("web_search", max_tool_calls=2), 2),
        ("responses", tools("web_search_preview"), 10),
        ("chat", {"tools": [{"type": "web_search", "max_uses": 3}]}, 10),
        ("chat", {"web_search_options": {}}, 1),
        ("chat", {"web_search_options": None}, 0),
        ("chat", {"tools": [{"type": "function", "function": {"name": "web_search"}}]}, 0),
        ("chat", {"tools": "web_search"}, 0),
        ("chat", {"tools": [None, {"type": ["web_search"]}, {}]}, 0),
    ],
)
def test_searches_are_held_and_need_a_price(
    dialect: str, fields: dict[str, Any], units: int
) -> None:
    """By the client's own limit where his provider keeps to it, else ten calls of each."""
    asked = call(dialect, **fields)
    has = Price(1, {**PRICE.rates, "web_searches": 5_000 * MILLION}, MILLION)
    assert units_max(asked, has) == ({"web_searches": units} if units else {})
    free = Price(1, PRICE.rates, 0)  # by a key of one's own
    assert units_max(asked, free) == units_max(asked, has)
    if units:
        with pytest.raises(PriceUnknown):
            units_max(asked, PRICE)


@pytest.mark.parametrize("size", ["low", "medium", "high"])
def test_a_search_may_be_priced_by_how_much_it_reads(size: str) -> None:
    asked = call("chat", web_search_options={"search_context_size": size})
    plain = Price(1, {**PRICE.rates, "web_searches": MILLION}, MILLION)
    assert units_max(asked, plain) == {f"web_searches/{size}": 1}
    odd = call("chat", web_search_options={"search_context_size": [size]})
    assert units_max(odd, plain) == {"web_searches": 1}
    with pytest.raises(PriceUnknown) as refused:
        units_max(asked, PRICE)
    assert "opscenter models price m web_searches=DOLLARS" in str(refused.value)


def test_images_that_a_tool_makes_are_held() -> None:
    asked = call("responses", **tools("image_generation"), max_tool_calls=4)
    has = Price(1, {**PRICE.rates, "images": MILLION}, MILLION)
    assert units_max(asked, has) == {"images": 4}
    with pytest.raises(PriceUnknown):
        units_max(asked, PRICE)


@pytest.mark.parametrize(
    "tool",
    [
        *({"type": one} for one in ("local_shell", "apply_patch", "tool_search", "custom")),
        *({"type": one} for one in ("computer", "computer_use_preview", "mcp", "mcp_toolset")),
        {"type": "browser_toolset_20260801"},
        {"type": "computer_toolset_20260801"},
        *({"type": one + "_20250124"} for one in ("bash", "text_editor", "computer", "memory")),
        {"type": "tool_search_tool_regex_20251119"},
        {"type": "web_fetch_20250910"},
        {"type": "shell", "environment": {"type": "local"}},
        {"type": "namespace", "tools": [FUNCTION, {"type": "custom"}]},
    ],
)
def test_tools_that_the_client_runs_or_that_cost_tokens_alone_need_no_price(
    tool: dict[str, Any],
) -> None:
    assert units_max(call("responses", tools=[tool]), PRICE) == {}


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "shell"},  # some providers run it where nothing else is said
        {"type": "shell", "environment": {"type": "container_auto"}},
        {"type": "programmatic_tool_calling"},
        {"type": "openrouter:web_search"},
        {"type": "x_search"},
        {"type": "functions"},
        {"type": "namespace", "tools": [{"type": "browser_search"}]},
    ],
)
def test_a_tool_that_nobody_here_knows_has_no_price(tool: dict[str, Any]) -> None:
    asked = call("responses", tools=[FUNCTION, tool])
    with pytest.raises(PriceUnknown, match="A tool of type") as refused:
        units_max(asked, Price(1, dict.fromkeys(("input", "output", "web_searches"), 1), MILLION))
    assert (refused.value.param, refused.value.code) == ("tools", "price_unknown")
    assert units_max(asked, Price(1, PRICE.rates, 0)) == {}
    assert input_max(asked, MODEL) == CONTEXT


# Among the turns ----------------------------------------------------------------------------

HOSTED = ("web_search", "code_interpreter", "image_generation", "file_search", "advisor_20260301")


def among(dialect: str, tool: Any, by: str) -> Call:
    """The tool is named by one of the turns."""
    defined = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": tool}}
    if by == "messages":
        return call(dialect, messages=[TURN, {"role": "system", "content": [defined]}])
    if by == "compaction":
        part = {"type": by, "tool_changes": [defined]}
        return call(dialect, messages=[{"role": "assistant", "content": [part]}, TURN])
    return call(dialect, input=[TURN, {"type": by, "tools": [tool]}])


BY = [
    ("responses", "additional_tools"),
    ("responses", "tool_search_output"),
    ("messages", "messages"),
    ("messages", "compaction"),
]


@pytest.mark.parametrize(("dialect", "by"), BY)
@pytest.mark.parametrize("kind", HOSTED)
def test_a_tool_that_runs_there_needs_a_price_wherever_it_is_named(
    dialect: str, by: str, kind: str
) -> None:
    asked = among(dialect, {"type": kind}, by)
    with pytest.raises(PriceUnknown) as refused:
        hold_of(asked, MODEL, PRICE, SETTINGS)
    assert refused.value.param == "tools"
    assert input_max(asked, MODEL) == CONTEXT
    inner = among(dialect, {"type": "namespace", "tools": [{"type": kind}]}, by)
    with pytest.raises(PriceUnknown):
        hold_of(inner, MODEL, PRICE, SETTINGS)
    hold_of(asked, MODEL, Price(1, PRICE.rates, 0), SETTINGS)  # by a key of one's own


@pytest.mark.parametrize(("dialect", "by"), BY[:3])
def test_it_is_held_as_often_as_it_may_run(dialect: str, by: str) -> None:
    has = Price(1, {**PRICE.rates, "web_searches": MILLION}, MILLION)
    assert units_max(among(dialect, {"type": "web_search"}, by), has) == {"web_searches": 10}


@pytest.mark.parametrize("by", ["additional_tools", "tool_search_output"])
def test_functions_among_the_turns_need_no_price(by: str) -> None:
    asked, wide = among("responses", FUNCTION, by), replace(MODEL, context_max=100_000)
    assert units_max(asked, PRICE) == {}
    assert input_max(asked, wide) == len(asked.body) + TOOLS_TOKENS


@pytest.mark.parametrize(
    ("dialect", "fields"),
    [
        ("messages", {"thread": {"type": "continue", "previous_message_id": "msg_1"}}),
        ("responses", {"input": [TURN, {"id": "msg_1"}]}),
        ("responses", {"input": [TURN, {"type": "message", "id": "msg_1"}]}),
        ("responses", {"input": [{"type": "image_generation_call", "id": "ig_1"}]}),
        ("responses", {"input": [{"type": "file_search_call", "id": "fs_1", "queries": []}]}),
        ("responses", {"input": [{"type": ["message"], "content": "x", "role": "user"}]}),
        ("responses", {"messages": [TURN], "input": [{"role": "user", "content": [PICTURE]}]}),
        ("responses", {"messages": [{"role": "user", "content": [PICTURE]}]}),
    ],
)
def test_what_is_not_all_there_may_fill_the_context(dialect: str, fields: dict[str, Any]) -> None:
    assert input_max(call(dialect, **fields), MODEL) == CONTEXT


@pytest.mark.parametrize(
    "item",
    [
        {"type": "message", "id": "msg_1", "role": "assistant", "content": []},
        {"id": "msg_1", "role": "user", "content": "x"},
        {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
        {"type": "reasoning", "id": "rs_1", "encrypted_content": "x", "summary": []},
    ],
)
def test_what_is_all_there_counts_by_its_bytes(item: dict[str, Any]) -> None:
    asked = call("responses", input=[TURN, item])
    assert input_max(asked, MODEL) == len(asked.body)


@pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
def test_a_part_whose_type_is_no_text_is_no_text(dialect: str) -> None:
    turn = {"role": "user", "content": [{"type": ["text"], "text": "x"}, {"type": {}}]}
    assert input_max(call(dialect, messages=[turn], input=[turn]), MODEL) == CONTEXT


# What it costs there ------------------------------------------------------------------------

DEARER: list[tuple[str, str, Any]] = [
    *(("chat", "service_tier", one) for one in ("priority", "fast", "ultrafast", "scale", 1)),
    ("responses", "service_tier", "priority"),
    ("embeddings", "service_tier", "priority"),
    ("messages", "speed", "fast"),
    ("messages", "inference_geo", "us"),
    ("messages", "fallbacks", [{"model": "dear"}]),
    ("messages", "context_management", {"edits": [{"type": "compact_20260112"}]}),
    ("responses", "context_management", [{"type": "compaction"}]),
    ("chat", "models", ["dear"]),
    ("chat", "route", "fallback"),
    ("chat", "plugins", [{"id": "web"}]),
    ("chat", "provider", {"order": ["dear"]}),
    ("chat", "preset", "dear"),
    ("chat", "models", ["m", "dear"]),
    ("chat", "plugins", [{"id": "response-healing"}, {"id": "web"}]),
    ("messages", "compaction", {"type": "summarize"}),
    ("responses", "input", [TURN, {"type": "compaction_trigger"}]),
    ("images", "steps", 50),
    ("completions", "models", ["dear"]),
    ("chat", "search_parameters", {}),
    ("chat", "search_parameters", {"mode": "auto"}),
]


@pytest.mark.parametrize(("dialect", "name", "value"), DEARER)
def test_a_service_at_another_price_is_refused_where_the_platform_pays(
    dialect: str, name: str, value: Any
) -> None:
    asked = call(dialect, **{"input": "x", "prompt": "x", name: value})
    match = "compaction_trigger" if name == "input" else f"`{name}`"
    with pytest.raises(PriceUnknown, match=match) as refused:
        hold_of(asked, MODEL, PRICE, SETTINGS)
    assert refused.value.param == name
    hold_of(asked, MODEL, Price(1, PRICE.rates, 0), SETTINGS)  # by a key of one's own
    with pytest.raises(FieldInvalid):
        check_spelling({name.title(): value})


@pytest.mark.parametrize(("memory", "passes"), [(None, True), ("1g", True), ("64g", False)])
def test_a_container_of_more_memory_has_no_price(memory: str | None, passes: bool) -> None:
    has = Price(1, {**PRICE.rates, "code_runs": MILLION}, MILLION)
    container = {"type": "auto", "memory_limit": memory}
    asked = call("responses", tools=[{"type": "code_interpreter", "container": container}])
    if passes:
        assert units_max(asked, has) == {"code_runs": 10}
    else:
        with pytest.raises(PriceUnknown, match="memory_limit"):
            units_max(asked, has)


@pytest.mark.parametrize(
    ("dialect", "name", "value"),
    [
        *(("chat", "service_tier", one) for one in ("auto", "default", "flex", "on_demand", None)),
        ("messages", "service_tier", "standard_only"),
        ("messages", "speed", "standard"),
        ("speech", "speed", 1.5),
        ("messages", "inference_geo", "global"),
        ("chat", "search_parameters", {"mode": "off"}),
        ("messages", "context_management", {"edits": [{"type": "clear_thinking_20251015"}]}),
        ("messages", "context_management", {"edits": []}),
        *(("chat", name, value) for name, value in (("models", []), ("provider", {}))),
        ("chat", "models", ["m"]),
        ("chat", "plugins", [{"id": "response-healing"}, {"id": "web", "enabled": False}]),
        ("chat", "steps", 50),
    ],
)
def test_what_costs_no_more_than_usual_goes_through(dialect: str, name: str, value: Any) -> None:
    units_max(call(dialect, **{name: value}), PRICE)


def test_the_refusal_is_explained_under_its_code() -> None:
    page = errors.explained("price_unknown")
    assert page is not None
    assert "Leave it out" in page


# What takes no maximum ----------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["images", "speech"])
def test_a_call_without_a_maximum_is_never_made_smaller(dialect: str) -> None:
    """No provider would keep to one: it costs what it costs."""
    asked = call(dialect)
    assert lowered(asked, MODEL, PRICE, 500, SETTINGS) is None
    with pytest.raises(MaxCostExceeded) as refused:
        allowed(replace(asked, max_cost_ucr=500), MODEL, PRICE, 100)
    whole = hold_of(asked, MODEL, PRICE, SETTINGS).amount_ucr
    assert f"0.{whole:06d}" in str(refused.value)
    enough = replace(asked, max_cost_ucr=whole)
    assert allowed(enough, MODEL, PRICE, 100) is enough


@pytest.mark.parametrize(
    ("dialect", "fields"), [("images", {"stream": True}), ("speech", {"stream_format": "sse"})]
)
def test_streams_that_are_no_text_are_held_whole(dialect: str, fields: dict[str, Any]) -> None:
    """Nobody can count their tokens as they come."""
    asked = call(dialect, **fields)
    assert asked.stream
    hold = hold_of(asked, MODEL, PRICE, SETTINGS)
    assert hold.output_tokens == MODEL.output_max
    assert hold.amount_ucr == len(asked.body) * 2 + MODEL.output_max * 10


async def test_a_service_without_a_price_is_refused_before_anything_is_held(
    home: Path, redis_url: str, database_url: str
) -> None:
    async with door(home, redis_url, database_url) as stage:
        answer = await stage.chat({**HELLO, "service_tier": "priority"})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "price_unknown")
        assert error["param"] == "service_tier"
        assert (await stage.chat({**HELLO, "service_tier": "auto"})).status_code == 200
        await stage.quiesce()
        assert (await stage.pool_in_redis())["h"] == 0
        assert len(await stage.usage()) == 1
