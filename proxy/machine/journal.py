"""The journal of a worker: what must outlive it, written before it is said.

One append-only file, one write per step: `A` admitted (before the provider is called), `C` cost so
far, `U` used (before it is settled). A line is forgotten when the ledger is known to have the
request. The page cache survives kill -9; only the loss of the machine's disk loses a line.

A dead worker's file stays as it is, locked by its heir, until the ledger has all of it: taking over
needs no room, so a disk that dead workers have filled becomes free again.
"""

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from proxy.machine import locked

log = logging.getLogger("opscenter.proxy.journal")

ENTRIES_MAX = 200_000  # requests that are not in the ledger yet; beyond, nothing is admitted
SLACK_BYTES = 2**20  # of lines that no longer count; an heir would settle them all again
KEPT = 4096  # callers whose part of a line is kept ready
SUFFIX, DRAFT = ".journal", ".draft"


class JournalError(Exception):
    """The journal cannot be written: nothing may be admitted that it would have to remember."""


class Admitted(NamedTuple):
    """What a settlement has to know of a hold."""

    shard: int
    owners: str  # every hash that the hold touches, by spaces
    pool: str
    budgets: str
    held: int
    event: bytes  # JSON: what the ledger is told of a request that nobody ended

    def line(self, rid: str) -> bytes:
        s, o, p, b, held, event = self
        return _ADMITTED % (rid.encode(), _by_whom(s, o, p, b), held, event)


class Used(NamedTuple):
    """How it ended."""

    kind: str
    cost: int
    held: int
    event: bytes  # JSON: all that the ledger books of it
    calls: int = 0
    tokens: int = 0  # that count

    def line(self, rid: str) -> bytes:
        kind, cost, held, event, calls, tokens = self
        numbers = (cost, held, calls, tokens)
        return _USED % (rid.encode(), kind.encode(), *numbers, event)


#: Ids and kinds are words of ours, which JSON takes as they are.
_USED = b'{"t":"U","r":"%b","k":"%b","c":%d,"h":%d,"q":%d,"n":%d,"e":%b}\n'
_ADMITTED = b'{"t":"A","r":"%b",%b,"h":%d,"e":%b}\n'


@lru_cache(KEPT)
def _by_whom(shard: int, owners: str, pool: str, budgets: str) -> bytes:
    """What the lines of one caller have in common."""
    return orjson.dumps({"s": shard, "o": owners, "p": pool, "b": budgets})[1:-1]


@dataclass(slots=True)
class Entry:
    """One request that the ledger is not known to have."""

    admitted: Admitted
    used: Used | None = None
    checkpoint: int = 0


@dataclass(slots=True)
class Legacy:
    """A dead worker's file, and what of it the ledger is not known to have."""

    path: Path
    fd: int
    rids: set[str]
    told: list[str]  # the workers to whom the ledger may have told that it has some of these


