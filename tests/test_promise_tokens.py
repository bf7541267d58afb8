"""P16: a limit of tokens counts before and not after: what a request will likely take is set aside,
and what it took is counted in its place.
"""

import random
from collections import deque

from tests.test_lua_windows import AT, KEY, PART_MS, PARTS, Clocked, rate

LIMIT, RESERVED, MINUTE_MS = 30_000, 70, PARTS * PART_MS
REQUESTS, EVERY_MS, LATENCY_MS = 5_000, 40, (100, 1_000)
ERROR = 0.02  # of the limit


def test_p16_tpm() -> None:
    """Offered is more than twice the limit: no minute ever sees more, nothing is refused while more
    than 2 % of it is left, and at rest the count is exact."""
    rng, here = random.Random(16), Clocked()
    here.put(KEY, **{"l1.l": str(LIMIT)})
    taken, refused = list[tuple[int, int]](), 0
    running: deque[tuple[int, str, int]] = deque()
    for nth in range(REQUESTS):
        here.now += EVERY_MS
        while running and running[0][0] <= here.now:
            _, rid, tokens = running.popleft()
            here.settle(rid, tokens=tokens)
        here.memory.data.pop(AT.usage, None)  # booked
        answer = here.admit(rate(RESERVED, "tok"), rid=f"r{nth}")
        if answer[0] == b"OK":
            tokens = rng.randint(40, RESERVED)
            taken.append((here.now, tokens))
            running.append((here.now + rng.randint(*LATENCY_MS), f"r{nth}", tokens))
        else:
            refused += answer[0] == b"LIMIT"
            assert _counting(taken, here.now) >= LIMIT * (1 - ERROR) - RESERVED
    for _, rid, tokens in running:
        here.settle(rid, tokens=tokens)
    assert refused > REQUESTS // 3
    assert max(_within(taken, end) for end, _ in taken) <= LIMIT
    assert here.get(KEY, "l1.u") == _counting(taken, here.now)


def _counting(taken: list[tuple[int, int]], now: int) -> int:
    """Tokens of the parts that count now."""
    return sum(tokens for at, tokens in taken if at // PART_MS >= now // PART_MS - PARTS)


def _within(taken: list[tuple[int, int]], end: int) -> int:
    """Tokens of the minute that ends then."""
    return sum(tokens for at, tokens in taken if end - MINUTE_MS < at <= end)
