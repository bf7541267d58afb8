"""A small vocabulary in tiktoken's format: all bytes, and all pairs of two small letters."""

import base64
import hashlib
from itertools import product
from pathlib import Path
from string import ascii_lowercase

import pytest
import tiktoken

from proxy.costs import vocabularies
from proxy.costs.vocabularies import Encoding

RANKS = {
    **{bytes([byte]): byte for byte in range(256)},
    **{
        (a + b).encode(): 256 + nth
        for nth, (a, b) in enumerate(product(ascii_lowercase, ascii_lowercase))
    },
}
DATA = b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in RANKS.items())


def counts(encoding: Encoding, text: str) -> int:
    """As tiktoken itself does."""
    own = tiktoken.Encoding(
        encoding.name, pat_str=encoding.pattern, mergeable_ranks=RANKS, special_tokens={}
    )
    return len(own.encode_ordinary(text))


def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, Encoding]:
    """The known encodings, with this vocabulary instead of theirs."""
    sha256 = hashlib.sha256(DATA).hexdigest()
    ours = tuple(one._replace(sha256=sha256) for one in vocabularies.ENCODINGS)
    monkeypatch.setattr(vocabularies, "ENCODINGS", ours)
    return {one.name: one for one in ours}


def fill(folder: Path, *encodings: Encoding, data: bytes = DATA) -> Path:
    folder.mkdir(exist_ok=True)
    for encoding in encodings:
        (folder / encoding.cached_as).write_bytes(data)
    return folder
