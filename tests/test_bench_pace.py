"""How late pieces are: counted by content, whatever a gateway wraps around it or merges."""

import pytest

from bench.pace import lateness

ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
PIECE = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
END = b'data: {"choices":[],"usage":{}}\n\ndata: [DONE]\n\n'
BODY = ROLE + PIECE + PIECE + PIECE + END


def ends(*counts: int) -> list[int]:
    """Bytes there when so many pieces are."""
    return [len(ROLE) + count * len(PIECE) for count in counts]


def test_a_stream_on_time_is_late_by_its_first_byte() -> None:
    reads = list(zip((0.5, 0.6, 0.7), ends(1, 2, 3), strict=True))
    assert list(lateness(reads, BODY, 0.1)) == pytest.approx([0.5, 0.5, 0.5])


def test_what_was_held_back_counts_for_each_piece() -> None:
    """One read with all three: the first waited longest."""
    assert list(lateness([(0.7, len(BODY))], BODY, 0.1)) == pytest.approx([0.7, 0.6, 0.5])


def test_a_piece_is_there_with_its_last_byte() -> None:
    first, second, third = ends(1, 2, 3)
    reads = [(0.5, first), (0.55, second - 1), (0.6, second), (0.7, third)]
    assert list(lateness(reads, BODY, 0.1)) == pytest.approx([0.5, 0.5, 0.5])
