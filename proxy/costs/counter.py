"""The process beside a worker that counts tokens by tiktoken. A process, because a vocabulary takes
tens of megabytes, and loading one holds up all threads for a tenth of a second.

Started by `counting.py` with what is at hand; ends with its worker, and when nobody has asked for
long. On its standard input, which is a socket, it reads three lengths, then a head, the body of a
request and what was answered, as long as these say; it says a line for each.
"""

import base64
import hashlib
import socket
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from proxy.costs.texts import tokens_in, tokens_out
from proxy.dialects.counting import CountText

IDLE_S = 300.0  # then its memory is given back
PIECE_CHARS = 65_536  # of a long text that are counted at once
LENGTHS = struct.Struct(">III")


class Unusable(Exception):
    """A vocabulary that cannot be loaded; the words say why."""


class Counters:
    """Loaded when they are needed first."""

    def __init__(self, known: Mapping[str, Mapping[str, str]]) -> None:
        """`known`: path, sha256 and pattern of each encoding."""
        self._known = known
        self._loaded: dict[str, CountText] = {}

    def __getitem__(self, name: str) -> CountText:
        if name not in self._loaded:
            self._loaded[name] = _load(name, **self._known[name])
        return self._loaded[name]


def _load(name: str, path: str, sha256: str, pattern: str) -> CountText:
    import tiktoken

    try:
        data = Path(path).read_bytes()
    except OSError as problem:
        raise Unusable(f"{path} cannot be read: {problem.strerror}") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Unusable(f"{path} is not {name}: its SHA-256 differs; copy it there anew")
    rows = (line.split() for line in data.splitlines() if line)
    ranks = {base64.b64decode(token): int(rank) for token, rank in rows}
    encode = tiktoken.Encoding(
        name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={}
    ).encode_ordinary

    def count(text: str) -> int:
        if len(text) <= PIECE_CHARS:
            return len(encode(text))
        starts = range(0, len(text), PIECE_CHARS)
        return sum(len(encode(text[start : start + PIECE_CHARS])) for start in starts)

    return count


def answer(head: Mapping[str, Any], body: bytes, said: bytes, counters: Counters) -> dict[str, Any]:
    """Tokens on both sides, or why they cannot be told."""
    try:
        count = counters[head["encoding"]]
        into = tokens_in(head["dialect"], orjson.loads(body), count) if body else 0
        out = tokens_out(head["dialect"], head["form"], said, count) if said else 0
    except Unusable as problem:
        return {"id": head["id"], "unusable": str(problem)}
    except Exception as problem:  # it has to say something, and goes on for others
        return {"id": head["id"], "problem": repr(problem)[:200]}
    return {"id": head["id"], "input": into, "output": out}


def serve(parent: socket.socket, counters: Counters) -> None:
    """Until the worker has gone, or has not asked for long."""
    parent.settimeout(IDLE_S)
    with parent.makefile("rb") as stream:
        while lengths := _read(stream, LENGTHS.size):
            head, body, said = (_read(stream, size) for size in LENGTHS.unpack(lengths))
            told = answer(orjson.loads(head), body, said, counters)
            parent.sendall(orjson.dumps(told) + b"\n")


def _read(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    return data if len(data) == size else b""


def main() -> int:
    with socket.socket(fileno=0) as parent:
        try:
            serve(parent, Counters(orjson.loads(sys.argv[1])))
        except (OSError, orjson.JSONDecodeError):  # nobody asks any more
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
