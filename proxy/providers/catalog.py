"""Name of an adapter -> adapter. A new provider is a line here."""

from collections.abc import Mapping

from proxy.providers.base import Adapter
from proxy.providers.openai import OpenAI

_openai = OpenAI()

ADAPTERS: Mapping[str, Adapter] = {
    "echo": _openai,  # the built-in provider speaks OpenAI's dialect; see echo.py
    "openai": _openai,  # any base URL that speaks it
}
