"""`openai`, chat completions."""

import openai
from cases import (
    AS_JSON,
    EMBEDDER,
    HELLO,
    IMAGE,
    KEY,
    MODEL,
    NO_MODEL,
    PARALLEL,
    SCHEMA,
    URL,
    WEATHER,
    raises,
    run,
)
from pydantic import BaseModel

client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}


class Weather(BaseModel):
    city: str
    degrees: int


def ask(content, **more):
    messages = [{"role": "user", "content": content}]
    return client.chat.completions.create(model=MODEL, messages=messages, **more)


def chat():
    answer = ask(HELLO)
    assert answer.choices[0].message.content == HELLO
    assert answer.usage.total_tokens > 0


def stream():
    options = {"include_usage": True}
    chunks = list(ask(HELLO, stream=True, stream_options=options))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == HELLO
    assert chunks[-1].usage.total_tokens > 0


def tools():
    answer = ask("the weather, please", tools=[TOOL])
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "weather"
    messages = [
        {"role": "user", "content": "the weather, please"},
        answer.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": "rain"},
    ]
    last = client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL])
    assert last.choices[0].message.content == "rain"


def parallel():
    messages = [{"role": "user", "content": "the weather"}]
    with client.chat.completions.stream(model=PARALLEL, messages=messages, tools=[TOOL]) as events:
        message = events.get_final_completion().choices[0].message
    assert len(message.tool_calls) == 2


def structured():
    messages = [{"role": "user", "content": AS_JSON}]
    answer = client.chat.completions.parse(model=MODEL, messages=messages, response_format=Weather)
    assert answer.choices[0].message.parsed == Weather(**WEATHER)


def vision():
    image = {"type": "image_url", "image_url": {"url": IMAGE}}
    answer = ask([{"type": "text", "text": HELLO}, image])
    assert answer.choices[0].message.content == HELLO


def embeddings():
    found = client.embeddings.create(model=EMBEDDER, input=["a", "b"])
    assert len(found.data) == 2
    assert isinstance(found.data[0].embedding[0], float)


def errors():
    def missing():
        client.chat.completions.create(model=NO_MODEL, messages=[{"role": "user", "content": "a"}])

    assert raises(openai.NotFoundError, missing).code == "model_not_found"
    stranger = openai.OpenAI(base_url=f"{URL}/v1", api_key="sk_ops_wrong", max_retries=0)
    raises(openai.AuthenticationError, stranger.models.list)


run(
    {
        "chat": chat,
        "stream": stream,
        "tools": tools,
        "parallel tools": parallel,
        "structured": structured,
        "vision": vision,
        "embeddings": embeddings,
        "errors": errors,
    }
)
