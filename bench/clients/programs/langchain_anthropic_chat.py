"""LangChain's `ChatAnthropic`."""

import anthropic
from cases import HELLO, IMAGE, KEY, MODEL, NO_MODEL, PARALLEL, URL, raises, run
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel


class Weather(BaseModel):
    """The weather."""

    city: str
    degrees: int


@tool
def weather(city: str, degrees: int) -> str:
    """The weather of a city."""
    return "rain"


def model(name=MODEL):
    return ChatAnthropic(model=name, base_url=URL, api_key=KEY, max_retries=0, max_tokens=500)


def chat():
    answer = model().invoke(HELLO)
    assert answer.text == HELLO
    assert answer.usage_metadata["total_tokens"] > 0


def stream():
    assert "".join(chunk.text for chunk in model().stream(HELLO)) == HELLO


def tools():
    bound = model().bind_tools([weather])
    question = HumanMessage("the weather")
    answer = bound.invoke([question])
    (call,) = answer.tool_calls
    result = ToolMessage("rain", tool_call_id=call["id"])
    assert bound.invoke([question, answer, result]).text == "rain"


def parallel():
    whole = None
    for chunk in model(PARALLEL).bind_tools([weather]).stream("the weather"):
        whole = chunk if whole is None else whole + chunk
    assert [call["args"]["city"] for call in whole.tool_calls] == ["Zürich", "Oslo"]


def structured():
    shaped = model().with_structured_output(Weather)
    assert isinstance(shaped.invoke("Weather"), Weather)


def vision():
    image = {"type": "image_url", "image_url": {"url": IMAGE}}
    answer = model().invoke([HumanMessage([{"type": "text", "text": HELLO}, image])])
    assert answer.text == HELLO


def errors():
    raises(anthropic.NotFoundError, lambda: model(NO_MODEL).invoke("a"))


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
