"""pydantic-ai; its argument is the dialect: chat, responses or messages."""

import asyncio
import sys

from cases import AS_JSON, HELLO, KEY, MODEL, NO_MODEL, PIXEL, URL, WEATHER, raises, run
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, NativeOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

DIALECT = sys.argv[1]


class Weather(BaseModel):
    city: str
    degrees: int


def model(name=MODEL):
    if DIALECT == "messages":
        return AnthropicModel(name, provider=AnthropicProvider(base_url=URL, api_key=KEY))
    kind = OpenAIChatModel if DIALECT == "chat" else OpenAIResponsesModel
    return kind(name, provider=OpenAIProvider(base_url=f"{URL}/v1", api_key=KEY))


def chat():
    answer = Agent(model()).run_sync(HELLO)
    assert answer.output == HELLO
    assert answer.usage.total_tokens > 0


def stream():
    async def read():
        async with Agent(model()).run_stream(HELLO) as answer:
            return [piece async for piece in answer.stream_text(delta=True)]

    assert "".join(asyncio.run(read())) == HELLO


def tools():
    agent = Agent(model())

    @agent.tool_plain
    def weather(city: str, degrees: int) -> str:
        """The weather of a city."""
        return "rain"

    assert agent.run_sync("the weather").output == "rain"


def structured():
    agent = Agent(model(), output_type=NativeOutput(Weather))
    assert agent.run_sync(AS_JSON).output == Weather(**WEATHER)


def vision():
    import base64

    image = BinaryContent(base64.b64decode(PIXEL), media_type="image/png")
    assert HELLO in Agent(model()).run_sync([HELLO, image]).output


def errors():
    problem = raises(ModelHTTPError, lambda: Agent(model(NO_MODEL)).run_sync("a"))
    assert problem.status_code == 404


run(
    {
        "chat": chat,
        "stream": stream,
        "tools": tools,
        "structured": structured,
        "vision": vision,
        "errors": errors,
    }
)
