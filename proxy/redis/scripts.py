"""The Lua scripts by name, each behind what it shares with others, and the names of keys in Redis.

A changed script has another SHA, so programs of two versions run side by side.
"""

import re
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

from proxy.who.keys import SHARDS

FOLDER = Path(__file__).with_name("lua")
DONE_PREFIX = b"{ops}:done:"  # streams, one per proxy worker: request ids that are in the ledger
REVOKED_KEY = b"{ops}:revoked"  # stream: the newest records whose running requests have to end
SNAPSHOT_KEY = b"{ops}:snapshot"  # hash: section -> body, and `manifest`


@dataclass(frozen=True, slots=True)
class Script:
    name: str
    text: bytes
    sha: bytes


@dataclass(frozen=True, slots=True)
class ShardKeys:
    """The keys of one virtual shard; all carry its hash tag, so one script reaches them all."""

    prefix: bytes
    meta: bytes
    hold: bytes
    lease: bytes
    tomb: bytes
    usage: bytes
    out: bytes  # credits that are reserved to leave a pool

    def key(self, kid: str) -> bytes:
        return self.prefix + b"k:" + kid.encode()

    def organisation(self, id: str) -> bytes:
        return self.prefix + b"o:" + id.encode()


def _load() -> dict[str, Script]:
    shared = {path.stem: path.read_bytes() for path in FOLDER.glob("shared/*.lua")}
    scripts = {}
    for path in sorted(FOLDER.glob("*.lua")):
        own = path.read_bytes()
        needs = re.search(rb"^-- with: +(.*)$", own, re.MULTILINE)
        names = ["prelude", *(needs[1].decode().split(", ") if needs else ())]
        text = b"".join(shared[name] for name in names) + own
        sha = sha1(text, usedforsecurity=False).hexdigest().encode()
        scripts[path.stem] = Script(path.stem, text, sha)
    return scripts


def _keys(shard: int) -> ShardKeys:
    prefix = b"{s%02d}:" % shard
    names = (b"meta", b"hold", b"lease", b"tomb", b"usage", b"out")
    return ShardKeys(prefix, *(prefix + name for name in names))


SCRIPTS = _load()
SHARD_KEYS = tuple(_keys(shard) for shard in range(SHARDS))
