"""How late each piece of a paced stream came, counted from the sending of its request. Pure.

The provider's schedule is known: piece k is sent k intervals after the first. What a gateway adds
is the difference to the same figure of the provider alone.
"""

from collections.abc import Iterator, Sequence

import orjson

Read = tuple[float, int]  # seconds since the request was sent, bytes of the body there by then


def lateness(reads: Sequence[Read], body: bytes, piece_s: float) -> Iterator[float]:
    """One value for each piece of content, in seconds."""
    reading = iter(reads)
    at, there = next(reading, (0.0, 0))
    for number, end in enumerate(_content_ends(body)):
        while there < end:
            at, there = next(reading)
        yield at - number * piece_s


def _content_ends(body: bytes) -> Iterator[int]:
    """Where the events that carry content end; roles, usage and `[DONE]` carry none."""
    start = 0
    while (end := body.find(b"\n\n", start) + 2) > 1:
        data = body[start:end].strip().removeprefix(b"data: ")
        if data.startswith(b"{") and _has_content(orjson.loads(data)):
            yield end
        start = end


def _has_content(chunk: object) -> bool:
    match chunk:
        case {"choices": [{"delta": {"content": str(text)}}, *_]}:
            return text != ""
    return False
