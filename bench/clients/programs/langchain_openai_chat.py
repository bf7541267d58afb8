"""LangChain's `ChatOpenAI`, with the argument `responses` over responses; `OpenAIEmbeddings`."""

import sys

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
    URL,
    WEATHER,
    raises,
    run,
)
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

RESPONSES = sys.argv[1:] == ["responses"]


class Weather(BaseModel):
    city: str
    degrees: int


@tool
def weather(city: str, degrees: int) -> str:
    """The weather of a city."""
    return "rain"


def model(name=MODEL):
    return ChatOpenAI(
        model=name,
        base_url=f"{URL}/v1",
        api_key=KEY,
        max_retries=0,
        use_responses_api=RESPONSES,
    )


def chat():
    answer = model().invoke(HELLO)
    assert answer.text == HELLO
    assert answer.usage_metadata["total_tokens"] > 0


def stream():
    chunks = list(model().stream(HELLO))
    assert "".join(chunk.text for chunk in chunks) == HELLO


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
    shaped = model().with_structured_output(Weather, method="json_schema")
    assert shaped.invoke(AS_JSON) == Weather(**WEATHER)


def vision():
    image = {"type": "image_url", "image_url": {"url": IMAGE}}
    answer = model().invoke([HumanMessage([{"type": "text", "text": HELLO}, image])])
    assert answer.text == HELLO


def embeddings():
    embedder = OpenAIEmbeddings(
        model=EMBEDDER, base_url=f"{URL}/v1", api_key=KEY, check_embedding_ctx_length=False
    )
    assert len(embedder.embed_documents(["a", "b"])) == 2


def errors():
    raises(openai.NotFoundError, lambda: model(NO_MODEL).invoke("a"))


CASES = {
    "chat": chat,
    "stream": stream,
    "tools": tools,
    "parallel tools": parallel,
    "structured": structured,
    "vision": vision,
    "errors": errors,
}
run(CASES if RESPONSES else {**CASES, "embeddings": embeddings})
