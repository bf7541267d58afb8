"""The smallest plugin that uses every hook: it says hello. A pattern to begin from, no feature."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, StringConstraints

from plugins import hookimpl
from plugins.context import Context


class Hello(BaseModel):
    model_config = ConfigDict(extra="forbid")

    greeting: Annotated[str, StringConstraints(min_length=1, max_length=200)] = "Hello."


class Greeting(BaseModel):
    greeting: str
    said: int  # how often, since this life of the plugin began


@hookimpl
def configuration() -> type[Hello]:
    return Hello


@hookimpl
def start(context: Context[Hello]) -> None:
    context.state.said = 0
    context.log.info("ready to say %r", context.config.greeting)


@hookimpl
def routes(context: Context[Hello]) -> APIRouter:
    router = APIRouter(tags=["hello"], dependencies=[context.needs("viewer")])

    @router.get("/api/v1/hello")
    async def hello() -> Greeting:
        """Says what it was configured to say."""
        context.state.said += 1
        return Greeting(greeting=context.config.greeting, said=context.state.said)

    return router


@hookimpl
def health(context: Context[Hello]) -> str:
    return "" if hasattr(context.state, "said") else "Hello was never started; enable it again."


@hookimpl
def stop(context: Context[Hello]) -> None:
    context.log.info("said hello %d times", getattr(context.state, "said", 0))
