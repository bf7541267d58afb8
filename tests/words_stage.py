"""Answers as events, for tests of the dialects that clients speak; and the real SDKs, fed with
bytes instead of a network.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import anthropic
import httpx2
import openai
import orjson
from hypothesis import strategies as st

from proxy.dialects.conversation import Part, Refusal, Text, Thinking, ToolCall
from proxy.dialects.events import (
    Began,
    Counted,
    Event,
    Finished,
    RefusalPiece,
    TextPiece,
    ThinkingPiece,
    ThinkingSigned,
    ToolBegan,
    ToolPiece,
)
from proxy.stream import sse
from proxy.types import Usage

USAGE = Usage(
    {
        "input": 10,
        "audio_in": 1,
        "cache_read": 4,
        "cache_write": 2,
        "cache_write_1h": 3,
        "output": 20,
        "reasoning": 5,
    }
)
BEGAN = Began("chatcmpl-1", "their-model")
HEADERS = {"content-type": "text/event-stream", "request-id": "r1"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said, as a reader of some provider tells it."""

    parts: tuple[Part, ...]
    events: tuple[Event, ...]  # without an end
    finished: Finished

    @property
    def whole(self) -> tuple[Event, ...]:
        return (BEGAN, *self.events, self.finished, Counted(USAGE))


def said(*parts: Part, reason: Any = "stop", pieces: int = 2) -> Answer:
    """Each part in so many pieces."""
    events: list[Event] = []
    calls = 0
    for part in parts:
        events += _events(part, calls, pieces)
        calls += isinstance(part, ToolCall)
    return Answer(parts, tuple(events), Finished(reason))


def _events(part: Part, call: int, pieces: int) -> Iterator[Event]:
    if isinstance(part, Text):
        yield from map(TextPiece, _split(part.text, pieces))
    elif isinstance(part, Refusal):
        yield from map(RefusalPiece, _split(part.text, pieces))
    elif isinstance(part, Thinking):
        yield from map(ThinkingPiece, _split(part.text, pieces))
        if part.signature or part.redacted:
            yield ThinkingSigned(part.signature, part.redacted)
    elif isinstance(part, ToolCall):
        yield ToolBegan(call, part.id, part.name, part.signature)
        for text in _split(part.arguments, pieces):
            yield ToolPiece(call, text)


def _split(text: str, pieces: int) -> list[str]:
    size = max(1, -(-len(text) // pieces))
    return [text[at : at + size] for at in range(0, len(text), size)]


# What may happen --------------------------------------------------------------------

_words = st.text(min_size=1, max_size=12)
_proofs = st.text("abcXYZ019+/=", max_size=8)
_arguments = st.dictionaries(_words, st.integers(-(2**53), 2**53) | _words | st.none(), max_size=3)
_thoughts = st.builds(
    Thinking, _words, signature=st.text("abcXYZ019+/=", min_size=1, max_size=8)
) | st.builds(Thinking, st.just(""), redacted=st.text("abc", min_size=1, max_size=8))
_calls = st.builds(
    ToolCall,
    id=st.from_regex(r"\A[a-z0-9_]{1,12}\Z"),
    name=st.from_regex(r"\A[a-z]{1,8}\Z"),
    arguments=_arguments.map(lambda found: orjson.dumps(found).decode()),
    signature=_proofs,
)
_reasons: st.SearchStrategy[Literal["stop", "length", "content_filter"]] = st.sampled_from(
    ("stop", "length", "content_filter")
)


def _apart(parts: Sequence[Part]) -> bool:
    """Texts that follow each other are one text to whoever reads a stream."""
    return all(
        type(one) is not type(two) or isinstance(one, Thinking | ToolCall)
        for one, two in pairwise(parts)
    )


answers = st.builds(
    lambda parts, reason, pieces: said(*parts, reason=reason, pieces=pieces),
    st.lists(
        st.builds(Text, _words) | st.builds(Refusal, _words) | _thoughts | _calls,
        max_size=5,
        unique_by=lambda part: part.id if isinstance(part, ToolCall) else id(part),
    ).filter(_apart),
    _reasons,
    st.integers(1, 3),
)


# Who reads it -----------------------------------------------------------------------


def frames(stream: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Names and data of a stream's events."""
    found = []
    for event in sse.events(stream):
        name, _, data = event.partition(b"\n")
        found.append((name.removeprefix(b"event: ").decode(), orjson.loads(data[6:])))
    return found


def anthropic_client(answer: bytes, status: int = 200) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        api_key="k", max_retries=0, http_client=httpx2.Client(transport=_spoken(answer, status))
    )


def openai_client(answer: bytes, status: int = 200) -> openai.OpenAI:
    return openai.OpenAI(
        api_key="k", max_retries=0, http_client=httpx2.Client(transport=_spoken(answer, status))
    )


def _spoken(answer: bytes, status: int) -> httpx2.MockTransport:
    kind = "text/event-stream" if answer.startswith(b"event:") else "application/json"
    headers = {**HEADERS, "content-type": kind}
    return httpx2.MockTransport(
        lambda request: httpx2.Response(status, content=answer, headers=headers)
    )
