"""instructor over `openai` and, with the argument `messages`, over `anthropic`."""

import sys

import anthropic
import instructor
import openai
from cases import KEY, MODEL, NO_MODEL, URL, raises, run
from instructor.core.exceptions import InstructorRetryException
from pydantic import BaseModel

MESSAGES = sys.argv[1:] == ["messages"]


class Weather(BaseModel):
    """The weather."""

    city: str
    degrees: int


def client():
    if MESSAGES:
        return instructor.from_anthropic(
            anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0)
        )
    return instructor.from_openai(openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0))


def ask(name=MODEL, shape=Weather, **more):
    return client().chat.completions.create(
        model=name,
        max_tokens=500,
        max_retries=1,
        response_model=shape,
        messages=[{"role": "user", "content": "Weather, please"}],
        **more,
    )


def structured():
    assert isinstance(ask(), Weather)


def stream():
    pieces = list(ask(shape=instructor.Partial[Weather], stream=True))
    assert pieces[-1].city


def errors():
    raises((openai.NotFoundError, anthropic.NotFoundError, InstructorRetryException),
           lambda: ask(NO_MODEL))  # fmt: skip


run({"structured": structured, "stream": stream, "errors": errors})
