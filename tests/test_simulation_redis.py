"""The simulation's Redis against a real one: random calls of every script, then the same replies
and the same keys on both sides.
"""

import random
from collections.abc import Sequence
from typing import Any

import pytest
import redis as client

from proxy.redis.scripts import SCRIPTS
from tests.simulation.lua import Scripts, product_texts
from tests.simulation.memory import Memory, words
from tests.simulation.proxy import JOB, KEYS, MADE, ORGANISATIONS, POOLS
from tests.simulation.values import RedisError, Sorted, Stream
from tests.simulation.world import AT

CALLS = 1_500
OWNERS = [*KEYS, *map(AT.organisation, ORGANISATIONS)]
CORE = [AT.meta, AT.hold, AT.lease]
OUT = [AT.meta, AT.hold, AT.out]
RESERVED = ("move:a", "move:b")
RIDS = [f"r{nth}" for nth in range(8)]
AMOUNTS = ("0", "1", "7", "300", "9000000000000000", "-0", "-5", "nan", "1.5", "01", "", "1e3")
USUAL = AMOUNTS[:4]
RUBBISH = ("nan", "-0", "1.5", "9223372036854775807", "x", "")


class Pair:
    """Both sides; every call goes to both and must be answered alike."""

    def __init__(self, url: str, rng: random.Random) -> None:
        self.rng = rng
        # replies as they are, which its types do not know
        self.real: Any = client.Redis.from_url(url, protocol=2)
        self.real.response_callbacks.clear()
        self.model = Memory(self._now)
        self.scripts = Scripts(product_texts())
        self.clock = 1_800_000_000_000

    def _now(self) -> int:
        return self.clock

    def both(self, real: Any, model: Any, what: object) -> Any:
        """The model's clock is set to the moment that the server saw."""
        replies: list[Any] = []
        for call, problems in ((real, client.ResponseError), (model, RedisError)):
            try:
                replies.append(_timeless(call()))
            except problems as problem:
                replies.append(_kind(str(problem)))
        assert replies[0] == replies[1], (what, replies)
        return replies[0]

    def command(self, *args: Any) -> Any:
        name, *rest = words(args)
        return self.both(
            lambda: self.real.execute_command(*args), lambda: self.model.call(name, *rest), args
        )

    def script(self, name: str, keys: Sequence[bytes], *args: Any) -> Any:
        given = words(args)
        return self.both(
            lambda: self.real.eval(SCRIPTS[name].text, len(keys), *keys, *given),
            lambda: self.scripts.run(self.model, name, list(keys), given),
            (name, keys, args),
        )

    def amount(self) -> str:
        return self.rng.choice(USUAL if self.rng.random() < 0.8 else AMOUNTS)


def _timeless(reply: Any) -> Any:
    """A refusal ends with the server's time."""
    refused = isinstance(reply, list) and reply[:1] == [b"LIMIT"]
    return reply[:-1] if refused else reply


def _kind(message: str) -> str:
    return "WRONGTYPE" if "WRONGTYPE" in message or "wrong kind" in message else "ERR"


def contents_of_real(real: Any) -> dict[bytes, Any]:
    read = {b"hash": ("HGETALL",), b"zset": ("ZRANGE", 0, -1, "WITHSCORES"), b"string": ("GET",)}
    found: dict[bytes, Any] = {}
    for name in real.execute_command("KEYS", "*"):
        kind = real.execute_command("TYPE", name)
        if kind == b"stream":
            rows = real.execute_command("XRANGE", name, "-", "+")
            found[name] = [fields for _, fields in rows]  # ids are the server's clock
            continue
        verb, *rest = read[kind]
        value = real.execute_command(verb, name, *rest)
        flat = value if isinstance(value, list) else [value]
        pairs = sorted(zip(flat[::2], flat[1::2], strict=False))
        found[name] = [key for key, _ in pairs] if kind == b"zset" else pairs or value
    return found


def contents_of_model(model: Memory) -> dict[bytes, Any]:
    found: dict[bytes, Any] = {}
    for name, value in model.data.items():
        if isinstance(value, Stream):
            found[name] = value.fields
        elif isinstance(value, Sorted):
            found[name] = sorted(value)  # ends of leases are the server's clock
        else:
            found[name] = sorted(value.items()) if isinstance(value, dict) else value
    return found


