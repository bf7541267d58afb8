"""Server-sent events by bytes: whatever the network cuts, the same events come out."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.stream import sse

EVENTS = (b'data: {"a":1}\n\n', b": a comment\n\n", b"event: x\ndata: 1\ndata: 2\n\n")
DONE = b"data: [DONE]\n\n"
LINE_ENDS = (b"\n", b"\r\n", b"\r")
lines = st.sampled_from((b"data: a", b"data:b", b": hi", b"event: e", b"data: \xc3\xa9", b"id: 1"))
calm = settings(deadline=None, derandomize=True, database=None)
streams = st.lists(st.lists(lines, min_size=1, max_size=4), max_size=6)
ends = st.sampled_from(LINE_ENDS)


def written(stream: Sequence[Sequence[bytes]], end: bytes) -> bytes:
    return b"".join(end.join(event) + end + end for event in stream)


def cut(whole: bytes, places: set[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(whole) + 1) for place in places), len(whole)]
    return [whole[a:b] for a, b in pairwise(edges)]


def split(pieces: Sequence[bytes], limit: int = 10_000) -> tuple[list[bytes], bytes]:
    """Events in the order of their delivery, and what stayed behind."""
    splitter = sse.Splitter(limit)
    found: list[bytes] = []
    for piece in pieces:
        found += sse.events(splitter.feed(piece))
    return found, splitter.rest()


@calm
@given(streams, ends, st.sets(st.integers(0, 500), max_size=12))
def test_a_stream_cut_anywhere_gives_the_same_events(
    stream: list[list[bytes]], end: bytes, places: set[int]
) -> None:
    """Every byte that goes in comes out once, and no event is parted or joined."""
    whole = written(stream, end)
    found, rest = split(cut(whole, places))
    assert b"".join(found) + rest == whole
    assert rest == b""
    assert [sse.data(event) for event in found] == [
        b"\n".join(line[5:].removeprefix(b" ") for line in event if line.startswith(b"data:"))
        for event in stream
    ]


@pytest.mark.parametrize("end", LINE_ENDS, ids=["LF", "CRLF", "CR"])
def test_a_stream_that_comes_byte_by_byte_gives_the_same_events(end: bytes) -> None:
    whole = written([[b"data: 1"], [b": x", b"data: 2", b"data:3"], [b"data: [DONE]"]], end)
    found, rest = split([bytes([byte]) for byte in whole])
    assert [sse.data(event) for event in found] == [b"1", b"2\n3", b"[DONE]"]
    assert rest == b""


@pytest.mark.parametrize(
    ("blank", "events"),
    [(b"\n\n", 2), (b"\r\n\r\n", 2), (b"\r\r", 2), (b"\n\r\n", 2), (b"\r\n\n", 2), (b"\n", 1)],
)
def test_two_line_ends_of_any_kind_end_an_event(blank: bytes, events: int) -> None:
    found, rest = split([b"data: 1" + blank + b"data: 2" + b"\n\n"])
    assert len(found) == events
    assert rest == b""


def test_whole_events_pass_as_the_bytes_that_came() -> None:
    """The common piece ends with an event: nothing of it is copied or looked at."""
    splitter, piece = sse.Splitter(100), b"".join(EVENTS)
    assert splitter.feed(piece) is piece
    assert list(sse.events(piece)) == list(EVENTS)


def test_whole_events_pass_although_the_next_one_is_open() -> None:
    """Nobody waits for a later event."""
    splitter = sse.Splitter(100)
    assert splitter.feed(EVENTS[0] + b"data: half") == EVENTS[0]
    assert splitter.feed(b" and half") == b""
    assert splitter.feed(b"\n\n") == b"data: half and half\n\n"
    assert splitter.rest() == b""


@pytest.mark.parametrize("tail", [b"data: last", b"data: last\n", b"data: last\r\n"])
def test_a_last_event_without_its_blank_line_is_left_as_the_rest(tail: bytes) -> None:
    found, rest = split([EVENTS[0] + tail])
    assert (found, rest) == ([EVENTS[0]], tail)
    assert sse.data(rest) == b"last"


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: x\n\n", b"x"),
        (b"data:x\n\n", b"x"),
        (b"data:  x\n\n", b" x"),
        (b"data: 1\ndata: 2\n\n", b"1\n2"),
        (b"data: 1\r\ndata: 2\r\n\r\n", b"1\n2"),
        (b"data: 1\rdata: 2\r\r", b"1\n2"),
        (b"data:\n\n", b""),
        (b": comment\n\n", b""),
        (b"event: e\nid: 7\nretry: 5\n\n", b""),
        (b"database: x\n\n", b""),
        (b" data: x\n\n", b""),
        (b"\n\n", b""),
        (b"", b""),
        (b"\xef\xbb\xbfdata: x\n\n", b"x"),
        (b"event: e\ndata: x\n: c\ndata: y\n\n", b"x\ny"),
    ],
)
def test_the_data_of_an_event_is_its_data_lines(event: bytes, data: bytes) -> None:
    """One space behind the colon belongs to the form; a byte order mark may open the stream."""
    assert sse.data(event) == data


def sized(length: int) -> bytes:
    return b"data: " + b"x" * (length - 8) + b"\n\n"


@pytest.mark.parametrize("step", [1, 7, 40, 1_000])
def test_an_event_of_exactly_the_limit_passes_and_one_byte_more_does_not(step: int) -> None:
    """The limit is the same however the network cuts, also where a whole event comes at once."""
    limit = 40

    def pieces(whole: bytes) -> list[bytes]:
        return [whole[at : at + step] for at in range(0, len(whole), step)]

    assert split(pieces(sized(limit) * 3), limit) == ([sized(limit)] * 3, b"")
    with pytest.raises(sse.EventTooLong):
        split([*pieces(sized(limit + 1)), DONE, DONE], limit)


@pytest.mark.parametrize("tail", [sized(41), b"data: " + b"x" * 60])
def test_what_came_before_an_event_that_is_too_long_is_given_out_first(tail: bytes) -> None:
    """It may hold the usage: the client and the ledger get it before the stream is cut."""
    splitter = sse.Splitter(40)
    assert splitter.feed(sized(40) + sized(30) + tail) == sized(40) + sized(30)
    with pytest.raises(sse.EventTooLong):
        splitter.feed(DONE)


def test_many_small_events_may_be_larger_together_than_the_limit() -> None:
    found, _ = split([sized(40) * 100], 40)
    assert len(found) == 100


def test_an_event_that_never_ends_is_not_kept_beyond_the_limit() -> None:
    splitter = sse.Splitter(1_000)
    for _ in range(10):
        assert splitter.feed(b"x" * 100) == b""
    with pytest.raises(sse.EventTooLong):
        splitter.feed(b"x" * 100)
    with pytest.raises(sse.EventTooLong):
        splitter.feed(b"x" * 100)
    assert len(splitter.rest()) == 1_100


@calm
@given(st.lists(st.binary(max_size=40), max_size=20))
def test_no_bytes_are_lost_or_made_whatever_comes(pieces: list[bytes]) -> None:
    found, rest = split(pieces)
    assert b"".join(found) + rest == b"".join(pieces)
    assert all(isinstance(sse.data(event), bytes) for event in found)


odd_lines = st.sampled_from(
    (b"data: a", b"data:b", b"data", b"data:", b": hi", b":", b"event: e", b"retry: 1", b"id")
) | st.text("xyz:, \u00e9\u2028\x0b\x85", max_size=9).map(lambda text: b"data: " + text.encode())


def dispatched(whole: bytes) -> list[bytes]:
    """What the standard's own algorithm gives out: line by line, at every blank one."""
    found, lines = [], []
    for line in whole.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").splitlines():
        name, _, value = line.partition(b":")
        if name == b"data" and b":" in line:
            lines.append(value.removeprefix(b" "))
        if not line and lines:
            found.append(b"\n".join(lines))
            lines = []
    return found + ([b"\n".join(lines)] if lines else [])


