"""What a model can do, by its name: the most that it gives out, whether it thinks unseen, what it
takes and gives. Read from the makers' pages; a provider's own list says better where there is one.

Too large a maximum only holds more; too small a one would hold too little. A model that no line
knows gets OUTPUT_ASSUMED, which is then sent along, so that it holds.
"""

import re
from dataclasses import dataclass

OUTPUT_ASSUMED = 16_384  # tokens
CONTEXT_ASSUMED = 1_048_576  # tokens; what holds go by where nobody says

_OUTPUT: tuple[tuple[str, int], ...] = (
    (r"gpt-4o-2024-05-13", 4_096),
    (r"gpt-4o.*realtime|gpt-realtime", 4_096),
    (r"gpt-4o|gpt-audio|chatgpt-4o", 16_384),
    (r"gpt-4\.1", 32_768),
    (r"gpt-4\.5", 16_384),
    (r"gpt-4-(turbo|vision|0125|1106)", 4_096),
    (r"gpt-4-32k", 32_768),
    (r"gpt-4(-0314|-0613)?$", 8_192),
    (r"gpt-3\.?5", 4_096),
    (r"o1-mini", 65_536),
    (r"o1-preview", 32_768),
    (r"(o1|o3|o4|codex-mini)\b", 100_000),
    (r"gpt-5-pro", 272_000),
    (r"gpt-5.*chat", 16_384),
    (r"gpt-5", 128_000),
    (r"gpt-oss", 131_072),
    (r"claude-(v1|2|instant)", 4_096),
    (r"claude-3-(opus|sonnet|haiku)", 4_096),
    (r"claude-3[.-]5", 8_192),
    (r"claude-(3[.-]7|sonnet-3[.-]7)", 128_000),
    (r"claude-(opus-4-6|opus-4-7|opus-4-8|opus-4\.[678])", 128_000),
    (r"claude-(opus-4[.-]5|4[.-]5-opus)", 64_000),
    (r"claude-(opus-4|4-opus|4\.?1?-opus)", 32_000),
    (r"claude-(sonnet|haiku)-4|claude-4(\.5|-5)?-(sonnet|haiku)", 64_000),
    (r"gemini-(1|pro|flash-1)", 8_192),
    (r"gemini-2\.0", 8_192),
    (r"gemini-(2\.5|3)", 65_536),
    (r"gemma-", 8_192),
    (r"command-a", 8_192),
    (r"(command|c4ai)", 4_096),
    (r"llama-3\.3-70b-versatile", 32_768),
    (r"llama-3\.1-8b-instant", 131_072),
    (r"(dall-e|imagen|embed|text-embedding|rerank|whisper|tts-1|moderation)", 1),
)
_THINKS = re.compile(
    r"\b(o1|o3|o4)\b|gpt-[5-9]|codex|gpt-oss|gemini-(2\.5|[3-9])|grok-(3-mini|[4-9]|code|build)"
    r"|claude-(3[.-]7|(opus|sonnet|haiku|fable|mythos)-[4-9]|[4-9])|deepseek-(r|v[4-9]|reasoner)"
    r"|sonar-(deep|reasoning)|thinking|reasoning|magistral|qwq|kimi-k[2-9]|glm-[4-9]|minimax-m"
)
_KINDS: tuple[tuple[str, str], ...] = (
    (r"embed|voyage-|\bbge-|\be5-|gte-", "embeddings"),
    (r"rerank", "rerank"),
    (r"moderation|llama-guard|prompt-guard|safeguard", "moderation"),
    (r"tts|orpheus|speech", "speech"),
    (r"whisper|transcri", "transcription"),
    (r"dall-e|gpt-image|chatgpt-image|imagen|stable-diffusion|sdxl|flux", "images"),
    (r"turbo-instruct|davinci|babbage|\bada\b|\bcurie\b", "completions"),
)
_SEES = re.compile(
    r"gpt-4o|gpt-4\.1|gpt-4-(turbo|vision)|gpt-[5-9]|\b(o1|o3|o4)\b|claude-(3|[4-9]|opus|sonnet|haiku"
    r"|fable|mythos)|gemini|gemma-[34]|vision|pixtral|-vl\b|llama-4|mistral-(small|medium)|grok-[4-9]"
)


@dataclass(frozen=True, slots=True)
class Family:
    output_max: int | None  # tokens; null: no line knows
    thinks: bool
    kind: str
    takes: tuple[str, ...]
    gives: tuple[str, ...]


def family_of(upstream_model: str) -> Family:
    """By the name without the maker's, and without what a router adds to it."""
    name = upstream_model.lower().rpartition("/")[2].partition(":")[0]
    kind = next((kind for pattern, kind in _KINDS if re.search(pattern, name)), "chat")
    output = next((most for pattern, most in _OUTPUT if re.match(pattern, name)), None)
    return Family(output, _thinks(name, kind), kind, *_modalities(name, kind))


def _thinks(name: str, kind: str) -> bool:
    said_not = "non-reasoning" in name or "chat-latest" in name
    return kind == "chat" and not said_not and _THINKS.search(name) is not None


def _modalities(name: str, kind: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    takes = ["audio"] if kind == "transcription" else ["text"]
    gives = {"images": "image", "speech": "audio", "embeddings": "embedding"}.get(kind, "text")
    if kind == "images" or (kind == "chat" and _SEES.search(name)):
        takes.append("image")
    if kind == "chat" and re.search(r"audio|omni|live|gemini|voxtral|realtime", name):
        takes.append("audio")
    out = [gives]
    if kind == "chat" and "-image" in name:
        out.append("image")
    if kind == "chat" and re.search(r"audio|realtime|-live", name):
        out.append("audio")
    return tuple(takes), tuple(out)
