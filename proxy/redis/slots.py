"""Redis Cluster in values: the slot of a key, where a command has its key, who serves what, and
what a redirection says. Pure; both planes use it.
"""

from binascii import crc_hqx
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

SLOTS = 16_384

# The key of a command is its second word, but for these. (A command that we do not send, and
# that has its key elsewhere, is answered CROSSSLOT or MOVED at worst, never served wrongly.)
KEY_AT = {"EVAL": 3, "EVALSHA": 3, "XGROUP": 2, "XINFO": 2, "OBJECT": 2, "MEMORY": 2}
KEYLESS_NAMES = (
    "ACL CLIENT CLUSTER COMMAND CONFIG DBSIZE ECHO FLUSHALL FLUSHDB INFO KEYS LATENCY PING ROLE"
    " SCAN SCRIPT TIME WAIT"
)
KEYLESS = frozenset(KEYLESS_NAMES.split())
# What a server says that does not serve a slot just now: it has done nothing, so ask again.
UNSETTLED = ("TRYAGAIN", "CLUSTERDOWN", "LOADING", "READONLY", "MASTERDOWN")

Word = bytes | str | int


class Served(NamedTuple):
    """A run of slots and the master that serves them."""

    first: int
    last: int
    host: str
    port: int


class Redirect(NamedTuple):
    asking: bool  # for this one command only, because the slot is on its way
    host: str  # empty: the host that said so
    port: int


def slot_of(key: bytes) -> int:
    """CRC16 of what stands between the first pair of braces, as the servers compute it."""
    start = key.find(b"{") + 1
    if start:
        end = key.find(b"}", start)
        if end > start:
            key = key[start:end]
    return crc_hqx(key, 0) % SLOTS


def key_of(command: Sequence[Word]) -> bytes | None:
    """The first key of a command; None where it has none, so that any server can answer it."""
    name = _text(command[0]).upper()
    if name in KEYLESS:
        return None
    at = KEY_AT.get(name, 1)
    if len(command) <= at or (at == 3 and _text(command[2]) == "0"):
        return None
    key = command[at]
    return key if isinstance(key, bytes) else str(key).encode()


def masters(reply: Any, asked: str) -> Iterator[Served]:
    """Who serves what, from an answer to CLUSTER SLOTS; `asked` is the host that gave it."""
    for first, last, master, *_ in reply:
        host = (master[0] or b"").decode()
        # a node that does not know its own name leaves it empty
        yield Served(int(first), int(last), asked if host in ("", "?") else host, int(master[1]))


def redirect(text: str) -> Redirect | None:
    """Reads `MOVED 3999 host:port` and `ASK 3999 host:port`."""
    words = text.split(" ")
    if len(words) != 3 or words[0] not in ("MOVED", "ASK"):
        return None
    host, _, port = words[2].rpartition(":")
    if not port.isdecimal():
        return None
    return Redirect(words[0] == "ASK", "" if host == "?" else host, int(port))


def _text(word: Word) -> str:
    return word.decode("ascii", "replace") if isinstance(word, bytes) else str(word)
