"""What of a stream is counted as given to the client."""

import orjson
import pytest

from proxy.stream.delivered import Delivered

PING = b": OPENROUTER PROCESSING\n\n"


def frame(text: str, end: bytes = b"\n\n") -> bytes:
    choices = [{"index": 0, "delta": {"content": text}}]
    return b"data: " + orjson.dumps({"id": "c", "choices": choices}) + end


def test_a_provider_that_only_says_that_it_works_has_given_nothing() -> None:
    count = Delivered()
    count.add(PING)
    count.add(PING * 50)
    assert (count.events, count.content_bytes) == (0, 0)
    count.add(PING * 50 + frame("abc") + PING)
    assert (count.events, count.content_bytes) == (1, 3)


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n"])
def test_frames_that_come_together_count_as_those_that_come_alone(end: bytes) -> None:
    alone, together = Delivered(), Delivered()
    last = b'data: {"id":"c","choices":[]}' + end  # which is shorter than the others
    frames = [frame("word", end)] * 19 + [last]
    for one in frames:
        alone.add(one)
    together.add(b"".join(frames[:10]))
    together.add(b"".join(frames[10:]))
    assert (together.events, together.content_bytes) == (alone.events, alone.content_bytes)
    assert together.content_bytes == 19 * len("word")
