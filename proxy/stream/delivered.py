"""What of a stream has gone to the client, in counts, without reading every event. Pure."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from proxy.costs.pricing import NOTHING
from proxy.stream import sse

FRAMES_READ = 4  # first frames with content, to learn how much of a frame is not
FRAMES_LOOKED_AT = 64  # to find those

Text = Callable[[Mapping[str, Any]], int]


def text_bytes(choices: Any) -> int:
    """The texts in a frame's deltas, whatever a provider calls their fields."""
    total, level = 0, [choices]
    while level:
        inner: list[Any] = []
        for item in level:
            if isinstance(item, str):
                total += len(item.encode())
            elif isinstance(item, dict):
                inner += [v for name, v in item.items() if name not in ("role", "finish_reason")]
            elif isinstance(item, list):
                inner += item
        level = inner
    return total


def of_choices(frame: Mapping[str, Any]) -> int:
    return text_bytes(frame.get("choices"))


class Delivered:
    """Bytes of content, at least one for each token. Of the first frames the text alone; of the
    later ones, which nobody reads, all but the envelope that they share.
    """

    __slots__ = (
        *("_looked", "_read", "_text", "content_bytes", "done", "envelope", "error"),
        *("events", "first", "told"),
    )

    def __init__(self, text: Text = of_choices) -> None:
        """`text`: how many bytes of content a frame has, less than 0 where it is not for any."""
        self.events = self.content_bytes = 0
        self.envelope = -1  # bytes of a frame that are not content; -1: none read yet
        self.first: dict[str, Any] = {}  # the stream's first frame, for one of our own
        self.done = self.error = False
        self.told: Mapping[str, int] = NOTHING  # tokens that came in, if told before the end
        self._text = text
        self._read = self._looked = 0

    def add(self, block: bytes) -> None:
        """Whole events that went to the client."""
        if self._read < FRAMES_READ:
            block = self._learn(block)
        if not block:
            return
        envelope = max(self.envelope, 0)
        if block.find(b"\n\n") == len(block) - 2 and b"\r" not in block:  # one, as most are
            self.events += 1
            if len(block) > envelope:
                self.content_bytes += len(block) - envelope
            return
        sizes = _sizes(block)
        self.events += len(sizes)
        # each by itself: the short last frame must not take from those that came with it
        self.content_bytes += sum(size - envelope for size in sizes if size > envelope)

    def _learn(self, block: bytes) -> bytes:
        """Reads first frames; gives back what lies behind them."""
        read = 0
        for event in sse.events(block):
            if self._read == FRAMES_READ:
                break
            read += len(event)
            if not sse.data(event):
                continue  # a comment, by which a provider says that it still works
            self.events += 1
            self._look_at(event)
        return block[read:]

    def _look_at(self, event: bytes) -> None:
        frame = _frame(event)
        self._looked += 1
        if self._looked == FRAMES_LOOKED_AT:
            self._read = FRAMES_READ
        if frame is None:
            self.content_bytes += len(event)
            self._read += 1
            return
        self.first = self.first or frame
        text = self._text(frame)
        if text < 0:
            return
        self._read += 1
        self.content_bytes += text
        envelope = len(event) - text
        if self.envelope < 0 or envelope < self.envelope:
            self.envelope = envelope


class Silent(Delivered):
    """Of sound and images: how many events, but none of their bytes are text."""

    __slots__ = ()

    def add(self, block: bytes) -> None:
        self.events += sum(1 for event in sse.events(block) if sse.data(event))


class Counted:
    """The same of a stream whose every event is read."""

    __slots__ = ("content_bytes", "events", "told")

    def __init__(self) -> None:
        self.events = self.content_bytes = 0
        self.told: Mapping[str, int] = NOTHING


def _sizes(block: bytes) -> list[int]:
    if b"\r" in block:  # other ends than LF LF are rare, and have to be looked for
        return [len(event) for event in sse.events(block)]
    return [len(event) + 2 for event in block.split(b"\n\n") if event]


def _frame(event: bytes) -> dict[str, Any] | None:
    try:
        frame = orjson.loads(sse.data(event) or b"null")
    except orjson.JSONDecodeError:
        return None
    return frame if isinstance(frame, dict) else None
