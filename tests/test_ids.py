"""Request ids: UUIDs of version 7, so that they sort by time and tables are partitioned by them."""

import time
import uuid

from proxy.ids import request_id


def test_an_id_is_a_uuid_of_version_7_with_the_time_in_front() -> None:
    before = time.time_ns() // 1_000_000
    id = uuid.UUID(request_id())
    after = time.time_ns() // 1_000_000
    assert id.variant == uuid.RFC_4122
    assert id.version == 7
    assert before <= id.int >> 80 <= after


def test_ids_are_lower_case_and_never_twice() -> None:
    ids = [request_id() for _ in range(5_000)]
    assert len(set(ids)) == len(ids)
    assert all(str(uuid.UUID(id)) == id for id in ids)


def test_all_bits_behind_the_time_are_drawn() -> None:
    """No bit but version and variant stands still, so nobody guesses the next id."""
    seen_one = seen_zero = 0
    for _ in range(300):
        bits = uuid.UUID(request_id()).int & (1 << 80) - 1
        seen_one |= bits
        seen_zero |= ~bits
    fixed = (0xF << 76) | (0x3 << 62)
    assert seen_one & seen_zero & (1 << 80) - 1 == (1 << 80) - 1 - fixed