ENDLESS_ROLLING = ("~9000000000000", "600")  # both clocks are in its first part


def call_something(pair: Pair) -> None:
    rng = pair.rng
    rid, key, organisation = rng.choice(RIDS), rng.choice(list(KEYS)), rng.choice(OWNERS[-2:])
    owners = [key, organisation, JOB]
    match rng.choice(("admit", "admit", "renew", "settle", "settle", "reap", "ack", *OTHERS)):
        case "admit":
            ceiling = rng.choice(("", "500", "500", "x"))
            windows = rng.choice((("", ""), ("", ""), ("0:9999999999999", ""), ENDLESS_ROLLING))
            meters: tuple[Any, ...] = (6, "pool", "pool", pair.amount(), "", "", 1)
            meters += (5, "par", "slot", 1, "", "", 0)
            meters += (5, "l1", rng.choice(("call", "tok", "ucr")), pair.amount(), *windows, 0)
            meters += (7, "bud", "ucr", 0, "", ceiling, 0)
            args = (rid, 60_000, rng.choice((1, 1, 1, 2)), 1, "{}", rng.choice((3, 900)), ceiling)
            made = rng.choice(((0, 9, ""), (1, 9, "70000"), (1, 1, "70000")))
            keys = [*CORE, AT.usage, *owners, MADE]
            count = rng.choice((7, 14, 21, 28, 27))
            pair.script("admit", keys, *args, *made, *meters[:count])
        case "renew":
            row = (rid, 4, 5, pair.amount(), pair.amount())
            pair.script("renew", [*CORE, *owners], 60_000, *row, *row)
        case "settle":
            keys = [*CORE, AT.tomb, AT.usage, *owners]
            pool, budget = organisation + b":pool", key + b":bud"
            pair.script("settle", keys, rid, "settled", pair.amount(), pool, budget, 5, "{}", 1, 7)
        case "reap":
            pair.command("ZADD", AT.lease, 1, rid)
            keys = [*CORE, AT.tomb, AT.usage, *OWNERS, JOB]
            pair.script("reap", keys, rid, rng.choice(RIDS))
        case "ack":
            keep = rng.choice(("0-1", "9999999999999-0"))
            pair.script("ack", [AT.meta, AT.usage, AT.tomb], 1, "5-1", keep, *RIDS[:4])
        case "adjust":
            seq = int(pair.model.hash(AT.meta).get(b"adjseq", b"0")) + rng.choice((1, 1, 2))
            delta, column = rng.choice(("5", "-5", pair.amount())), rng.choice(("pool.b", "bud.u"))
            ends = rng.choice(("", "", *RESERVED))
            change = (7, column, delta, rng.choice((0, 0, 5)), ends)
            pair.script("adjust", [*OUT, *OWNERS], 1, seq, seq, *change)
        case "reserve":
            outflow = rng.choice(RESERVED)
            pair.script("reserve", [*OUT, organisation], outflow, "pool", pair.amount())
        case "release":
            outflow, known = rng.choice(RESERVED), rng.choice((0, 0, 900, "x"))
            pair.script("release", [*OUT, organisation], outflow, known)
        case "resync":
            rows = [word for nth in (4, 5) for word in (nth, "pool", "pool", pair.amount(), 0)]
            keys = [AT.meta, AT.hold, AT.usage, *OWNERS[-2:]]
            pair.script("resync", keys, "0-0", 3, *rows)
        case "publish":
            version = rng.choice((0, 1, 1, 1, 2))
            limits = ("par.l", 5, "bud.l", 4_000)
            fields = ("st", "active", "digest", "00", "exp", "0", "body", "{}", *limits)
            pair.script("publish", [rng.choice(OWNERS)], version, *fields)
        case "compare":
            keys = [AT.meta, AT.hold, AT.usage, *OWNERS]
            pair.script("compare", keys, "0-0", 7, "pool", "pool", 0, 4, "bud", "ucr", 0)
        case "rubbish":
            if rng.random() < 0.3:
                field = rng.choice(("pool.b", "pool.h", "par.h", "bud.u"))
                pair.command("HSET", rng.choice(owners), field, rng.choice(RUBBISH))
        case "mend":
            for name in OWNERS:
                pair.command("HDEL", name, "pool.b", "pool.h", "par.h", "bud.h", "bud.u")
            pair.command("DEL", AT.hold, AT.lease, AT.out)
            fill(pair)
        case "wrong type":
            if rng.random() < 0.3:
                name = rng.choice([*CORE, AT.tomb, AT.usage, AT.out, *owners])
                pair.command("DEL", name)
                pair.command("SET", name, "rubbish")
                call_something(pair)
                pair.command("DEL", name)
                fill(pair)


