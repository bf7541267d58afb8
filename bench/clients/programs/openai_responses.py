"""`openai`, responses."""

import openai
from cases import (
    AS_JSON,
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
TOOL = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}


class Weather(BaseModel):
    city: str
    degrees: int


def chat():
    answer = client.responses.create(model=MODEL, input=HELLO)
    assert answer.output_text == HELLO
    assert answer.usage.total_tokens > 0


def stream():
    with client.responses.stream(model=MODEL, input=HELLO) as events:
        pieces = [e.delta for e in events if e.type == "response.output_text.delta"]
        assert "".join(pieces) == HELLO == events.get_final_response().output_text


def tools():
    history = [{"role": "user", "content": "the weather, please"}]
    answer = client.responses.create(model=MODEL, input=history, tools=[TOOL])
    (call,) = answer.output
    history += answer.output
    history.append({"type": "function_call_output", "call_id": call.call_id, "output": "rain"})
    last = client.responses.create(model=MODEL, input=history, tools=[TOOL])
    assert last.output_text == "rain"


def parallel():
    with client.responses.stream(model=PARALLEL, input="the weather", tools=[TOOL]) as events:
        calls = events.get_final_response().output
    assert [call.type for call in calls] == ["function_call"] * 2


def structured():
    answer = client.responses.parse(model=MODEL, input=AS_JSON, text_format=Weather)
    assert answer.output_parsed == Weather(**WEATHER)


def vision():
    image = {"type": "input_image", "image_url": IMAGE, "detail": "auto"}
    content = [{"type": "input_text", "text": HELLO}, image]
    answer = client.responses.create(model=MODEL, input=[{"role": "user", "content": content}])
    assert answer.output_text == HELLO


def errors():
    def missing():
        client.responses.create(model=NO_MODEL, input="a")

    assert raises(openai.NotFoundError, missing).code == "model_not_found"

    def stored():
        client.responses.create(model=MODEL, input="a", previous_response_id="resp_1")

    assert raises(openai.BadRequestError, stored).code == "not_kept"


run(
    {
        "chat": chat,
        "stream": stream,
        "tools": tools,
        "parallel tools": parallel,
        "structured": structured,
        "vision": vision,
        "errors": errors,
    }
)
