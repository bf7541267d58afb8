"""The commands of streams."""

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from tests.simulation.values import SID_MAX, RedisError, Reply, Sid, Stream, number, sid, sid_text

if TYPE_CHECKING:
    from tests.simulation.memory import Memory


def _edge(text: bytes, missing: int) -> tuple[Sid, bool]:
    if text in (b"-", b"+"):
        return ((0, 0) if text == b"-" else SID_MAX), False
    return sid(text.lstrip(b"("), missing), text.startswith(b"(")


def xadd(redis: "Memory", key: bytes, *words: bytes) -> Reply:
    limit = None
    if words[0].upper() == b"MAXLEN":
        skip = 2 if words[1] not in (b"~", b"=") else 3
        limit, words = number(words[skip - 1], "value"), words[skip:]
    name, fields = words[0], words[1:]
    if len(fields) % 2 or not fields:
        raise RedisError("ERR wrong number of arguments for 'xadd' command")
    stream = redis.stream(key)
    last = stream.last if stream else (0, 0)
    if name == b"*":
        now = redis.clock()
        new = (now, 0) if now > last[0] else (last[0], last[1] + 1)
    else:
        new = sid(name)
        if new <= last:
            raise RedisError("ERR The ID specified in XADD is equal or smaller than the top item")
    if stream is None:
        stream = redis.data[key] = Stream()
    stream.sids.append(new)
    stream.fields.append(list(fields))
    stream.last = new
    if limit is not None and len(stream.sids) > limit:
        _cut(stream, len(stream.sids) - limit)
    return sid_text(new)


def xlen(redis: "Memory", key: bytes) -> Reply:
    stream = redis.stream(key)
    return len(stream.sids) if stream else 0


def xrange(redis: "Memory", key: bytes, low: bytes, high: bytes, *count: bytes) -> Reply:
    stream = redis.stream(key)
    if stream is None:
        return []
    (first, after), (last, before) = _edge(low, 0), _edge(high, SID_MAX[1])
    start = bisect_right(stream.sids, first) if after else bisect_left(stream.sids, first)
    end = bisect_left(stream.sids, last) if before else bisect_right(stream.sids, last)
    if count:
        end = min(end, start + int(count[1]))
    return [[sid_text(stream.sids[at]), list(stream.fields[at])] for at in range(start, end)]


def xrevrange(redis: "Memory", key: bytes, high: bytes, low: bytes, *count: bytes) -> Reply:
    found = xrange(redis, key, low, high)[::-1]
    return found[: int(count[1])] if count else found


def xtrim(redis: "Memory", key: bytes, how: bytes, edge: bytes) -> Reply:
    stream = redis.stream(key)
    if stream is None:
        return 0
    if how.upper() == b"MAXLEN":
        return _cut(stream, max(0, len(stream.sids) - int(edge)))
    return _cut(stream, bisect_left(stream.sids, sid(edge)))


def _cut(stream: Stream, count: int) -> int:
    del stream.sids[:count], stream.fields[:count]
    return count


def xsetid(redis: "Memory", key: bytes, name: bytes) -> Reply:
    stream, new = redis.stream(key), sid(name)
    if stream is None:
        raise RedisError("ERR no such key")
    if stream.sids and new < stream.sids[-1]:
        raise RedisError(
            "ERR The ID specified in XSETID is smaller than the target stream top item"
        )
    stream.last = new
    return b"OK"


def xgroup(redis: "Memory", verb: bytes, key: bytes, *_: bytes) -> Reply:
    """Only what makes an empty stream: groups themselves are not kept."""
    if verb == b"CREATE" and redis.stream(key) is None:
        redis.data[key] = Stream()
    return b"OK" if verb == b"CREATE" else 1
