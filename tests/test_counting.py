"""How many tokens a request is, as /v1/messages/count_tokens answers it."""

import orjson

from proxy.dialects.conversation import Conversation, Media, Message, Shape, Text, ToolResult
from proxy.dialects.counting import (
    AROUND,
    FILE_TOKENS,
    IMAGE_TOKENS,
    SOUND_BYTES_PER_TOKEN,
    input_tokens,
)
from proxy.dialects.messages import Messages
from tests.words_stage import anthropic_client


def test_texts_are_counted_by_their_bytes() -> None:
    """Four bytes a token, rounded up for each text."""
    words = Message("user", (Text("hello"), Text("é")))
    assert input_tokens(Conversation((Text("four"),), (words,))) == AROUND + 1 + AROUND + 2 + 1


def test_a_count_of_words_may_take_the_place_of_bytes() -> None:
    talk = Conversation((), (Message("user", (Text("one two three"),)),))
    assert input_tokens(talk, lambda text: len(text.split())) == AROUND + 3


def test_media_count_by_what_they_are() -> None:
    sound = Media("audio", data="A" * 800 * SOUND_BYTES_PER_TOKEN)
    parts = (Media("image", url="https://a"), Media("file", data="aGk="), sound)
    result = ToolResult("t", "f", (Media("image", data="aGk="),))
    talk = Conversation((), (Message("user", (*parts, result)),))
    assert input_tokens(talk) == 2 * (AROUND + IMAGE_TOKENS) + FILE_TOKENS + 600


def test_tools_and_the_shape_of_the_answer_are_read_too() -> None:
    fields = {
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [{"name": "tool", "description": "does", "input_schema": {"type": "object"}}],
    }
    counted = orjson.loads(Messages().count(fields))
    assert counted == {"input_tokens": AROUND + 1 + AROUND + 1 + 1 + 5}
    assert input_tokens(Conversation((), (), shape=Shape({"type": "object"}))) == 5


def test_the_sdk_takes_the_count() -> None:
    fields = {"messages": [{"role": "user", "content": "hi"}]}
    client = anthropic_client(Messages().count(fields))
    found = client.messages.count_tokens(model="m", messages=[{"role": "user", "content": "hi"}])
    assert found.input_tokens == AROUND + 1
