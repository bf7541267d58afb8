"""Settlements that are sent again: never more than the ledger can take, because what it has already
is work for it, too, and one that is only slow would never catch up.
"""

from collections.abc import Callable, Iterable

from proxy.machine.journal import Journal
from proxy.redis.shards import Shards

WAITING_MAX = 1_000  # entries of a shard that wait for the ledger; with more, nothing is sent again
SENT_AT_ONCE = 500


async def send_again(
    shards: Shards, journal: Journal, send: Callable[[str], None], rids: Iterable[str]
) -> list[str]:
    """Sends what there is room for; those that must wait."""
    rooms, sent, left = dict[int, int](), 0, list[str]()
    for rid in rids:
        entry = journal.entries.get(rid)
        if entry is None or entry.used is None:  # it has been confirmed meanwhile
            continue
        shard = entry.admitted.shard
        if shard not in rooms:
            rooms[shard] = WAITING_MAX - await shards.waiting(shard)
        if rooms[shard] > 0 and sent < SENT_AT_ONCE:
            rooms[shard] -= 1
            sent += 1
            send(rid)
        else:
            left.append(rid)
    return left
