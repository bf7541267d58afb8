"""What the tests of providers' dialects share: streams cut at any byte, and answers folded up."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from hypothesis import strategies as st

from proxy.dialects.base import ProviderDialect
from proxy.dialects.conversation import Conversation, Message, Text
from proxy.dialects.events import (
    Began,
    Counted,
    Event,
    Failed,
    Finished,
    RefusalPiece,
    TextPiece,
    ThinkingPiece,
    ThinkingSigned,
    ToolBegan,
    ToolPiece,
)
from proxy.stream import sse
from proxy.types import Call, Deployment

EVENT_MAX = 1 << 20
SECRET = "sk-provider-0123456789"


@dataclass
class Told:
    """An answer, folded up."""

    id: str = ""
    model: str = ""
    text: str = ""
    refusal: str = ""
    thoughts: list[tuple[str, str]] = field(default_factory=list)  # text, signature or redacted
    calls: list[list[str]] = field(default_factory=list)  # id, name, arguments, signature
    reason: str = ""
    native: str = ""
    stop_sequence: str = ""
    usage: dict[str, int] | None = None
    partial: bool = False
    failed: Failed | None = None


def told(events: Iterable[Event]) -> Told:
    answer, thought = Told(), ""
    for event in events:
        match event:
            case Began(id, model):
                answer.id, answer.model = id, model
            case TextPiece(text):
                answer.text += text
            case RefusalPiece(text):
                answer.refusal += text
            case ThinkingPiece(text):
                thought += text
            case ThinkingSigned(signature, redacted):
                answer.thoughts.append((thought, signature or redacted))
                thought = ""
            case ToolBegan(index, id, name, signature):
                assert index == len(answer.calls)
                answer.calls.append([id, name, "", signature])
            case ToolPiece(index, text):
                assert index == len(answer.calls) - 1
                answer.calls[index][2] += text
            case Finished(reason, stop_sequence, native):
                assert not answer.reason
                answer.reason, answer.native = reason, native
                answer.stop_sequence = stop_sequence
            case Counted(usage, partial):
                assert usage.source == "provider"
                answer.usage, answer.partial = dict(usage.tokens), partial
            case Failed():
                answer.failed = event
    if thought:
        answer.thoughts.append((thought, ""))
    return answer


def streamed(speech: ProviderDialect, stream: bytes, size: int = 1 << 20) -> list[Event]:
    """A stream that comes in pieces of this size."""
    reader, found = speech.reader(), list[Event]()
    for data in frames(speech.framing, stream, size):
        found += reader.feed(data)
    return [*found, *reader.end()]


def frames(framing: str, stream: bytes, size: int) -> Iterator[bytes]:
    if framing == "lines":
        yield from (line for line in stream.splitlines() if line.strip())
        return
    splitter = sse.Splitter(EVENT_MAX)
    for start in range(0, len(stream), size):
        for event in sse.events(splitter.feed(stream[start : start + size])):
            yield sse.data(event)
    if rest := splitter.rest():
        yield sse.data(rest)


def events(*frames: dict[str, Any], end: str = "\n", named: bool = True) -> bytes:
    """Server-sent events as providers write them, with their names or without."""
    out = ""
    for frame in frames:
        name = f"event: {frame['type']}{end}" if named else ""
        out += f"{name}data: {orjson.dumps(frame).decode()}{end}{end}"
    return out.encode()


def asked(text: str = "hi", **fields: Any) -> Conversation:
    fields.setdefault("system", ())
    fields.setdefault("messages", (Message("user", (Text(text),)),))
    return Conversation(**fields)


def written(speech: ProviderDialect, conversation: Conversation, **how: Any) -> dict[str, Any]:
    how = {"model": "m", "output_max": 4096, "stream": False, **how}
    return speech.write(conversation, **how)


def place(base_url: str, model: str = "m", secret: str = SECRET) -> Deployment:
    return Deployment(1, "ours", "theirs", "adapter", base_url, model, secret)


def call(dialect: str = "chat", *, stream: bool = False, **fields: Any) -> Call:
    body = orjson.dumps({"model": "ours", "messages": [], **fields})
    return Call(
        "rid", "/", body, orjson.loads(body), "ours", stream, False, None, None, dialect=dialect
    )


def sums(usage: dict[str, int], names: Sequence[str]) -> int:
    return sum(usage.get(name, 0) for name in names)


def rubbish(*types: str, names: Sequence[str]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Frames of known types and with known names, in which anything may stand."""
    whole = st.integers(-(2**63), 2**63 - 1)
    plain = st.none() | st.booleans() | whole | st.floats(allow_nan=False) | st.text(max_size=8)
    words = st.sampled_from([*names, "type", "text", "index"])
    anything = st.recursive(
        plain,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
        max_leaves=8,
    )
    type_ = {"type": st.sampled_from(types)} if types else {}
    frame = st.fixed_dictionaries(type_, optional=dict.fromkeys(names, anything))
    return st.lists(frame, max_size=6)
