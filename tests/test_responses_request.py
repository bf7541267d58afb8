"""Requests in OpenAI's Responses dialect, as conversations."""

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
    Refusal,
    Sampling,
    Shape,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from proxy.dialects.responses import Responses
from proxy.errors import CallerError, FieldInvalid, FieldMissing, NotKept

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTION = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}
CALL = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city":"O"}'}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "rain"}
USER = {"role": "user", "content": "hi"}


def read(*items: Any, **fields: Any) -> Conversation:
    return Responses().read({"model": "m", "input": [*items] or "hi", **fields})


def test_a_text_is_a_turn_of_the_user() -> None:
    assert read() == Conversation(system=(), messages=(Message("user", (Text("hi"),)),))


def test_a_whole_request() -> None:
    found = read(
        {"role": "developer", "content": "Speak Norwegian."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "theirs"},
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Let me look.", "annotations": []}],
        },
        {**CALL, "id": "fc_1", "status": "completed"},
        {**CALL, "call_id": "c2", "arguments": "{}"},
        RESULT,
        {**RESULT, "call_id": "c2", "output": [{"type": "input_text", "text": "sun"}]},
        USER,
        instructions="Be brief.",
        tools=[{**FUNCTION, "description": "of a city"}],
        tool_choice="required",
        parallel_tool_calls=False,
        max_output_tokens=100,
        temperature=0.5,
        top_p=0.9,
        text={"format": {"type": "json_schema", "name": "answer_1", "schema": SCHEMA}},
        reasoning={"effort": "low", "summary": "auto"},
        user="u",
        prompt_cache_key="k",
        metadata={"run": "7"},
        store=True,
        stream=True,
        truncation="disabled",
        include=["reasoning.encrypted_content"],
    )
    assert found == Conversation(
        system=(Text("Be brief."), Text("Speak Norwegian.")),
        messages=(
            Message("user", (Text("hi"),)),
            Message(
                "assistant",
                (
                    Thinking("", signature="theirs"),
                    Text("Let me look."),
                    ToolCall("c1", "weather", '{"city":"O"}'),
                    ToolCall("c2", "weather", "{}"),
                ),
            ),
            Message(
                "user",
                (
                    ToolResult("c1", "weather", (Text("rain"),)),
                    ToolResult("c2", "weather", (Text("sun"),)),
                ),
            ),
            Message("user", (Text("hi"),)),
        ),
        tools=(Tool("weather", "of a city", SCHEMA, strict=True),),
        tool_choice=ToolChoice("any", parallel=False),
        output_max=100,
        sampling=Sampling(0.5, 0.9),
        shape=Shape(SCHEMA, "answer_1"),
        reasoning=Reasoning("low"),
        user="u",
        hints={"prompt_cache_key": "k"},
    )


@pytest.mark.parametrize(
    ("part", "wanted"),
    [
        ({"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "low"},
         Media("image", "image/png", "aGk=", detail="low")),
        ({"type": "input_image", "image_url": "https://a/b"}, Media("image", url="https://a/b")),
        ({"type": "input_image", "file_id": "f"}, Media("image", file_id="f")),
        ({"type": "input_file", "file_data": "data:application/pdf;base64,aGk=", "filename": "n"},
         Media("file", "application/pdf", "aGk=", name="n")),
        ({"type": "input_file", "file_data": "aGk="}, Media("file", "application/pdf", "aGk=")),
        ({"type": "input_file", "file_url": "https://a"}, Media("file", url="https://a")),
        ({"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
         Media("audio", "audio/wav", "aGk=")),
        ({"type": "refusal", "refusal": "no"}, Refusal("no")),
    ],
)  # fmt: skip
def test_contents(part: Any, wanted: Any) -> None:
    assert read({"role": "user", "content": [part]}).messages[0].parts == (wanted,)


@pytest.mark.parametrize(
    ("fields", "choice", "tools"),
    [
        ({"tool_choice": "none"}, ToolChoice("none"), 2),
        ({"parallel_tool_calls": True}, None, 2),
        ({"parallel_tool_calls": False}, ToolChoice(parallel=False), 2),
        ({"tool_choice": {"type": "function", "name": "f"}}, ToolChoice("tool", "f"), 2),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "required",
                    "tools": [{"type": "function", "name": "f"}],
                }
            },
            ToolChoice("any"),
            1,
        ),
    ],
)
def test_tool_choice(fields: Any, choice: ToolChoice | None, tools: int) -> None:
    found = read(tools=[FUNCTION, {"type": "function", "name": "f"}], **fields)
    assert (found.tool_choice, len(found.tools)) == (choice, tools)