@calm
@given(
    st.lists(st.lists(odd_lines, min_size=1, max_size=5), min_size=1, max_size=6),
    ends,
    st.booleans(),
    st.integers(0, 2),
    st.sets(st.integers(0, 500), max_size=12),
)
def test_any_stream_reads_as_the_standard_reads_it(
    stream: list[list[bytes]], end: bytes, mark: bool, ends_missing: int, places: set[int]
) -> None:
    """Comments, names without a value, a byte order mark, and a last event that nobody ended."""
    whole = (b"\xef\xbb\xbf" if mark else b"") + written(stream, end)
    whole = whole[: len(whole) - len(end) * ends_missing]
    found, rest = split(cut(whole, places))
    given_out = [data for event in [*found, rest] if (data := sse.data(event)) or has_data(event)]
    assert given_out == dispatched(whole)
    assert b"".join(found) + rest == whole


def has_data(event: bytes) -> bool:
    text = event.removeprefix(b"\xef\xbb\xbf").replace(b"\r", b"\n")
    return any(line.startswith(b"data:") for line in text.split(b"\n"))


def test_a_line_of_a_megabyte_is_refused_in_time_that_grows_with_its_length() -> None:
    """Each byte is looked at once, however many pieces it comes in."""
    limit = 2**20
    splitter = sse.Splitter(limit)
    for _ in range(limit // 64):
        assert splitter.feed(b"x" * 64) == b""
    with pytest.raises(sse.EventTooLong):
        splitter.feed(b"x")


def test_events_of_a_large_block_are_found_in_one_pass() -> None:
    for end in (b"\n\n", b"\r\n\r\n", b"\r\r"):
        event = b"data: x" + end
        assert list(sse.events(event * 50_000)) == [event] * 50_000