OTHERS = (
    "adjust",
    "reserve",
    "release",
    "resync",
    "publish",
    "compare",
    "rubbish",
    "mend",
    "wrong type",
)


def fill(pair: Pair) -> None:
    pair.command("HSET", AT.meta, "gen", 1)
    limits = ("par.l", 5, "bud.l", 4_000)
    for name in OWNERS:
        pair.command("HSET", name, "ver", 1, "st", "active", "body", "{}", "digest", "00", *limits)
    for pool in POOLS:
        pair.command("HSET", AT.prefix + pool.rpartition(":")[0].encode(), "pool.b", 1_000)


@pytest.mark.parametrize("seed", range(3))
def test_the_simulated_redis_answers_and_keeps_what_a_real_one_does(
    redis_url: str, seed: int
) -> None:
    pair = Pair(redis_url, random.Random(seed))
    fill(pair)
    for nth in range(CALLS):
        call_something(pair)
        if nth % 50 == 0:
            assert contents_of_real(pair.real) == contents_of_model(pair.model)
    assert contents_of_real(pair.real) == contents_of_model(pair.model)
    pair.real.close()


COMMANDS = [
    ("HINCRBY", "h", "f", "-0"),
    ("HINCRBY", "h", "f", "+1"),
    ("HINCRBY", "h", "f", "01"),
    ("HINCRBY", "h", "f", " 1"),
    ("HINCRBY", "h", "f", "1.0"),
    ("HINCRBY", "h", "f", "9223372036854775807"),
    ("HINCRBY", "h", "f", "1"),
    ("HINCRBY", "h", "f", "-9223372036854775808"),
    ("HINCRBY", "h", "f", "9223372036854775808"),
    ("HSET", "h", "g", "x"),
    ("HINCRBY", "h", "g", "1"),
    ("ZADD", "h", "1", "m"),
    ("ZADD", "z", "x", "m"),
    ("ZADD", "z", "2", "m", "1", "n"),
    ("ZRANGEBYSCORE", "z", "-inf", "1"),
    ("ZRANGEBYSCORE", "z", "-inf", "9", "LIMIT", "1", "1"),
    ("ZSCORE", "z", "m"),
    ("XADD", "s", "5-1", "a", "1"),
    ("XADD", "s", "5-1", "a", "1"),
    ("XADD", "s", "5-2", "b", "2"),
    ("XRANGE", "s", "(5-1", "+"),
    ("XRANGE", "s", "-", "5-1"),
    ("XRANGE", "s", "5", "5"),
    ("XREVRANGE", "s", "+", "-", "COUNT", "1"),
    ("XSETID", "s", "4-0"),
    ("XSETID", "s", "9-0"),
    ("XADD", "s", "8-0", "c", "3"),
    ("XTRIM", "s", "MINID", "5-2"),
    ("XLEN", "s"),
    ("XTRIM", "s", "MINID", "10-0"),
    ("EXISTS", "s"),
    ("XADD", "s", "9-0", "c", "3"),
    ("HDEL", "h", "f", "g"),
    ("EXISTS", "h"),
    ("HGETALL", "z"),
    ("XLEN", "none"),
    ("XSETID", "none", "1-0"),
]


def test_each_command_answers_as_the_real_one_at_its_edges(redis_url: str) -> None:
    pair = Pair(redis_url, random.Random(0))
    for command in COMMANDS:
        pair.command(*command)
    pair.real.close()
