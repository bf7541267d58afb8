"""What of a stream has gone to the client, in counts, without reading every event. Pure."""

from typing import Any

import orjson

from proxy import sse

FRAMES_READ = 4  # of a stream's first frames, to learn how much of a frame is not content


class Delivered:
    """Bytes of content, at least one for each token. Of the first frames the text alone; of the
    later ones, which nobody reads, all but the envelope that they share.
    """

    __slots__ = ("content_bytes", "done", "envelope", "error", "events", "first")

    def __init__(self) -> None:
        self.events = self.content_bytes = 0
        self.envelope = -1  # bytes of a frame that are not content; -1: none read yet
        self.first: dict[str, Any] = {}  # the stream's first frame, for one of our own
        self.done = self.error = False

    def add(self, block: bytes) -> None:
        """Whole events that went to the client."""
        if self.events < FRAMES_READ:
            block = self._learn(block)
        if block:
            sizes = _sizes(block)
            envelope = max(self.envelope, 0)
            self.events += len(sizes)
            # each by itself: the short last frame must not take from those that came with it
            self.content_bytes += sum(size - envelope for size in sizes if size > envelope)

    def _learn(self, block: bytes) -> bytes:
        """Reads first frames; gives back what lies behind them."""
        read = 0
        for event in sse.events(block):
            if self.events == FRAMES_READ:
                break
            read += len(event)
            if not sse.data(event):
                continue  # a comment, by which a provider says that it still works
            self.events += 1
            frame = _frame(event)
            if frame is None:
                self.content_bytes += len(event)
                continue
            self.first = self.first or frame
            text = text_bytes(frame.get("choices"))
            self.content_bytes += text
            envelope = len(event) - text
            if self.envelope < 0 or envelope < self.envelope:
                self.envelope = envelope
        return block[read:]


def _sizes(block: bytes) -> list[int]:
    if b"\r" in block:  # other ends than LF LF are rare, and have to be looked for
        return [len(event) for event in sse.events(block)]
    if block.find(b"\n\n") == len(block) - 2:
        return [len(block)]
    return [len(event) + 2 for event in block.split(b"\n\n") if event]


def _frame(event: bytes) -> dict[str, Any] | None:
    try:
        frame = orjson.loads(sse.data(event) or b"null")
    except orjson.JSONDecodeError:
        return None
    return frame if isinstance(frame, dict) else None


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


def last_frame(first: dict[str, Any]) -> bytes:
    """A frame of ours that ends a stream where its credits ended."""
    choice = {"index": 0, "delta": {}, "finish_reason": "length"}
    kept = {name: first[name] for name in ("id", "object", "created", "model") if name in first}
    return b"data: " + orjson.dumps({**kept, "choices": [choice]}) + b"\n\n"
