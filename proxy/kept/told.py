"""A provider's answer as the client reads it: ids of ours in place of the provider's, names without
our mark, and of a list what this organisation has left there. Pure.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from proxy.errors import ListTooLong, OpsError, UpstreamBroken, UpstreamRefused
from proxy.ids import derived_id
from proxy.kept.accounts import MISSING, Place
from proxy.kept.names import LABEL, Names
from proxy.kept.wish import LIST_MAX, Wish, call_of, expiring, target_of
from proxy.types import Call

PAGES_MAX = 20  # of a provider's list, that one list of ours reads
ITEMS_MAX = 500_000  # values of an answer, with all pages: a small one takes many times its bytes
OVER = frozenset({"completed", "failed", "expired", "cancelled"})
#: Older ones are not booked any more: the ledger has places for the months that it has seen.
BOOKED_WITHIN_S = 27 * 86_400
Row = dict[str, Any]


class Told:
    """The answer to one wish."""

    def __init__(self, wish: Wish, place: Place, names: Names) -> None:
        self.wish = wish
        self.place = place
        self._names = names
        self._found: list[Row] = []
        self._pages = self._items = 0
        self.spent_as = ""  # the id under which the ledger has what a batch has used

    def call(self, rid: str, path: str, client: str, headers: Mapping[bytes, bytes]) -> Call:
        wish = self.wish
        if self.place.is_platform and wish.verb == "create":
            wish = replace(wish, parts=expiring(wish.parts))
        return call_of(wish, self.place.theirs, self._names, rid, path, client, headers)

    @property
    def looked_at(self) -> str:
        """What is asked for before a file of the platform's key is fetched or deleted: an id may
        name another's there, where a key is changed or a provider gives ids anew."""
        if not self.place.is_platform or self.wish.verb not in ("content", "delete"):
            return ""
        return target_of(replace(self.wish, verb="get"), self.place.theirs)

    def look(self, body: bytes) -> None:
        """Raises where our mark for this organisation does not stand on it."""
        self._require_ours(self._object(body))

    def answer(self, body: bytes) -> bytes:
        """Of one thing."""
        if self.wish.verb == "delete" and not body:
            id = self._sealed(self.place.theirs)
            return orjson.dumps({"id": id, "object": "file", "deleted": True})
        row = self._object(body)
        if self.place.is_platform and self.wish.verb != "delete":
            self._require_ours(row)
        if self.wish.thing == "batches":
            status = row.get("status", "")
            if not isinstance(status, str):
                raise self._broken()
            self.spent_as = self._booked(row) if status in OVER else ""
        return self._written(self._say(row))

    def page(self, body: bytes) -> str:
        """Takes a page of a list; where to go on, "" at its end."""
        page, self._pages = self._object(body), self._pages + 1
        rows = page.get("data")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self._broken()
        self._found += [self._say(row) for row in rows if self._is_ours(row)]
        self._more = bool(rows) and page.get("has_more") is True
        if not self._more or len(self._found) > self.wish.wanted:
            return ""
        if self._pages == PAGES_MAX:
            if not self._found:
                raise ListTooLong(limit=PAGES_MAX * LIST_MAX[self.wish.thing])
            return ""
        last = rows[-1].get("id")
        if self._names.seal(self.wish.thing, self.place.sealed_as, last) is None:
            raise self._broken()
        return target_of(self.wish, last)

    def listed(self) -> bytes:
        rows, wanted = self._found[: self.wish.wanted], self.wish.wanted
        ends = [rows[at]["id"] if rows else None for at in (0, -1)]
        more = self._more or len(self._found) > wanted
        names = {"first_id": ends[0], "last_id": ends[1], "has_more": more}
        return self._written({"object": "list", "data": rows, **names})

    def refusal(self, problem: OpsError) -> OpsError:
        """What has gone there is no longer here; and no id of the provider's is told."""
        place, wish = self.place, self.wish
        if not isinstance(problem, UpstreamRefused):
            return problem
        if place.theirs and problem.status == 404:
            return self._missing()
        if place.theirs:
            ours = wish.id or str(wish.fields.get("input_file_id") or wish.fields.get("after"))
            message = str(problem.detail["message"]).replace(place.theirs, ours)
            problem.detail = {**problem.detail, "message": message}
        return problem

    def _missing(self) -> OpsError:
        missing = MISSING["files" if self.wish.verb == "create" else self.wish.thing]()
        missing.counts = True
        return missing

    def _say(self, row: Row) -> Row:
        return self._file(row) if self.wish.thing == "files" else self._batch(row)

    def _require_ours(self, row: Row) -> None:
        if not self._is_ours(row):
            lost = self.wish.verb == "create"
            raise self._broken("it does not keep the names of files") if lost else self._missing()

    def _is_ours(self, row: Row) -> bool:
        if self.wish.thing == "files":
            return self._names.unmarked(row.get("filename")) is not None
        metadata = row.get("metadata")
        return isinstance(metadata, dict) and metadata.get(LABEL) == self._names.mark

    def _file(self, row: Row) -> Row:
        told = {**row, "id": self._sealed(row.get("id"))}
        if (given := self._names.unmarked(row.get("filename"))) is not None:
            told["filename"] = given
        return told

    def _batch(self, row: Row) -> Row:
        id = self._names.seal("batches", self.place.sealed_as, row.get("id"))
        if id is None:
            raise self._broken()
        told = {**row, "id": id}
        for name in ("input_file_id", "output_file_id", "error_file_id"):
            if row.get(name) is not None:
                told[name] = self._sealed(row[name])
        if isinstance(metadata := row.get("metadata"), dict):
            told["metadata"] = {n: v for n, v in metadata.items() if n != LABEL} or None
        return told

    def _sealed(self, theirs: object) -> str:
        id = self._names.seal("files", self.place.sealed_as, theirs)
        if id is None:
            raise self._broken()
        return id

    def _booked(self, row: Row) -> str:
        """The same for the same batch, in the month in which it was made."""
        created, now = row.get("created_at"), time.time_ns() // 1_000_000_000
        if type(created) is not int or not now - BOOKED_WITHIN_S < created <= now:
            return ""
        whose = f"{self._names.organisation} {self.place.account} {row.get('id')}"
        return derived_id(created * 1_000, whose)

    def _object(self, body: bytes) -> Row:
        self._items += sum(map(body.count, (b"{", b"[", b",")))
        if self._items > ITEMS_MAX:
            raise self._broken(f"it has more than {ITEMS_MAX} values")
        try:
            row = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise self._broken() from None
        if not isinstance(row, dict):
            raise self._broken()
        return row

    def _written(self, row: Row) -> bytes:
        try:
            return orjson.dumps(row)
        except orjson.JSONEncodeError:  # it may be read from deeper than it can be written
            raise self._broken() from None

    def _broken(self, why: str = "the answer is not what it should be") -> UpstreamBroken:
        return UpstreamBroken(model=self.place.model.id, why=why)