class Journal:
    """Open for as long as this worker lives; its lock tells others that it does."""

    def __init__(self, folder: Path) -> None:
        self.instance = secrets.token_hex(8)
        self.entries: dict[str, Entry] = {}
        self.broken = ""  # why it cannot be written
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / (self.instance + SUFFIX)
        draft = self._draft()
        self._fd = locked.create(draft)
        draft.rename(self._path)
        self._bytes = self._bytes_kept = 0
        self._inherited: dict[str, Legacy] = {}

    @property
    def full(self) -> bool:
        return len(self.entries) >= ENTRIES_MAX

    def admitted(self, rid: str, admitted: Admitted) -> None:
        if self.full:
            raise JournalError("too many requests wait for the ledger")
        self._write(admitted.line(rid))
        self.entries[rid] = Entry(admitted)

    def checkpoint(self, rid: str, cost: int) -> None:
        entry = self.entries.get(rid)
        if entry is not None and cost != entry.checkpoint:
            self._write(_checkpoint(rid, cost))
            entry.checkpoint = cost

    def used(self, rid: str, used: Used) -> None:
        entry = self.entries.get(rid)
        if entry is not None:
            entry.used = used  # even when it cannot be written: this process still knows
            if rid not in self._inherited:
                self._write(used.line(rid))

    @property
    def inherits(self) -> int:
        """Requests of dead workers that the ledger is not known to have."""
        return len(self._inherited)

    def confirmed(self, truths: Sequence[str], orphans: Sequence[str] = ()) -> list[str]:
        """The ledger has them; which of them are forgotten now. A truth that we know is not
        confirmed by an orphan's row.
        """
        done = [*truths, *(rid for rid in orphans if self._is_orphan(rid))]
        for rid in done:
            self.entries.pop(rid, None)
            legacy = self._inherited.pop(rid, None)
            if legacy is not None:
                legacy.rids.discard(rid)
                if not legacy.rids:
                    _remove(legacy)
        if self._bytes and len(self.entries) == len(self._inherited):
            self._start_anew()
        elif self._bytes > SLACK_BYTES + 2 * self._bytes_kept:
            self._rewrite()
        return done

    def adopt(self) -> Legacy | None:
        """Takes over what one dead worker left, if there is one that left anything."""
        for path in sorted(self._folder.glob("*" + SUFFIX)):
            if path != self._path and (fd := locked.take(path)) is not None:
                legacy = self._inherit(path, fd)
                if legacy.rids:
                    return legacy
        return None

    def _inherit(self, path: Path, fd: int) -> Legacy:
        """One that is here already came with an earlier heir's file."""
        try:
            entries, heirs = _read(path)
        except OSError:
            os.close(fd)
            raise
        found = {rid: entry for rid, entry in entries.items() if rid not in self.entries}
        legacy = Legacy(path, fd, set(found), [path.stem, *heirs])
        self.entries.update(found)
        self._inherited.update(dict.fromkeys(found, legacy))
        if found:
            _sign(legacy, self.instance)
        else:
            _remove(legacy)
        return legacy

    def _is_orphan(self, rid: str) -> bool:
        entry = self.entries.get(rid)
        return entry is not None and entry.used is not None and entry.used.kind == "orphan"

    def close(self) -> None:
        """Leaves nothing behind when nothing is left to remember."""
        if len(self.entries) == len(self._inherited):
            self._path.unlink(missing_ok=True)
        os.close(self._fd)
        for fd in {legacy.fd for legacy in self._inherited.values()}:
            os.close(fd)

    def try_again(self) -> None:
        """After a failed write: whether there is room again."""
        if self.broken:
            self._write(_dumps({"t": "N"}))

    def _write(self, line: bytes) -> None:
        try:
            written = os.write(self._fd, line)
            if written != len(line):
                os.ftruncate(self._fd, self._bytes)
                raise OSError("the disk is full")
        except OSError as problem:
            self.broken = str(problem)
            raise JournalError(f"the journal cannot be written: {problem}") from None
        self._bytes += written
        self.broken = ""

    def _start_anew(self) -> None:
        os.ftruncate(self._fd, 0)
        self._bytes = self._bytes_kept = 0

    def _draft(self) -> Path:
        """A file has its name only when it is locked: an heir would take it for a dead worker's."""
        return self._path.with_suffix(DRAFT)

    def _rewrite(self) -> None:
        """The new file is locked and complete before it takes the old one's name."""
        draft = self._draft()
        fd = locked.create(draft)
        own = ((rid, e) for rid, e in self.entries.items() if rid not in self._inherited)
        data = b"".join(line for rid, entry in own for line in _lines(rid, entry))
        try:
            whole = os.write(fd, data) == len(data)
        except OSError:
            whole = False
        if not whole:
            os.close(fd)
            draft.unlink()
            return
        draft.rename(self._path)
        os.close(self._fd)
        self._fd, self._bytes, self._bytes_kept = fd, len(data), len(data)


def read(path: Path) -> Iterator[tuple[str, Entry]]:
    """The requests of a journal."""
    yield from _read(path)[0].items()


def _read(path: Path) -> tuple[dict[str, Entry], list[str]]:
    """Its requests, and who has taken it over; a line that cannot be read keeps no other from it.
    Earlier versions wrote owners as a list, and what the ledger is told as a text.
    """
    entries: dict[str, Entry] = {}
    heirs: list[str] = []
    for text in filter(None, path.read_bytes().split(b"\n")):
        try:
            line: dict[str, Any] = orjson.loads(text)
            step, rid, event = line["t"], line.get("r", ""), line.get("e")
            said = event.encode() if isinstance(event, str) else orjson.dumps(event)
            if step == "A":
                owners = line["o"] if isinstance(line["o"], str) else " ".join(line["o"])
                admitted = Admitted(line["s"], owners, line["p"], line["b"], line["h"], said)
                entries[rid] = Entry(admitted)
            elif step == "C" and rid in entries:
                entries[rid].checkpoint = line["c"]
            elif step == "U" and rid in entries:
                counts = line.get("q", 0), line.get("n", 0)
                entries[rid].used = Used(line["k"], line["c"], line["h"], said, *counts)
            elif step == "H":
                heirs.append(rid)
        except (AttributeError, KeyError, TypeError, ValueError):
            log.warning("%s has a line that was cut short, or is none", path.name)
    return entries, heirs


def _lines(rid: str, entry: Entry) -> Iterator[bytes]:
    yield entry.admitted.line(rid)
    if entry.checkpoint:
        yield _checkpoint(rid, entry.checkpoint)
    if entry.used is not None:
        yield entry.used.line(rid)


def _checkpoint(rid: str, cost: int) -> bytes:
    return _dumps({"t": "C", "r": rid, "c": cost})


def _dumps(line: dict[str, Any]) -> bytes:
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _sign(legacy: Legacy, heir: str) -> None:
    """Whoever takes it over after this heir looks at what the ledger told him, too."""
    with contextlib.suppress(OSError):  # without room he only settles more than he had to
        os.write(legacy.fd, b"\n" + _dumps({"t": "H", "r": heir}))


def _remove(legacy: Legacy) -> None:
    legacy.path.unlink(missing_ok=True)
    legacy.path.with_suffix(DRAFT).unlink(missing_ok=True)
    os.close(legacy.fd)
