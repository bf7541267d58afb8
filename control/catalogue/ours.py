"""What the package has not: prices per image and per search, what is free by its maker's word, and
names with a date in them. Dollars as the makers' public lists have them.
"""

from collections.abc import Mapping
from types import MappingProxyType

READ_ON = "2026-11-21"  # when the lists were read

#: provider/model -> class -> dollars for one of it, but for tokens, which go by the million.
PRICES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "openai/dall-e-2": {
            "images": "0.02",
            "images/1024x1024": "0.02",
            "images/512x512": "0.018",
            "images/256x256": "0.016",
        },
        "openai/dall-e-3": {
            "images": "0.04",
            "images/1024x1024": "0.04",
            "images/1024x1792": "0.08",
            "images/1792x1024": "0.08",
            "images/standard": "0.04",
            "images/standard/1024x1792": "0.08",
            "images/standard/1792x1024": "0.08",
            "images/hd": "0.08",
            "images/hd/1024x1792": "0.12",
            "images/hd/1792x1024": "0.12",
        },
        "openai/omni-moderation-latest": {"input": "0"},
        "openai/omni-moderation-2024-09-26": {"input": "0"},
        "openai/text-moderation-latest": {"input": "0"},
        "openai/text-moderation-stable": {"input": "0"},
        "google/imagen-3.0-generate-002": {"images": "0.03"},
        "google/imagen-4.0-generate-001": {"images": "0.04"},
        "google/imagen-4.0-fast-generate-001": {"images": "0.02"},
        "google/imagen-4.0-ultra-generate-001": {"images": "0.06"},
        "cohere/rerank-v3.5": {"searches": "0.002"},
        "cohere/rerank-english-v3.0": {"searches": "0.002"},
        "cohere/rerank-multilingual-v3.0": {"searches": "0.002"},
        "cohere/embed-english-v3.0": {"input": "0.1"},
        "cohere/embed-multilingual-v3.0": {"input": "0.1"},
        "cohere/embed-english-light-v3.0": {"input": "0.1"},
        "cohere/embed-multilingual-light-v3.0": {"input": "0.1"},
    }
)
#: Classes that the package's price of a model has not, and that would be charged as plain ones.
ADDED: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "openai/gpt-4o-audio-preview": {"audio_in": "40", "audio_out": "80"},
        "openai/gpt-4o-mini-audio-preview": {"audio_in": "10", "audio_out": "20"},
    }
)
#: Names that cost what another one does; each is a model of its own to its provider.
DATED: Mapping[str, str] = MappingProxyType(
    {
        "anthropic/claude-3-haiku-20240307": "claude-3-haiku",
        "anthropic/claude-3-opus-20240229": "claude-3-opus-latest",
        "anthropic/claude-3-5-haiku-20241022": "claude-3-5-haiku-latest",
        "anthropic/claude-3-5-sonnet-20240620": "claude-3-5-sonnet",
        "anthropic/claude-3-5-sonnet-20241022": "claude-3-5-sonnet",
        "anthropic/claude-3-5-sonnet-latest": "claude-3-5-sonnet",
        "anthropic/claude-3-7-sonnet-20250219": "claude-3-7-sonnet-latest",
        "anthropic/claude-sonnet-4-20250514": "claude-sonnet-4-0",
        "anthropic/claude-opus-4-1-20250805": "claude-opus-4-1",
        "anthropic/claude-sonnet-4-5-20250929": "claude-sonnet-4-5",
        "anthropic/claude-haiku-4-5-20251001": "claude-haiku-4-5",
        "anthropic/claude-opus-4-5-20251101": "claude-opus-4-5",
    }
)
