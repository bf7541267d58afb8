"""How many tokens a conversation is, before it is sent: by what counts texts, else by bytes. Pure.

An estimate. Only the provider knows exactly, and Anthropic's own is asked where it is the provider.
"""

from collections.abc import Callable, Iterator

import orjson

from proxy.dialects.conversation import (
    Conversation,
    Media,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)

BYTES_PER_TOKEN = 4
#: What stands around a turn or a tool, beside its own words.
AROUND = 4
IMAGE_TOKENS = 1_600  # of a large one, at most providers
FILE_TOKENS = 1_500  # at least: a page
FILE_BYTES_PER_TOKEN = 40  # of a PDF, which is mostly not text
SOUND_BYTES_PER_TOKEN = 600  # 16 bytes a millisecond at 25 tokens a second

CountText = Callable[[str], int]


def by_bytes(text: str) -> int:
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def input_tokens(conversation: Conversation, count: CountText = by_bytes) -> int:
    """All that goes in: the system's words, the turns, the tools, the shape of the answer."""
    total = sum(AROUND + count(text.text) for text in conversation.system)
    for message in conversation.messages:
        total += AROUND + sum(_part(part, count) for part in message.parts)
    for tool in conversation.tools:
        words = (tool.name, tool.description, orjson.dumps(tool.schema).decode())
        total += AROUND + sum(map(count, words))
    if conversation.shape and conversation.shape.schema:
        total += count(orjson.dumps(conversation.shape.schema).decode())
    return total


def _part(part: Part, count: CountText) -> int:
    if isinstance(part, Media):
        return _media(part)
    if isinstance(part, ToolResult):
        return AROUND + sum(_part(inner, count) for inner in part.parts)
    return sum(map(count, _words(part)))


def _words(part: Text | Refusal | Thinking | ToolCall) -> Iterator[str]:
    if isinstance(part, ToolCall):
        yield from (part.name, part.arguments)
    else:
        yield part.text


def _media(media: Media) -> int:
    size = len(media.data) * 3 // 4
    if media.kind == "image":
        return IMAGE_TOKENS
    if media.kind == "audio":
        return size // SOUND_BYTES_PER_TOKEN
    return max(FILE_TOKENS, size // FILE_BYTES_PER_TOKEN)
