"""What the tests of billing share: calls as they are admitted, and answers without a network."""

import struct
from typing import Any

import orjson

from proxy import forms
from proxy.costs import billed
from proxy.costs.price import Price
from proxy.providers.catalog import ADAPTERS
from proxy.request import read
from proxy.served import SERVED
from proxy.settings import Settings
from proxy.stream.ways import Way, way_of
from proxy.types import Call, Deployment, Outcome, Usage
from proxy.upstream import Reply

SETTINGS = Settings()
MILLION = 1_000_000
EVENTS, JSON, SOUND = b"text/event-stream", b"application/json", b"audio/mpeg"
TEXT = b"text/plain"
USAGE = {"input_tokens": 7, "output_tokens": 8, "total_tokens": 15}
TOKENS = {"input": 7, "output": 8}
SEARCH = {"type": "web_search_call", "status": "completed", "action": {"type": "search"}}
FORM = b"multipart/form-data; boundary=x"


class Answer:
    status = 200

    def __init__(self, content_type: bytes) -> None:
        self.headers = ((b"content-type", content_type),)

    async def read(self) -> bytes | None:
        return None

    def close(self) -> None:
        """Nothing is open."""


def priced(**rates: int) -> Price:
    return Price(1, {name: n * MILLION for name, n in rates.items()}, MILLION)


def asked(dialect: str, *, most: tuple[int, int] = (1_000, 500), **fields: Any) -> Call:
    """As it is admitted: with what is held for it."""
    body = orjson.dumps({"model": "m", **fields})
    served = next(one for one in SERVED if one.dialect == dialect)
    call = read(served, "r", served.path, body, SETTINGS)
    call.bound(*most)
    return call


def heard(sound: bytes, **fields: str) -> Call:
    """A transcription of this sound."""
    parts = [forms.Part(name, value.encode()) for name, value in {"model": "m", **fields}.items()]
    file = forms.Part("file", sound, b"a.wav", b"audio/wav")
    served = next(one for one in SERVED if one.dialect == "transcription")
    headers = {b"content-type": FORM}
    call = read(served, "r", "/", forms.write([*parts, file], b"x"), SETTINGS, headers)
    call.bound(1_000, 500)
    return call


def reply(call: Call, kind: bytes = JSON) -> Reply:
    adapter = "anthropic" if call.dialect == "messages" else "openai"
    place = Deployment(1, "m", "p", adapter, "http://127.0.0.1:1", "m")
    return Reply(Answer(kind), ADAPTERS[adapter], place, SETTINGS, 0)


def whole(call: Call, price: Price, answer: dict[str, Any]) -> Usage:
    return billed.usage(reply(call), call, price, orjson.dumps(answer))


def stream(call: Call, price: Price, *frames: dict[str, Any]) -> Way:
    way = way_of(reply(call, EVENTS), call, Outcome(), price)
    for frame in frames:
        way.take(b"data: " + orjson.dumps(frame) + b"\n\n")
    return way


def used(usage: Usage) -> tuple[dict[str, int], str]:
    return dict(usage.tokens), usage.source


def wave(seconds: int, rate: int = 8_000, told: int | None = None, block: int = 1) -> bytes:
    told = rate if told is None else told
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 0, b"WAVE", b"fmt ", 16, 1, 1, rate, told,
                       block, 8, b"data", 0)  # fmt: skip
    return head + bytes(8_000 * seconds - len(head))
