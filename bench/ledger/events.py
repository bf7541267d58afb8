"""Requests that have ended, made by the product's own scripts: admitted, settled, waiting in the
streams for the ledger. What a proxy does, without the proxy.
"""

from collections.abc import Sequence

import orjson

from bench.ledger.place import Caller
from control.store import Call, Store
from proxy.ids import request_id
from proxy.redis.scripts import SHARD_KEYS

AT_ONCE = 1_000  # requests per trip to Redis
TOKENS = {"input": 150, "cache_read": 50, "output": 80}
COST_UCR, HELD_UCR, LEASE_MS, BACKLOG_MAX = 360_000, 2_000_000, 60_000, 10_000_000


async def fill(store: Store, callers: Sequence[Caller], count: int) -> None:
    """`count` requests of these callers in turn."""
    made = 0
    while made < count:
        chosen = [callers[(made + n) % len(callers)] for n in range(min(AT_ONCE, count - made))]
        pairs = [_request(caller) for caller in chosen]
        for calls in zip(*pairs, strict=True):
            for reply in await store.run_all(calls):
                if reply[0] != b"OK":
                    raise RuntimeError(f"Redis refused a request of the bench: {reply}")
        made += len(chosen)


def _request(caller: Caller) -> tuple[Call, Call]:
    """Admission and settlement of one request, as proxy/redis/shards.py sends them."""
    at, rid = SHARD_KEYS[caller.key.shard], request_id()
    key, owner = at.key(caller.key.kid), at.organisation(str(caller.organisation))
    known = {
        "o": str(caller.organisation),
        "k": caller.key.kid,
        "u": str(caller.person),
        "m": "ops/echo",
        "v": 1,
        "e": None,
        "j": None,
        "i": "0123456789abcdef",
    }
    told = {"p": "ops", "d": 1, "n": 1, "t": TOKENS, "s": "provider", "r": "", "ms": 731}
    meters = (6, "pool", "pool", HELD_UCR, "", "", 1)
    words = (rid, LEASE_MS, 1, 1, orjson.dumps(known), BACKLOG_MAX, "", 0, 9, "", *meters)
    admit: Call = ("admit", [at.meta, at.hold, at.lease, at.usage, key, owner], words)
    event = orjson.dumps(known | told)
    ended = (
        rid,
        "settled",
        COST_UCR,
        owner + b":pool",
        "",
        HELD_UCR,
        event,
        1,
        sum(TOKENS.values()),
    )
    settle: Call = ("settle", [at.meta, at.hold, at.lease, at.tomb, at.usage, owner], ended)
    return admit, settle
