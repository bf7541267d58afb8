"""The ledger far behind: PostgreSQL away while proxies serve, a long backlog, its ceiling, and how
a drain shares a batch among the shards.
"""

import pytest

from control.books.streams import portions


@pytest.mark.parametrize(
    ("waiting", "most", "shares"),
    [
        ({}, 10, {}),
        ({1: 0, 2: 0}, 10, {}),
        ({1: 3}, 10, {1: 3}),
        ({1: 300}, 10, {1: 10}),
        ({1: 300, 2: 300}, 10, {1: 5, 2: 5}),
        # what short streams leave over goes to the longer ones
        ({1: 300, 2: 1, 3: 0, 4: 3}, 10, {1: 6, 2: 1, 4: 3}),
        # nobody is kept out
        ({1: 9, 2: 9, 3: 9}, 2, {1: 1, 2: 1, 3: 1}),
    ],
)
def test_a_batch_is_shared_among_the_shards(
    waiting: dict[int, int], most: int, shares: dict[int, int]
) -> None:
    """One busy shard may fill it; the others never wait for it."""
    assert portions(waiting, most) == shares
