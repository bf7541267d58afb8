"""`anthropic`, messages."""

import anthropic
from cases import (
    AS_JSON,
    HELLO,
    KEY,
    MODEL,
    NO_MODEL,
    PARALLEL,
    PIXEL,
    SCHEMA,
    URL,
    WEATHER,
    raises,
    run,
)
from pydantic import BaseModel

client = anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0)
TOOL = {"name": "weather", "description": "of a city", "input_schema": SCHEMA}


class Weather(BaseModel):
    city: str
    degrees: int


def ask(content, model=MODEL, **more):
    messages = [{"role": "user", "content": content}]
    return client.messages.create(model=model, max_tokens=500, messages=messages, **more)


def chat():
    answer = ask(HELLO, system="Repeat it.")
    assert answer.content[0].text == HELLO
    assert answer.usage.output_tokens > 0


def stream():
    messages = [{"role": "user", "content": HELLO}]
    with client.messages.stream(model=MODEL, max_tokens=500, messages=messages) as events:
        assert "".join(events.text_stream) == HELLO
        assert events.get_final_message().usage.input_tokens > 0


def tools():
    answer = ask("the weather, please", tools=[TOOL])
    (call,) = (block for block in answer.content if block.type == "tool_use")
    assert answer.stop_reason == "tool_use"
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "rain"}
    messages = [
        {"role": "user", "content": "the weather, please"},
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": [result]},
    ]
    last = client.messages.create(model=MODEL, max_tokens=500, messages=messages, tools=[TOOL])
    assert last.content[0].text == "rain"


def parallel():
    messages = [{"role": "user", "content": "the weather"}]
    with client.messages.stream(
        model=PARALLEL, max_tokens=500, messages=messages, tools=[TOOL]
    ) as events:
        calls = events.get_final_message().content
    assert [call.input["city"] for call in calls] == ["Zürich", "Oslo"]


def structured():
    messages = [{"role": "user", "content": AS_JSON}]
    answer = client.messages.parse(
        model=MODEL, max_tokens=500, messages=messages, output_format=Weather
    )
    assert answer.parsed_output == Weather(**WEATHER)


def vision():
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    answer = ask([{"type": "image", "source": source}, {"type": "text", "text": HELLO}])
    assert answer.content[0].text == HELLO


def counted():
    messages = [{"role": "user", "content": HELLO}]
    assert client.messages.count_tokens(model=MODEL, messages=messages).input_tokens > 0


def errors():
    assert raises(anthropic.NotFoundError, lambda: ask("a", NO_MODEL)).type == "not_found_error"
    stranger = anthropic.Anthropic(base_url=URL, api_key="sk_ops_wrong", max_retries=0)
    messages = [{"role": "user", "content": "a"}]
    raises(
        anthropic.AuthenticationError,
        lambda: stranger.messages.create(model=MODEL, max_tokens=9, messages=messages),
    )


run(
    {
        "chat": chat,
        "stream": stream,
        "tools": tools,
        "parallel tools": parallel,
        "structured": structured,
        "vision": vision,
        "count tokens": counted,
        "errors": errors,
    }
)
