"""What each further limit costs the server of Redis: CPU of its process per request, admitted and
settled, and how many requests one organisation, which is one shard, can have in a second.

    python -m bench.meters
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import redis

from bench import machine
from control.machine import servers
from control.machine.embedded import valkey
from proxy.redis.scripts import SCRIPTS, SHARD_KEYS

Client = redis.Redis
PASSWORD = "only-for-benchmarks"  # noqa: S105 - of a server that lives for seconds
AT = SHARD_KEYS[7]
KEY, ORG = AT.key("kkkkkkkkkk"), AT.organisation("0193e0aa-0000-7000-8000-000000000001")
PERSON = (
    AT.prefix + b"w:m:0193e0aa-0000-7000-8000-000000000001:0193e0aa-0000-7000-8000-000000000002"
)
OWNERS = (KEY, ORG, PERSON)
PLENTY, HELD, COST, TOKENS = 10**14, 300_000, 1_234, 280
EVENT = json.dumps({"o": "0193e0aa-0000-7000-8000-000000000001", "m": "openai/gpt-4o-mini", "n": 1})
BODY = "x" * 300  # as long as a record is: a hash with a long value is not kept as a list
BATCH, ROUNDS, TOGETHER = 100, 60, 5
DAY_MS = 86_400_000

#: Owner, meter, unit, amount, window: the order in which limits are added.
METERS = (
    (ORG, "pool", "pool", HELD, ""),
    (KEY, "par", "slot", 1, ""),
    (KEY, "l1", "call", 1, "~1000"),
    (KEY, "l2", "tok", TOKENS, "~1000"),
    (KEY, "bud", "ucr", HELD, ""),
    (PERSON, "bud", "ucr", HELD, ""),
    (ORG, "l3", "ucr", HELD, "day"),
    (ORG, "l4", "call", 1, "day"),
)
COUNTS = (1, 2, 4, 6, 8)


@dataclass(frozen=True, slots=True)
class Row:
    meters: int
    admit_us: float
    settle_us: float
    beside_two: float
    requests_per_second: int  # of one shard, with nothing but these two scripts


def measure(client: Client, pid: int, meters: Sequence[Any]) -> tuple[float, float]:
    """CPU of the server per call, us: the least of many rounds."""
    _fill(client)
    begin = int(time.time() * 1000) // DAY_MS * DAY_MS
    day = f"{begin}:{begin + DAY_MS}"
    words: list[Any] = []
    for owner, meter, unit, amount, window in meters:
        words += [5 + OWNERS.index(owner), meter, unit, amount, day if window else window]
        words += ["", int(unit == "pool")]
        if window.startswith("~"):
            words[-3] = window
    budgets = b" ".join(
        owner + f":{meter}".encode() + (f"@{unit}@{begin}".encode() if window else b"")
        for owner, meter, unit, _, window in meters
        if unit not in ("pool", "slot") and not window.startswith("~")
    )
    took = []
    for turn in range(ROUNDS):
        rids = [f"0193e0aa-{turn:04}-7000-8000-{nth:012}" for nth in range(BATCH)]
        start = _cpu_us(pid)
        fixed = (60_000, 1, 1, EVENT, 10**9, "", 0, 9, "")
        _calls(
            client,
            "admit",
            (AT.meta, AT.hold, AT.lease, AT.usage, *OWNERS),
            [(rid, *fixed, *words) for rid in rids],
        )
        middle = _cpu_us(pid)
        ended = ("settled", COST, ORG + b":pool", budgets, HELD, EVENT, 1, TOKENS)
        at = (AT.meta, AT.hold, AT.lease, AT.tomb, AT.usage)
        _calls(client, "settle", (*at, *OWNERS), [(rid, *ended) for rid in rids])
        took.append(((middle - start) / BATCH, (_cpu_us(pid) - middle) / BATCH))
    return min(a for a, _ in took), min(s for _, s in took)


def _calls(client: Client, name: str, keys: Sequence[bytes], calls: Sequence[Any]) -> None:
    """Some together, as they leave a busy worker."""
    for start in range(0, len(calls), TOGETHER):
        with client.pipeline(transaction=False) as pipe:
            for args in calls[start : start + TOGETHER]:
                pipe.evalsha(SCRIPTS[name].sha.decode(), len(keys), *keys, *args)
            replies = pipe.execute()
        assert all(reply[0] == b"OK" for reply in replies), replies[0]


def _fill(client: Client) -> None:
    client.flushdb()
    for script in SCRIPTS.values():
        client.script_load(script.text)
    client.hset(AT.meta, mapping={"gen": 1, "adjseq": 0})
    limits = {f"{meter}.l": PLENTY for _, meter, *_ in METERS}
    for owner in OWNERS:
        fields: dict[str, Any] = {
            "ver": 1,
            "st": "active",
            "body": BODY,
            "digest": "00",
            "exp": 0,
            **limits,
        }
        client.hset(owner, mapping=fields)  # type: ignore[arg-type]
    client.hset(ORG, "pool.b", PLENTY)


def _cpu_us(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1000


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.meters", description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="ocm-", dir="/tmp"))
    server = servers.start_valkey(folder / "data", folder / "run", PASSWORD)
    try:
        with redis.Redis.from_url(valkey.url_of(folder / "run", PASSWORD, 0)) as client:
            found = {count: measure(client, server.pid, METERS[:count]) for count in COUNTS}
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    two = sum(found[2])
    rows = [
        Row(count, round(a, 1), round(s, 1), round((a + s) / two, 2), int(1e6 / (a + s)))
        for count, (a, s) in found.items()
    ]
    where = machine.describe()
    if options.json:
        print(json.dumps({"machine": asdict(where), "rows": [asdict(row) for row in rows]}))
        return 0
    for row in rows:
        print(" ".join(f"{name} {value};" for name, value in asdict(row).items()))
    print(" ".join(f"{name} {value};" for name, value in asdict(where).items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
