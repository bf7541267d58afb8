"""The fake provider's ground truth, which no crash of a gateway can touch: a line for each bill.

A line is one write(2) to the file's end, made before the last byte of the answer is sent.
"""

import os
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, Self

import orjson

End = Literal["finished", "aborted", "cut"]


@dataclass(frozen=True, slots=True)
class Bill:
    """What one request cost at the provider.

    end: `finished` by the provider, `aborted` by the client, `cut` by a fault of the provider
    after content was sent.
    """

    request_id: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    stream: bool
    end: End
    status: int


_FIELDS = tuple(each.name for each in fields(Bill))


class BillFile:
    """Append-only, shared by any number of processes; without a path a file without a name."""

    __slots__ = ("_fd",)

    def __init__(self, path: Path | None) -> None:
        if path is None:
            self._fd, name = tempfile.mkstemp(prefix="bills-")
            Path(name).unlink()
        else:
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def append(self, line: bytes) -> None:
        """Writes one line at once; a line written by halves is an error, never a silent loss."""
        written = os.write(self._fd, line)
        if written != len(line):
            raise OSError(
                f"only {written} of {len(line)} bytes of a bill were written: is the disk full?"
            )

    def bills(self) -> list[Bill]:
        return _decode(os.pread(self._fd, os.fstat(self._fd).st_size, 0))

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_bills(path: Path) -> list[Bill]:
    """All bills of a file, also while others append to it."""
    return _decode(path.read_bytes())


def _decode(text: bytes) -> list[Bill]:
    lines = text[: text.rfind(b"\n") + 1].splitlines()
    return [Bill(**{name: row[name] for name in _FIELDS}) for row in map(orjson.loads, lines)]
