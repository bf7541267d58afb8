"""What a piece of a stream costs that is said in another dialect: read from its provider's, written
in its client's. And what it costs to write a request.
"""

from typing import Any

import orjson
import pytest

from bench.micro.conftest import Measure
from proxy.dialects.clients import CLIENTS
from proxy.dialects.conversation import Conversation
from proxy.providers.catalog import ADAPTERS

TEXT = "four or five"
FIRST: dict[str, dict[str, Any]] = {
    "anthropic": {"type": "message_start", "message": {"id": "m", "model": "m", "usage": {}}},
    "gemini": {"responseId": "r", "candidates": [{"content": {"parts": []}}]},
    "cohere": {"type": "message-start", "id": "m"},
    "ollama": {"model": "m", "message": {"content": ""}, "done": False},
}
PIECES: dict[str, dict[str, Any]] = {
    "anthropic": {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": TEXT},
    },
    "gemini": {
        "candidates": [{"content": {"parts": [{"text": TEXT}], "role": "model"}, "index": 0}],
        "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 3, "totalTokenCount": 12},
        "modelVersion": "m",
        "responseId": "r",
    },
    "cohere": {
        "type": "content-delta",
        "index": 0,
        "delta": {"message": {"content": {"text": TEXT}}},
    },
    "ollama": {
        "model": "m",
        "created_at": "2026-01-01T00:00:00Z",
        "message": {"role": "assistant", "content": TEXT},
        "done": False,
    },
}
ASKED = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "You are exact. " * 20},
        {"role": "user", "content": 'A question with "quotes", and more. ' * 18},
    ],
    "max_tokens": 400,
    "temperature": 0.5,
}


@pytest.mark.parametrize("name", PIECES)
def test_piece_translated(measure: Measure, name: str) -> None:
    """To a client of chat completions."""
    speech = ADAPTERS[name].speech
    assert speech is not None
    reader, writer = speech.reader(), CLIENTS["chat"].writer("rid", "m", ASKED)
    writer.feed(reader.feed(orjson.dumps(FIRST[name])))
    piece = orjson.dumps(PIECES[name])
    assert TEXT.encode() in writer.feed(reader.feed(piece))
    measure(lambda: writer.feed(reader.feed(piece)))


@pytest.mark.parametrize("client", ["messages", "responses"])
def test_piece_translated_from_gemini(measure: Measure, client: str) -> None:
    """To clients of other dialects, from the provider whose pieces say the most."""
    speech = ADAPTERS["gemini"].speech
    assert speech is not None
    reader, writer = speech.reader(), CLIENTS[client].writer("rid", "m", ASKED)
    writer.feed(reader.feed(orjson.dumps(FIRST["gemini"])))
    piece = orjson.dumps(PIECES["gemini"])
    measure(lambda: writer.feed(reader.feed(piece)))


def test_request_of_1_kb_said_to_anthropic(measure: Measure) -> None:
    speech = ADAPTERS["anthropic"].speech
    assert speech is not None

    def said() -> bytes:
        conversation: Conversation = CLIENTS["chat"].read(ASKED)
        body = speech.write(conversation, model="m", output_max=400, stream=True)
        return orjson.dumps(body)

    assert len(said()) > 900
    measure(said)