@pytest.mark.parametrize(
    ("fields", "reasoning"),
    [
        ({"reasoning": {}}, None),
        ({"reasoning": {"effort": "none"}}, Reasoning("none", off=True, shown=False)),
        ({"reasoning": {"effort": "high"}}, Reasoning("high", shown=False)),
        ({"reasoning": {"summary": "detailed"}}, Reasoning()),
    ],
)
def test_reasoning(fields: Any, reasoning: Reasoning | None) -> None:
    assert read(**fields).reasoning == reasoning


def test_shapes() -> None:
    assert read(text={"format": {"type": "text"}, "verbosity": "medium"}).shape is None
    assert read(text={"format": {"type": "json_object"}}).shape == Shape()
    described = {"type": "json_schema", "name": "n", "schema": SCHEMA, "description": "d"}
    shape = read(text={"format": described}).shape
    assert shape == Shape({"description": "d", **SCHEMA}, "n")


def test_a_turn_of_the_system_between_turns_stays_there() -> None:
    roles = [turn.role for turn in read(USER, {"role": "system", "content": "x"}, USER).messages]
    assert roles == ["user", "system", "user"]


@pytest.mark.parametrize(
    "fields",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"prompt": {"id": "p"}},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
    ],
)
def test_what_refers_to_an_earlier_answer_is_told_that_nothing_is_stored(fields: Any) -> None:
    with pytest.raises(NotKept, match="nothing is stored here"):
        Responses().read({"input": "hi", **fields})


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0] of type web_search"),
        ({"tools": [{"type": "custom", "name": "patch"}]}, "tools[0] of type custom"),
        ({"tool_choice": {"type": "mcp", "server_label": "x"}}, "tool_choice of type mcp"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"include": ["message.output_text.logprobs"]}, "message.output_text.logprobs"),
        ({"text": {"verbosity": "low"}}, "text verbosity"),
        ({"reasoning": {"mode": "pro"}}, "reasoning mode"),
        ({"input": [USER, {"type": "web_search_call", "id": "x"}]},
         "input[1] of type web_search_call"),
        ({"input": [{"role": "user", "content": [{"type": "input_video"}]}]},
         "input[0].content[0] of type input_video"),
        ({"something_new": 1}, "something_new"),
    ],
)  # fmt: skip
def test_what_there_is_no_word_for_is_kept_by_its_name(fields: Any, name: str) -> None:
    assert list(Responses().read({"input": "hi", **fields}).others) == [name]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": 1}, "input"),
        ({"input": [1]}, "input[0]"),
        ({"input": [{"role": "robot", "content": "a"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
         "input[0].content[0].text"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
         "input[0].content[0].image_url"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]},
         "input[0].call_id"),
        ({"input": [{**CALL, "arguments": {}}]}, "input[0].arguments"),
        ({"instructions": ["a"]}, "instructions"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"reasoning": {"effort": "much"}}, "reasoning.effort"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"include": [1]}, "include[0]"),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_refused_by_its_place(fields: Any, param: str) -> None:
    with pytest.raises((FieldInvalid, FieldMissing)) as caught:
        Responses().read({"input": "hi", **fields})
    assert caught.value.param == param


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(("message", "user", "a")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("type", "text", "role", "content", "name", "summary", "output")),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=150)
@given(
    st.dictionaries(
        st.sampled_from(("input", "tools", "tool_choice", "text", "reasoning", "include", "user")),
        _json,
    )
)
def test_nothing_that_is_sent_breaks_it(fields: dict[str, Any]) -> None:
    with suppress(CallerError):
        Responses().read({"input": "hi", **fields})
