"""Name of an adapter -> adapter. A new provider is a line here."""

from collections.abc import Mapping

from proxy.providers.anthropic import Anthropic
from proxy.providers.base import Adapter
from proxy.providers.cohere import Cohere
from proxy.providers.gemini import Gemini
from proxy.providers.ollama import Ollama
from proxy.providers.openai import COMPATIBLE, OpenAI

ADAPTERS: Mapping[str, Adapter] = {
    "anthropic": Anthropic(),
    "cohere": Cohere(),
    "gemini": Gemini(),
    "ollama": Ollama(),
    "echo": OpenAI(frozenset({"chat"})),  # the built-in provider, of echo.py, speaks so too
    "openai": OpenAI(),  # OpenAI itself, and what has all that it has
    "compatible": OpenAI(COMPATIBLE),  # any other base URL that speaks like it
}
