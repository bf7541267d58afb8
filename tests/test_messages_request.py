"""Requests in Anthropic's Messages dialect, as conversations."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.dialects.conversation import (
    Conversation,
    Media,
    Message,
    Reasoning,
    Sampling,
    Shape,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from proxy.dialects.messages import Messages
from proxy.errors import CallerError, FieldInvalid, FieldMissing
from proxy.providers.anthropic_speech import AnthropicSpeech

CACHED = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
HI = {"role": "user", "content": "hi"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
USED = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}}
OPTIONAL = ("system", "tools", "stop_sequences", "thinking", "output_config", "stream")


def read(*messages: Any, **fields: Any) -> Conversation:
    return Messages().read(
        {"model": "m", "max_tokens": 100, "messages": [*messages] or [HI], **fields}
    )


def block(*blocks: Any, role: str = "user") -> tuple[Any, ...]:
    """The parts that blocks become."""
    return read({"role": role, "content": [*blocks]}).messages[0].parts


def test_a_whole_request() -> None:
    found = read(
        HI,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "zz"},
                {"type": "text", "text": "Let me look."},
                {**USED, **CACHED},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "rain", "is_error": True},
                {"type": "text", "text": "And now?", **CACHED},
            ],
        },
        stream=True,
        system=[{"type": "text", "text": "Be brief.", **CACHED}],
        tools=[{"name": "weather", "description": "of a city", "input_schema": SCHEMA}],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        stop_sequences=["END"],
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        thinking={"type": "enabled", "budget_tokens": 2000},
        metadata={"user_id": "u"},
        output_config={"format": {"type": "json_schema", "schema": SCHEMA}},
        service_tier="auto",
    )
    assert found == Conversation(
        system=(Text("Be brief.", CACHED),),
        messages=(
            Message("user", (Text("hi"),)),
            Message(
                "assistant",
                (
                    Thinking("hm", "s"),
                    Thinking("", redacted="zz"),
                    Text("Let me look."),
                    ToolCall("t1", "weather", '{"city":"Oslo"}', extra=CACHED),
                ),
            ),
            Message(
                "user",
                (
                    ToolResult("t1", "weather", (Text("rain"),), is_error=True),
                    Text("And now?", CACHED),
                ),
            ),
        ),
        tools=(Tool("weather", "of a city", SCHEMA),),
        tool_choice=ToolChoice("any", parallel=False),
        output_max=100,
        stop=("END",),
        sampling=Sampling(0.5, 0.9, 5),
        shape=Shape(SCHEMA, strict=True),
        reasoning=Reasoning(tokens=2000),
        user="u",
    )


@pytest.mark.parametrize(
    ("source", "media"),
    [
        (
            {"type": "base64", "media_type": "image/png", "data": "aGk="},
            Media("image", "image/png", "aGk="),
        ),
        ({"type": "url", "url": "https://a/b.png"}, Media("image", url="https://a/b.png")),
        ({"type": "file", "file_id": "f1"}, Media("image", file_id="f1")),
    ],
)
def test_images(source: Any, media: Media) -> None:
    assert block({"type": "image", "source": source}) == (media,)
    result = {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [{"type": "image", "source": source}],
    }
    assert block(result) == (ToolResult("t", "", (media,)),)


def test_documents_of_text_are_texts_under_their_title() -> None:
    plain = {"type": "text", "media_type": "text/plain", "data": "Once upon"}
    assert block({"type": "document", "source": plain, "title": "Tale", "context": "old"}) == (
        Text("Tale\nold\n\nOnce upon"),
    )
    blocks = {"type": "content", "content": [{"type": "text", "text": "a"}]}
    assert block({"type": "document", "source": blocks, "title": "T"}) == (Text("T"), Text("a"))


def test_documents_of_bytes_are_files() -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": "aGk="}
    document = {"type": "document", "source": source, "title": "T", "context": "c", **CACHED}
    file = Media("file", "application/pdf", "aGk=", name="T", extra=CACHED)
    assert block(document) == (Text("c"), file)


def test_what_was_found_is_text_with_its_source() -> None:
    result = {
        "type": "search_result",
        "title": "T",
        "source": "https://a",
        "content": [{"type": "text", "text": "found"}],
    }
    assert block(result) == (Text("T\nhttps://a\n\nfound"),)


@pytest.mark.parametrize(
    ("fields", "reasoning"),
    [
        ({}, None),
        ({"thinking": {"type": "adaptive"}}, Reasoning()),
        (
            {
                "thinking": {"type": "adaptive", "display": "omitted"},
                "output_config": {"effort": "max"},
            },
            Reasoning("max", shown=False),
        ),
        ({"thinking": {"type": "disabled"}}, Reasoning(off=True, shown=False)),
        ({"output_config": {"effort": "low"}}, Reasoning("low", shown=False)),
    ],
)
def test_thinking(fields: Any, reasoning: Reasoning | None) -> None:
    assert read(**fields).reasoning == reasoning


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        ({"type": "auto"}, ToolChoice()),
        ({"type": "none"}, ToolChoice("none")),
        ({"type": "tool", "name": "f"}, ToolChoice("tool", "f")),
        ({"type": "auto", "disable_parallel_tool_use": False}, ToolChoice(parallel=True)),
    ],
)
def test_tool_choice(choice: Any, wanted: ToolChoice) -> None:
    assert read(tool_choice=choice).tool_choice == wanted


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
         "tools.0 of type web_search_20250305"),
        ({"container": "c"}, "container"),
        ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
         "context_management"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        ({"speed": "fast"}, "speed"),
        ({"metadata": {"team": "x"}}, "metadata.team"),
        ({"output_config": {"task_budget": 1}}, "output_config.task_budget"),
        ({"thinking": {"type": "between_tools"}}, "thinking of type between_tools"),
        ({"tools": [{"name": "f", "input_schema": {}, "defer_loading": True}]},
         "tools.0 defer_loading"),
        ({"tools": [{"name": "f", "input_schema": {}, "input_examples": [{}]}]},
         "tools.0.input_examples"),
    ],
)  # fmt: skip
def test_what_there_is_no_word_for_is_kept_by_its_name(fields: Any, name: str) -> None:
    """Whoever writes the conversation for a provider carries it or refuses: nothing is dropped."""
    assert list(read(**fields).others) == [name]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
         "messages.0.content.0 of type server_tool_use"),
        ({"type": "document", "source": {"type": "text", "data": "a"},
          "citations": {"enabled": True}},
         "messages.0.content.0 citations"),
        ({**USED, "caller": {"type": "code_execution_20250825", "tool_id": "x"}},
         "messages.0.content.0 caller"),
        ({**USED, "toolset_name": "browser"}, "messages.0.content.0.toolset_name"),
        ({"type": "image", "source": {"type": "new"}},
         "messages.0.content.0.source of type new"),
    ],
)  # fmt: skip
def test_so_are_blocks(content: Any, name: str) -> None:
    assert list(read({"role": "user", "content": [content]}).others) == [name]


def test_hints_are_no_demands() -> None:
    found = read(**CACHED, service_tier="standard_only", speed="standard")
    assert (found.hints, found.others) == (CACHED, {})


def test_thoughts_that_are_to_stay_ask_for_nothing() -> None:
    """As Claude Code asks, with each request."""
    kept = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
    assert read(context_management=kept).others == {}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages.0"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages.0.role"),
        ({"messages": [{"content": "a"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"text": "a"}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]},
         "messages.0.content.0.text"),
        ({"messages": [{"role": "assistant", "content": [{**USED, "input": "{}"}]}]},
         "messages.0.content.0.input"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]},
         "messages.0.content.0.source"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": None}, "max_tokens"),
        ({"temperature": "warm"}, "temperature"),
        ({"top_k": 1.5}, "top_k"),
        ({"stop_sequences": ["a", 1]}, "stop_sequences.1"),
        ({"system": [{"type": "image"}]}, "system.0.type"),
        ({"tools": [{"name": "f"}]}, "tools.0.input_schema"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"metadata": {"user_id": 7}}, "metadata.user_id"),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_refused_by_its_place(fields: Any, param: str) -> None:
    with pytest.raises((FieldInvalid, FieldMissing)) as caught:
        Messages().read({"model": "m", "max_tokens": 9, "messages": [HI], **fields})
    assert caught.value.param == param


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(("text", "tool_use", "image", "a")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ("type", "text", "role", "content", "source", "input", "id", "name", "data")
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=150)
@given(
    st.dictionaries(
        st.sampled_from(
            ("messages", "system", "tools", "tool_choice", "thinking", "output_config", "metadata")
        ),
        _json,
    )
)
def test_nothing_that_is_sent_breaks_it(fields: dict[str, Any]) -> None:
    with suppress(CallerError):
        Messages().read({"max_tokens": 9, "messages": [HI], **fields})


# There and back ---------------------------------------------------------------------------

SAME: dict[str, Any] = {
    "model": "m",
    "max_tokens": 4000,
    "messages": [
        HI,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "zz"},
                {"type": "text", "text": "Let me look.", **CACHED},
                USED,
                {**USED, "id": "t2", "input": {}, **CACHED},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "rain"},
                {
                    "type": "tool_result",
                    "tool_use_id": "t2",
                    "content": [
                        {"type": "text", "text": "sun"},
                        {"type": "image", "source": {"type": "url", "url": "https://a"}},
                    ],
                    "is_error": True,
                    **CACHED,
                },
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": "aGk="},
                },
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="},
                    "title": "T",
                },
                {"type": "text", "text": "And now?"},
            ],
        },
    ],
    "system": [{"type": "text", "text": "Be brief.", **CACHED}],
    "tools": [
        {"name": "weather", "description": "of a city", "input_schema": SCHEMA, "strict": True},
        {"name": "time", "input_schema": {"type": "object"}, **CACHED},
    ],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    "stop_sequences": ["END"],
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 5,
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "metadata": {"user_id": "u"},
    "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
    "stream": True,
}


@pytest.mark.parametrize("left_out", [None, *(name for name in SAME if name in OPTIONAL)])
def test_a_request_that_is_said_to_anthropic_again_is_the_same(left_out: str | None) -> None:
    """Nothing of it is lost on the way through a conversation."""
    fields = {name: value for name, value in SAME.items() if name != left_out}
    said = AnthropicSpeech().write(
        Messages().read(fields), model="m", output_max=9, stream=left_out != "stream"
    )
    assert said == fields
