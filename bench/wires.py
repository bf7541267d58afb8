"""The dialects of the fake provider, and which path belongs to which."""

import re
from collections.abc import Mapping

from bench.anthropic_wire import AnthropicWire
from bench.ask import Wire
from bench.cohere_wire import CohereWire
from bench.gemini_wire import PATH, GeminiWire
from bench.ollama_wire import OllamaWire
from bench.openai_wire import OpenAIWire
from bench.plain_wires import EmbeddingsWire, ImagesWire, ModerationsWire, RerankWire
from bench.responses_wire import ResponsesWire

WIRES: Mapping[str, Wire] = {
    "openai": OpenAIWire(),
    "anthropic": AnthropicWire(),
    "gemini": GeminiWire(),
    "cohere": CohereWire(),
    "ollama": OllamaWire(),
    "responses": ResponsesWire(),
    "embeddings": EmbeddingsWire(),
    "moderations": ModerationsWire(),
    "rerank": RerankWire(),
    "images": ImagesWire(),
}
_PATHS = {
    "/v1/chat/completions": "openai",
    "/v1/messages": "anthropic",
    "/v2/chat": "cohere",
    "/api/chat": "ollama",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
    "/v1/moderations": "moderations",
    "/v1/rerank": "rerank",
    "/v2/rerank": "rerank",
    "/v1/images/generations": "images",
}
_gemini = re.compile(PATH).fullmatch


def wire_of(path: str) -> str:
    """Empty where there is nothing to ask for."""
    return _PATHS.get(path) or ("gemini" if _gemini(path) else "")
