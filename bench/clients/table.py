"""Which clients there are: what installs them, which program uses them, in which dialect."""

from dataclasses import dataclass
from typing import Literal

#: In the order of the page's columns.
CASES = (
    "chat",
    "stream",
    "tools",
    "parallel tools",
    "structured",
    "vision",
    "embeddings",
    "count tokens",
    "images",
    "speech",
    "transcription",
    "files",
    "errors",
)


@dataclass(frozen=True, slots=True)
class Client:
    name: str
    index: Literal["pip", "npm"]
    packages: tuple[str, ...]  # the first one's version is told
    dialect: str
    program: str
    arguments: tuple[str, ...] = ()
    room: str = "kits"  # the environment that it is in: kits want older SDKs than there are


_LANGCHAIN = "langchain-openai"
_PYDANTIC = ("pydantic-ai-slim[openai,anthropic]", "anthropic<2")  # as it takes its client
_LLAMA = ("llama-index-llms-openai-like", "llama-index-embeddings-openai")
_AI = ("ai", "@ai-sdk/openai-compatible", "@ai-sdk/openai", "@ai-sdk/anthropic")


def _sdk(name: str, dialect: str, program: str) -> Client:
    return Client(name, "pip", (name, "pydantic"), dialect, f"{program}.py", room="sdks")


def _pip(name: str, dialect: str, program: str, *packages: str, say: str = "") -> Client:
    return Client(name, "pip", packages, dialect, f"{program}.py", (say,) if say else ())


def _agent(dialect: str) -> Client:
    program = "pydantic_ai_agent.py"
    return Client("pydantic-ai", "pip", _PYDANTIC, dialect, program, (dialect,), room="agents")


def _npm(name: str, dialect: str, program: str, *packages: str, say: str = "") -> Client:
    said = (say,) if say else ()
    return Client(name, "npm", packages, dialect, f"{program}.mjs", said, room="node")


CLIENTS = (
    _sdk("openai", "chat", "openai_chat"),
    _sdk("openai", "responses", "openai_responses"),
    _sdk("anthropic", "messages", "anthropic_messages"),
    _pip("LangChain ChatOpenAI", "chat", "langchain_openai_chat", _LANGCHAIN),
    _pip("LangChain ChatOpenAI", "responses", "langchain_openai_chat", _LANGCHAIN, say="responses"),
    _pip("LangChain ChatAnthropic", "messages", "langchain_anthropic_chat", "langchain-anthropic"),
    _pip("LlamaIndex OpenAILike", "chat", "llama_index_chat", *_LLAMA),
    _agent("chat"),
    _agent("responses"),
    _agent("messages"),
    _pip("instructor", "chat", "instructor_shapes", "instructor", "openai", "anthropic"),
    _pip("instructor", "messages", "instructor_shapes", "instructor", "anthropic", say="messages"),
    _pip("llm", "chat", "llm_command", "llm"),
    _npm("openai", "chat", "openai_chat", "openai", "zod"),
    _npm("openai", "responses", "openai_responses", "openai", "zod"),
    _npm("@anthropic-ai/sdk", "messages", "anthropic_messages", "@anthropic-ai/sdk"),
    _npm("AI SDK", "chat", "ai_sdk", *_AI, say="chat"),
    _npm("AI SDK", "responses", "ai_sdk", *_AI, say="responses"),
    _npm("AI SDK", "messages", "ai_sdk", *_AI, say="messages"),
)
