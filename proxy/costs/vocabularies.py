"""Vocabularies by which tiktoken counts: which models they are of, what their files are called and
how they are known to be whole. Loads none of them, and never downloads.
"""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

ADDRESS = "https://openaipublic.blob.core.windows.net/encodings/"
_ENDS = "-:@"  # what may follow the name of a family
_CACHED_NAMES = 4_096


class Encoding(NamedTuple):
    """One way to cut text into tokens."""

    name: str
    sha256: str  # of its file
    pattern: str  # where no token goes across
    families: tuple[str, ...]  # how models are called that count by it; one with "." has versions

    @property
    def url(self) -> str:
        return f"{ADDRESS}{self.name}.tiktoken"

    @property
    def cached_as(self) -> str:
        """The name of its file in tiktoken's own cache (TIKTOKEN_CACHE_DIR)."""
        return hashlib.sha1(self.url.encode(), usedforsecurity=False).hexdigest()

    @property
    def file_names(self) -> tuple[str, str]:
        return self.cached_as, f"{self.name}.tiktoken"

    def problem_of(self, data: bytes) -> str | None:
        """Why a file cannot be used; None: it is whole."""
        if hashlib.sha256(data).hexdigest() == self.sha256:
            return None
        return "not whole: its SHA-256 is another"


_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"

#: As tiktoken has them; a test compares.
ENCODINGS: tuple[Encoding, ...] = (
    Encoding(
        "o200k_base",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        "|".join(
            (
                rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+{_SHORT}",
                rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*{_SHORT}",
                r"\p{N}{1,3}",
                r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
                r"\s*[\r\n]+",
                r"\s+(?!\S)",
                r"\s+",
            )
        ),
        (
            *("gpt-4o", "chatgpt-4o", "gpt-4.1", "gpt-4.5", "gpt-5", "gpt-5."),
            *("o1", "o3", "o4-mini", "gpt-oss"),
        ),
    ),
    Encoding(
        "cl100k_base",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
        r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
        (
            *("gpt-4", "gpt-3.5", "gpt-3.5-turbo", "gpt-35-turbo", "davinci-002", "babbage-002"),
            *("text-embedding-ada-002", "text-embedding-3-small", "text-embedding-3-large"),
        ),
    ),
)


@lru_cache(_CACHED_NAMES)
def encoding_of(model: str) -> str | None:
    """By which one a model counts, as far as its name tells: `openai/gpt-4o-mini`, `gpt-4o@eu`."""
    name = model.lower().rpartition("/")[2].removeprefix("ft:")
    for encoding in ENCODINGS:
        if any(_is_of(name, family) for family in encoding.families):
            return encoding.name
    return None


def _is_of(name: str, family: str) -> bool:
    if not name.startswith(family):
        return False
    return family.endswith(".") or len(name) == len(family) or name[len(family)] in _ENDS


def at_hand(folder: Path) -> Mapping[str, Path]:
    """Encodings whose files are there; whether these are whole is seen when they are loaded."""
    found = {}
    for encoding in ENCODINGS:
        paths = [folder / name for name in encoding.file_names]
        if path := next((path for path in paths if path.is_file()), None):
            found[encoding.name] = path
    return found
