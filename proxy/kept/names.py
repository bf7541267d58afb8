"""What files and batches are called. An id of ours holds where a thing lies and what it is called
there, sealed together with whose it is: for any other organisation it opens nothing, and nobody
can make one. The same thing has the same id each time. Pure.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from proxy.who.keyfile import KeyFile

Thing = Literal["files", "batches"]

ID_MAX = 1_000  # characters of an id of ours
PREFIXES: Mapping[Thing, str] = {"files": "file-", "batches": "batch_"}
LABEL = "opscenter"  # what a batch is marked with, in its metadata
_theirs = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._:-]{1,200}").fullmatch  # no step of a path
_letters = re.compile(r"[A-Za-z0-9_-]+").fullmatch


@dataclass(frozen=True, slots=True)
class Names:
    """Those of one organisation."""

    keys: KeyFile
    organisation: str

    @property
    def mark(self) -> str:
        """Stands on what this organisation has left with a provider, before any name it gave."""
        return "ops-" + self.organisation.replace("-", "")

    def seal(self, thing: Thing, account: str, theirs: object) -> str | None:
        """The id of what a provider calls `theirs`; None where that is no id."""
        if not isinstance(theirs, str) or not _theirs(theirs):
            return None
        sealed = self.keys.seal_id(f"{account} {theirs}".encode(), self._bound(thing))
        return PREFIXES[thing] + urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, thing: Thing, id: str) -> tuple[str, str] | None:
        """The account and the provider's id; None where it is not one of this organisation's."""
        letters = id.removeprefix(PREFIXES[thing])
        if len(id) > ID_MAX or letters == id or not _letters(letters) or len(letters) % 4 == 1:
            return None
        sealed = urlsafe_b64decode(letters + "=" * (-len(letters) % 4))
        plain = self.keys.open_id(sealed, self._bound(thing))
        if plain is None or urlsafe_b64encode(sealed).rstrip(b"=").decode() != letters:
            return None
        account, _, theirs = plain.decode().rpartition(" ")
        return account, theirs

    def marked(self, filename: bytes) -> bytes:
        return b"%b-%b" % (self.mark.encode(), filename)

    def unmarked(self, filename: object) -> str | None:
        """The name that a file was given here; None where it was not this organisation."""
        if not isinstance(filename, str) or not filename.startswith(f"{self.mark}-"):
            return None
        return filename.removeprefix(f"{self.mark}-")

    def _bound(self, thing: Thing) -> list[bytes]:
        return [thing.encode(), self.organisation.encode()]
