"""The dialects of the fake provider, and which path belongs to which."""

import re
from collections.abc import Mapping

from bench.anthropic_wire import AnthropicWire
from bench.ask import Wire
from bench.cohere_wire import CohereWire
from bench.gemini_wire import PATH, GeminiWire
from bench.ollama_wire import OllamaWire
from bench.openai_wire import OpenAIWire

WIRES: Mapping[str, Wire] = {
    "openai": OpenAIWire(),
    "anthropic": AnthropicWire(),
    "gemini": GeminiWire(),
    "cohere": CohereWire(),
    "ollama": OllamaWire(),
}
_PATHS = {
    "/v1/chat/completions": "openai",
    "/v1/messages": "anthropic",
    "/v2/chat": "cohere",
    "/api/chat": "ollama",
}
_gemini = re.compile(PATH).fullmatch


def wire_of(path: str) -> str:
    """Empty where no conversation is had."""
    return _PATHS.get(path) or ("gemini" if _gemini(path) else "")
