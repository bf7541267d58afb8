"""Admit and settle on the Valkey that comes with the product, against a fixed script on it.

Commands leave in one write, packed before, so that the server's time is what counts.
"""

import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import hiredis
import pytest

from bench.micro.conftest import Measure
from bench.micro.gate import fastest, nothing
from control.machine import servers
from proxy.redis.scripts import SCRIPTS, SHARD_KEYS

Command = tuple[str | bytes | int, ...]
BATCH = 20
PASSWORD = "only-for-this-run"  # noqa: S105 - of a server that lives as long
AT = SHARD_KEYS[7]
KEY, ORG = AT.key("kkkkkkkkkk"), AT.organisation("o")
PERSON = AT.prefix + b"m:person"
OWNERS = (KEY, ORG, PERSON)
ADMIT_KEYS = (AT.meta, AT.hold, AT.lease, AT.usage, *OWNERS)
SETTLE_KEYS = (AT.meta, AT.hold, AT.lease, AT.tomb, AT.usage, *OWNERS)
LOTS = 10**12
HELD, COST = 300_000, 1_234
FILLS = 5  # commands that make the shard
METERS = (  # place of the owner among admit's keys, meter, unit, amount
    (6, "pool", "pool", HELD),
    (6, "par", "slot", 1),
    (6, "bud", "ucr", HELD),
    (5, "par", "slot", 1),
    (5, "bud", "ucr", HELD),
    (7, "bud", "ucr", HELD),
)
EVENT = '{"o":"o","k":"kkkkkkkkkk","m":"openai/m","t":{"input":1200,"output":340}}'
#: Never change it: all ratios would be others.
REFERENCE = """
local t = {}
for i = 1, 100 do t[i % 7] = tostring(i) end
for i = 1, 10 do redis.call('HGET', KEYS[1], 'x') end
return 'OK'
"""


class Server:
    """A connection on which whole batches travel."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._reader = hiredis.Reader()
        assert self.send([("AUTH", PASSWORD)]) == [b"OK"]

    def send(self, commands: Sequence[Command]) -> list[object]:
        return self.exchange(packed(commands), len(commands))

    def exchange(self, data: bytes, replies: int) -> list[object]:
        self._socket.sendall(data)
        found: list[object] = []
        while len(found) < replies:
            reply = self._reader.gets()
            if reply is False:
                self._reader.feed(self._socket.recv(65_536))
            else:
                found.append(reply)
        return found

    def close(self) -> None:
        self._socket.close()


def packed(commands: Sequence[Command]) -> bytes:
    return b"".join(map(hiredis.pack_command, commands))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="ocm-"))
    valkey = servers.start_valkey(folder / "data", folder / "run", PASSWORD)
    connection = Server(folder / "run" / "valkey.sock")
    for script in SCRIPTS.values():
        connection.send([("SCRIPT", "LOAD", script.text)])
    yield connection
    connection.close()
    valkey.stop()
    shutil.rmtree(folder)


@pytest.fixture
def fill(server: Server) -> bytes:
    """What makes the shard as it is before each batch: a key, an organisation and their limits."""
    limits = ("par.l", LOTS, "par.u", 0, "par.h", 0, "bud.l", LOTS, "bud.u", 0, "bud.h", 0)
    state = ("ver", 1, "st", "active", "body", "{}")
    return packed([
        ("FLUSHDB",),
        ("HSET", AT.meta, "gen", 1, "adjseq", 0),
        ("HSET", KEY, *state, "digest", "00", "exp", 0, *limits),
        ("HSET", ORG, *state, *limits, "pool.b", LOTS),
        ("HSET", PERSON, *limits),
    ])  # fmt: skip


def admit(rid: str) -> Command:
    words = [word for meter in METERS for word in (*meter, "", "", 0)]
    fixed = (rid, 60_000, 1, 1, "{}", 1_000_000, "", 0, 9, "")
    return ("EVALSHA", SCRIPTS["admit"].sha, len(ADMIT_KEYS), *ADMIT_KEYS, *fixed, *words)


def settle(rid: str) -> Command:
    budgets = b" ".join(owner + b":bud" for owner in OWNERS)
    fixed = (rid, "settled", COST, ORG + b":pool", budgets, HELD, EVENT, 1, 280)
    return ("EVALSHA", SCRIPTS["settle"].sha, len(SETTLE_KEYS), *SETTLE_KEYS, *fixed)


def test_twenty_admitted_and_settled(measure: Measure, server: Server, fill: bytes) -> None:
    """Six meters each: credits, three budgets, two limits of requests at one time."""
    rids = [f"01234567-89ab-cdef-0123-{nth:012}" for nth in range(BATCH)]
    plain = packed([("EVAL", REFERENCE, 1, AT.meta)] * BATCH)
    batch = packed([admit(rid) for rid in rids] + [settle(rid) for rid in rids])

    def both() -> list[object]:
        return server.exchange(batch, 2 * BATCH)

    server.exchange(fill, FILLS)
    assert [reply[0] for reply in both() if isinstance(reply, list)] == [b"OK"] * 2 * BATCH

    def seconds_of_reference() -> float:
        return fastest(lambda: server.exchange(plain, BATCH), 1, nothing)

    measure(both, lambda: server.exchange(fill, FILLS), seconds_of_reference)
