"""A Redis of one process: only the commands that the scripts and the books use, with Redis' own
errors. Each write is logged, so that a restart can lose the newest of them as `everysec` does.
"""

from collections.abc import Callable, Sequence
from typing import Any

from tests.simulation.streams import xadd, xgroup, xlen, xrange, xrevrange, xsetid, xtrim
from tests.simulation.values import (
    INT_MAX,
    RedisError,
    Reply,
    Sorted,
    Stream,
    number,
    whole,
    wrong_type,
)

Unit = tuple[int, list[tuple[bytes, tuple[bytes, ...]]]]  # when, and what one script wrote


class Memory:
    """The data of one server, and the log from which it can be made again."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.clock = clock  # milliseconds
        self.run_id = b"a" * 40
        self.data: dict[bytes, Any] = {}
        self.log: list[Unit] = []
        self.unit: list[tuple[bytes, tuple[bytes, ...]]] | None = None

    def call(self, name: bytes, *args: bytes) -> Reply:
        command = COMMANDS.get(name)
        if command is None:
            raise RedisError(f"ERR unknown command {name!r}")
        try:
            reply = command(self, *args)
        except TypeError:
            raise RedisError(f"ERR wrong number of arguments for {name!r}") from None
        if name in WRITES:
            if name == b"XADD":
                at = args.index(b"*") if b"*" in args else 1
                args = (*args[:at], reply, *args[at + 1 :])
            if self.unit is None:
                self.log.append((self.clock(), [(name, args)]))
            else:
                self.unit.append((name, args))
        return reply

    def begin(self) -> None:
        """A script begins: its writes are lost together or not at all."""
        self.unit = []

    def end(self) -> None:
        if self.unit:
            self.log.append((self.clock(), self.unit))
        self.unit = None

    def forget(self, count: int) -> None:
        """Makes the data again without the newest `count` units of the log."""
        kept = self.log[: len(self.log) - count] if count else self.log
        self.data, self.log = {}, []
        for at, unit in kept:
            for name, args in unit:
                COMMANDS[name](self, *args)
            self.log.append((at, unit))

    def wipe(self) -> None:
        self.data, self.log = {}, []

    # data -------------------------------------------------------------------------

    def hash(self, key: bytes) -> dict[bytes, bytes]:
        found = self.data.get(key, EMPTY)
        if type(found) is not dict:
            raise wrong_type()
        return found

    def sorted(self, key: bytes) -> Sorted:
        found = self.data.get(key, NONE_SORTED)
        if type(found) is not Sorted:
            raise wrong_type()
        return found

    def stream(self, key: bytes) -> Stream | None:
        found = self.data.get(key)
        if found is not None and type(found) is not Stream:
            raise wrong_type()
        return found

    def tidy(self, key: bytes) -> None:
        if not self.data.get(key, True):
            del self.data[key]


EMPTY: dict[bytes, bytes] = {}
NONE_SORTED = Sorted()


# hashes ---------------------------------------------------------------------------


def hget(redis: Memory, key: bytes, field: bytes) -> Reply:
    return redis.hash(key).get(field)


def hmget(redis: Memory, key: bytes, *fields: bytes) -> Reply:
    return list(map(redis.hash(key).get, fields))


def hset(redis: Memory, key: bytes, *pairs: bytes) -> Reply:
    if len(pairs) % 2 or not pairs:
        raise RedisError("ERR wrong number of arguments for 'hset' command")
    found = redis.hash(key)
    if found is EMPTY:
        found = redis.data[key] = {}
    before = len(found)
    found.update(zip(pairs[::2], pairs[1::2], strict=True))
    return len(found) - before


def hincrby(redis: Memory, key: bytes, field: bytes, by: bytes) -> Reply:
    change = number(by, "value")
    found = redis.hash(key)
    before = found.get(field, b"0")
    if not whole(before) or not -INT_MAX - 1 <= int(before) <= INT_MAX:
        raise RedisError("ERR hash value is not an integer")
    after = int(before) + change
    if not -INT_MAX - 1 <= after <= INT_MAX:
        raise RedisError("ERR increment or decrement would overflow")
    if found is EMPTY:
        found = redis.data[key] = {}
    found[field] = b"%d" % after
    return after


def hdel(redis: Memory, key: bytes, *fields: bytes) -> Reply:
    found = redis.hash(key)
    gone = sum(found.pop(field, None) is not None for field in fields)
    redis.tidy(key)
    return gone


def hexists(redis: Memory, key: bytes, field: bytes) -> Reply:
    return int(field in redis.hash(key))


def hlen(redis: Memory, key: bytes) -> Reply:
    return len(redis.hash(key))


def hgetall(redis: Memory, key: bytes) -> Reply:
    return [word for pair in redis.hash(key).items() for word in pair]


def hkeys(redis: Memory, key: bytes) -> Reply:
    return list(redis.hash(key))


# sorted sets ------------------------------------------------------------------------


def zadd(redis: Memory, key: bytes, *pairs: bytes) -> Reply:
    found = redis.sorted(key)
    try:
        scores = [(member, float(score)) for score, member in zip(*[iter(pairs)] * 2, strict=True)]
    except ValueError:
        raise RedisError("ERR value is not a valid float") from None
    if found is NONE_SORTED:
        found = redis.data[key] = Sorted()
    before = len(found)
    found.update(scores)
    return len(found) - before


def zrem(redis: Memory, key: bytes, *members: bytes) -> Reply:
    found = redis.sorted(key)
    gone = sum(found.pop(member, None) is not None for member in members)
    redis.tidy(key)
    return gone


def zscore(redis: Memory, key: bytes, member: bytes) -> Reply:
    score = redis.sorted(key).get(member)
    return None if score is None else b"%.17g" % score


def zcard(redis: Memory, key: bytes) -> Reply:
    return len(redis.sorted(key))


def zrangebyscore(redis: Memory, key: bytes, low: bytes, high: bytes, *limit: bytes) -> Reply:
    first, last = float(low), float(high)
    hits = sorted((s, m) for m, s in redis.sorted(key).items() if first <= s <= last)
    start, count = (int(limit[1]), int(limit[2])) if limit else (0, -1)
    return [member for _, member in hits[start : None if count < 0 else start + count]]


def zcount(redis: Memory, key: bytes, low: bytes, high: bytes) -> Reply:
    return len(zrangebyscore(redis, key, low, high))


def zremrangebyscore(redis: Memory, key: bytes, low: bytes, high: bytes) -> Reply:
    return zrem(redis, key, *zrangebyscore(redis, key, low, high))


# keys -------------------------------------------------------------------------------


def exists(redis: Memory, *keys: bytes) -> Reply:
    return sum(key in redis.data for key in keys)


def delete(redis: Memory, *keys: bytes) -> Reply:
    return sum(redis.data.pop(key, None) is not None for key in keys)


def set_text(redis: Memory, key: bytes, value: bytes) -> Reply:
    redis.data[key] = value
    return b"OK"


def time(redis: Memory) -> Reply:
    now = redis.clock()
    return [b"%d" % (now // 1000), b"%d" % (now % 1000 * 1000)]


def info(redis: Memory, *_: bytes) -> Reply:
    return b"# Server\r\nrun_id:%s\r\nuptime_in_seconds:1\r\n" % redis.run_id


def pexpire(redis: Memory, key: bytes, _: bytes) -> Reply:
    """Lives are longer than any simulation."""
    return int(key in redis.data)


def persist(redis: Memory, key: bytes) -> Reply:
    """Nothing has a life that could end."""
    return 0


READS: dict[bytes, Callable[..., Reply]] = {
    **{b"HGET": hget, b"HMGET": hmget, b"HEXISTS": hexists, b"HLEN": hlen, b"HKEYS": hkeys},
    **{b"HGETALL": hgetall, b"ZSCORE": zscore, b"ZCARD": zcard, b"ZRANGEBYSCORE": zrangebyscore},
    **{b"XLEN": xlen, b"XRANGE": xrange, b"XREVRANGE": xrevrange, b"EXISTS": exists, b"TIME": time},
    **{b"INFO": info, b"PEXPIRE": pexpire, b"ZCOUNT": zcount, b"PERSIST": persist},
}
WRITES: dict[bytes, Callable[..., Reply]] = {
    **{b"HSET": hset, b"HINCRBY": hincrby, b"HDEL": hdel, b"ZADD": zadd, b"ZREM": zrem},
    **{b"XADD": xadd, b"XTRIM": xtrim, b"XSETID": xsetid, b"XGROUP": xgroup},
    **{b"DEL": delete, b"SET": set_text, b"ZREMRANGEBYSCORE": zremrangebyscore},
}
COMMANDS = READS | WRITES


KEYLESS = frozenset({b"TIME", b"INFO"})


def words(args: Sequence[bytes | str | int]) -> list[bytes]:
    return [a if isinstance(a, bytes) else str(a).encode() for a in args]
