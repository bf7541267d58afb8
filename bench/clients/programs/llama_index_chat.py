"""LlamaIndex's `OpenAILike` and `OpenAIEmbedding`."""

import openai
from cases import (
    AS_JSON,
    EMBEDDER,
    HELLO,
    KEY,
    MODEL,
    NO_MODEL,
    PARALLEL,
    URL,
    WEATHER,
    raises,
    run,
)
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel


class Weather(BaseModel):
    city: str
    degrees: int


def weather(city: str, degrees: int) -> str:
    """The weather of a city."""
    return "rain"


TOOL = FunctionTool.from_defaults(fn=weather)


def model(name=MODEL):
    return OpenAILike(
        model=name,
        api_base=f"{URL}/v1",
        api_key=KEY,
        max_retries=0,
        is_chat_model=True,
        is_function_calling_model=True,
        should_use_structured_outputs=True,
    )


def chat():
    assert model().chat([ChatMessage(HELLO)]).message.content == HELLO


def stream():
    pieces = [answer.delta for answer in model().stream_chat([ChatMessage(HELLO)])]
    assert "".join(pieces) == HELLO


def tools():
    answer = model().chat_with_tools([TOOL], user_msg="the weather")
    (call,) = model().get_tool_calls_from_response(answer)
    assert call.tool_name == "weather"


def parallel():
    answer = model(PARALLEL).chat_with_tools(
        [TOOL], user_msg="the weather", allow_parallel_tool_calls=True
    )
    assert len(model().get_tool_calls_from_response(answer)) == 2


def structured():
    shaped = model().as_structured_llm(Weather)
    assert shaped.chat([ChatMessage(AS_JSON)]).raw == Weather(**WEATHER)


def embeddings():
    embedder = OpenAIEmbedding(model_name=EMBEDDER, api_base=f"{URL}/v1", api_key=KEY)
    assert len(embedder.get_text_embedding_batch(["a", "b"])) == 2


def errors():
    raises(openai.NotFoundError, lambda: model(NO_MODEL).chat([ChatMessage("a")]))


run(
    {
        "chat": chat,
        "stream": stream,
        "tools": tools,
        "parallel tools": parallel,
        "structured": structured,
        "embeddings": embeddings,
        "errors": errors,
    }
)
