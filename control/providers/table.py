"""The providers that are known: where they answer, how they are spoken to, what their keys look
like, and what tells for nothing whether one works. Pure data; a further one is a row.

Facts of November 2026, and defaults: addresses can be given, prefixes only warn.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Auth = Literal["bearer", "x-api-key", "x-goog-api-key", "api-key", "none"]

ANTHROPIC_VERSION = "2023-06-01"


@dataclass(frozen=True, slots=True)
class Test:
    """A call that costs nothing. `path` lies below the base URL; one that begins with a slash, at
    its host; a whole URL is asked only where the base URL is the default."""

    path: str = "models"
    method: Literal["GET", "POST"] = "GET"
    valid: str = ""  # a field of the answer that has to be true
    refused: str = ""  # a word of an answer with status 400 that means the key


@dataclass(frozen=True, slots=True)
class Kind:
    """One row."""

    name: str
    title: str
    base_url: str = ""  # empty: it has to be given
    adapter: str = "compatible"  # a name of proxy/providers/catalog.py
    auth: Auth = "bearer"
    variables: tuple[str, ...] = ()  # of the environment, where it usually lies: the first one set
    prefixes: tuple[str, ...] = ()  # of keys; none: they have nothing in common
    others: tuple[str, ...] = ()  # prefixes of keys of theirs that serve no calls
    test: Test = field(default_factory=Test)
    quirks: Mapping[str, object] = field(
        default_factory=dict
    )  # by which the proxies speak to it differently

    @property
    def needs_key(self) -> bool:
        return self.auth != "none"

    def adapter_at(self, url: str) -> str:
        """Many serve OpenAI's dialect too, at a path of its own."""
        return "compatible" if url.endswith(_OPENAI_BESIDE.get(self.name, ("-",))) else self.adapter

    @property
    def is_everywhere(self) -> bool:
        """One address for all its customers, and no host of one's own."""
        return bool(self.base_url) and self.base_url.startswith("https://")


_OPENAI_BESIDE: Mapping[str, tuple[str, ...]] = {
    "ollama": ("/v1",),
    "ollama-cloud": ("/v1",),
    "google": ("/openai",),
    "cohere": ("/compatibility/v1",),
}
_KINDS = (
    Kind(
        "openai",
        "OpenAI",
        "https://api.openai.com/v1",
        adapter="openai",
        variables=("OPENAI_API_KEY",),
        prefixes=("sk-proj-", "sk-svcacct-", "sk-"),
        others=("sk-admin-",),
        quirks={"maximum": "max_completion_tokens"},
    ),
    Kind(
        "anthropic",
        "Anthropic",
        "https://api.anthropic.com/v1",
        adapter="anthropic",
        auth="x-api-key",
        variables=("ANTHROPIC_API_KEY",),
        prefixes=("sk-ant-api",),
        others=("sk-ant-admin", "sk-ant-oat"),
        test=Test("models?limit=1"),
    ),
    Kind(
        "google",
        "Google Gemini",
        "https://generativelanguage.googleapis.com/v1beta",
        adapter="gemini",
        auth="x-goog-api-key",
        variables=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        prefixes=("AQ.", "AIza"),
        test=Test("models?pageSize=1", refused="API_KEY_INVALID"),
    ),
    Kind(
        "openrouter",
        "OpenRouter",
        "https://openrouter.ai/api/v1",
        variables=("OPENROUTER_API_KEY",),
        prefixes=("sk-or-v1-", "sk-or-"),
        test=Test("key"),  # its list of models needs no key and so tells nothing of one
    ),
    Kind(
        "groq",
        "Groq",
        "https://api.groq.com/openai/v1",
        variables=("GROQ_API_KEY",),
        prefixes=("gsk_",),
    ),
    Kind(
        "huggingface",
        "HuggingFace",
        "https://router.huggingface.co/v1",
        variables=("HF_TOKEN", "HUGGINGFACE_API_KEY"),
        prefixes=("hf_",),
        test=Test("https://huggingface.co/api/whoami-v2"),
    ),
    Kind(
        "xai",
        "X.AI",
        "https://api.x.ai/v1",
        variables=("XAI_API_KEY",),
        prefixes=("xai-",),
        test=Test("api-key", refused="API key"),
    ),
    Kind(
        "together",
        "Together AI",
        "https://api.together.ai/v1",
        variables=("TOGETHER_API_KEY",),
        prefixes=("tgp_v1_",),
    ),
    Kind(
        "mistral",
        "Mistral",
        "https://api.mistral.ai/v1",
        variables=("MISTRAL_API_KEY",),
        quirks={"stream_options": False},  # which it does not know; it tells usage anyway
    ),
    Kind(
        "cohere",
        "Cohere",
        "https://api.cohere.com/v2",
        adapter="cohere",
        variables=("COHERE_API_KEY", "CO_API_KEY"),
        prefixes=("co_",),
        test=Test("/v1/check-api-key", "POST", valid="valid"),
    ),
    Kind(
        "ollama",
        "Ollama on a machine of one's own",
        "http://localhost:11434",
        adapter="ollama",
        auth="none",
        test=Test("/api/version"),
    ),
    Kind(
        "ollama-cloud",
        "Ollama Cloud",
        "https://ollama.com",
        adapter="ollama",
        variables=("OLLAMA_API_KEY",),
        test=Test("/api/tags"),
    ),
    Kind("vllm", "vLLM on a machine of one's own", auth="none"),
    Kind(
        "azure",
        "Azure OpenAI",  # https://{resource}.openai.azure.com/openai/v1
        adapter="openai",
        auth="api-key",
        quirks={"key_header": "api-key", "maximum": "max_completion_tokens"},
    ),
    Kind("compatible", "Any base URL that speaks OpenAI's dialect"),
)
KINDS: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in _KINDS})
#: All of them: no process but the control plane is to hold these.
VARIABLES = frozenset(name for kind in _KINDS for name in kind.variables)
#: Other names by which catalogues and people call them.
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "gemini": "google",
        "google-gemini": "google",
        "x-ai": "xai",
        "x.ai": "xai",
        "hf": "huggingface",
        "hugging-face": "huggingface",
        "togetherai": "together",
        "together-ai": "together",
        "mistralai": "mistral",
        "house_vllm": "vllm",
        "house-vllm": "vllm",
        "azure-openai": "azure",
    }
)


def kind_of(name: str) -> Kind | None:
    """By its name or by another that is usual."""
    name = name.lower()
    return KINDS.get(ALIASES.get(name, name))
