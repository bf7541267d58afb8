"""The fake provider's files and batches, kept in memory for each key as for an account of its own.

A batch that is asked for goes on by one step, from `validating` to `completed`.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import parse_qs

import orjson

from bench.ask import BadRequest, Fields, object_of
from bench.openai_wire import error_body
from bench.plan import Plan, head, json_plan
from bench.seen import Seen

FILES_MAX = 10_000  # of one account
ACCOUNTS_MAX = 1_000
EXPIRES = "expires_after[seconds]"
Row = dict[str, Any]
STEPS = ("validating", "in_progress", "finalizing", "completed")
USAGE = {
    "input_tokens": 120,
    "input_tokens_details": {"cached_tokens": 20},
    "output_tokens": 34,
    "output_tokens_details": {"reasoning_tokens": 4},
    "total_tokens": 154,
}
_part = re.compile(
    rb'name="([^"]+)"(?:; filename="([^"]*)")?\r\n(?:[^\r\n]+\r\n)*\r\n(.*?)\r\n--', re.DOTALL
)
_path = re.compile(r"/v1/(files|batches)(?:/([A-Za-z0-9_-]+)(?:/(content|cancel))?)?").fullmatch


class Missing(Exception):
    """There is none of that id in this account."""


@dataclass(slots=True)
class Account:
    files: dict[str, tuple[Fields, bytes]] = field(default_factory=dict)
    batches: dict[str, Row] = field(default_factory=dict)


class Kept:
    """What all keys have left here."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._ids = count(1)

    def plan(self, request: Seen) -> Plan | None:
        """None where nothing is served at this path."""
        found = _path(request.path)
        if found is None:
            return None
        thing, id, tail = found[1], found[2] or "", found[3] or ""
        account = self._account(request.key)
        try:
            if thing == "files":
                return self._file(request, account, id, tail)
            return self._batch(request, account, id, tail)
        except Missing:
            said = f"No such {'File' if thing == 'files' else 'Batch'} object: {id}"
            return _refuse(404, said)

    def _account(self, key: str) -> Account:
        if key not in self._accounts and len(self._accounts) >= ACCOUNTS_MAX:
            self._accounts.clear()
        return self._accounts.setdefault(key, Account())

    # files --------------------------------------------------------------------

    def _file(self, request: Seen, account: Account, id: str, tail: str) -> Plan:
        if not id:
            if request.method == "POST":
                return json_plan(200, self._stored(request, account))
            rows = [row for row, _ in account.files.values()]
            return _listed(rows, request, 10_000)
        if id not in account.files:
            raise Missing
        row, content = account.files[id]
        if tail == "content":
            kind = ("content-type", "application/octet-stream")
            return Plan(head=head(200, kind, length=len(content)), ending=content)
        if request.method == "DELETE":
            del account.files[id]
            return json_plan(200, {"id": id, "object": "file", "deleted": True})
        return json_plan(200, row)

    def _stored(self, request: Seen, account: Account) -> Fields:
        parts = {m[1].decode(): m for m in _part.finditer(request.body)}
        for name in ("purpose", "file"):
            if name not in parts:
                raise BadRequest(f"'{name}' is a required property", name)
        name, content = (parts["file"][2] or b"").decode(), parts["file"][3]
        expires_s = int(parts[EXPIRES][3]) if EXPIRES in parts else None
        return self._add(account, name, content, parts["purpose"][3].decode(), expires_s)

    def _add(
        self,
        account: Account,
        name: str,
        content: bytes,
        purpose: str,
        expires_s: int | None = None,
    ) -> Fields:
        if len(account.files) >= FILES_MAX:
            account.files.clear()
        now = int(time.time())
        row: Fields = {
            "id": f"file-{next(self._ids):024d}",
            "object": "file",
            "bytes": len(content),
            "created_at": now,
            "expires_at": None if expires_s is None else now + expires_s,
            "filename": name,
            "purpose": purpose,
            "status": "processed",
            "status_details": None,
        }
        account.files[row["id"]] = (row, content)
        return row

    # batches ------------------------------------------------------------------

    def _batch(self, request: Seen, account: Account, id: str, tail: str) -> Plan:
        if not id:
            if request.method == "POST":
                return self._begun(request, account)
            return _listed(list(account.batches.values()), request, 100)
        if id not in account.batches:
            raise Missing
        batch = account.batches[id]
        if tail == "cancel":
            batch["status"] = "cancelled"
        elif batch["status"] in STEPS[:-1]:
            batch["status"] = STEPS[STEPS.index(batch["status"]) + 1]
            if batch["status"] == "completed":
                self._complete(account, batch)
        return json_plan(200, batch)

    def _begun(self, request: Seen, account: Account) -> Plan:
        fields = object_of(request.body)
        if fields.get("input_file_id") not in account.files:
            return _refuse(404, f"No such File object: {fields.get('input_file_id')}")
        batch: Row = {
            "id": f"batch_{next(self._ids):024d}",
            "object": "batch",
            "endpoint": fields["endpoint"],
            "errors": None,
            "input_file_id": fields["input_file_id"],
            "completion_window": fields["completion_window"],
            "status": STEPS[0],
            "output_file_id": None,
            "error_file_id": None,
            "created_at": int(time.time()),
            "metadata": fields.get("metadata"),
        }
        account.batches[batch["id"]] = batch
        return json_plan(200, batch)

    def _complete(self, account: Account, batch: Row) -> None:
        _, content = account.files[batch["input_file_id"]]
        asked = [orjson.loads(line) for line in content.splitlines() if line]
        lines = [
            orjson.dumps({"custom_id": one.get("custom_id"), "response": {"status_code": 200}})
            for one in asked
        ]
        name = f"{batch['id']}_output.jsonl"
        output = self._add(account, name, b"\n".join(lines) + b"\n", "batch_output")
        batch["output_file_id"], batch["usage"] = output["id"], USAGE


def _listed(rows: list[Fields], request: Seen, most: int) -> Plan:
    """Newest first unless asked otherwise; of files those of a purpose."""
    query: Mapping[str, list[str]] = parse_qs(request.query)
    said: dict[str, Any] = {name: values[-1] for name, values in query.items()}
    if said.get("order") != "asc":
        rows = rows[::-1]
    rows = [row for row in rows if said.get("purpose") in (None, row.get("purpose"))]
    ids = [row["id"] for row in rows]
    first = ids.index(said["after"]) + 1 if said.get("after") in ids else 0
    page = rows[first : first + min(int(said.get("limit", most)), most)]
    more = first + len(page) < len(rows)
    return json_plan(200, {"object": "list", "data": page, "has_more": more})


def _refuse(status: int, message: str) -> Plan:
    return json_plan(status, error_body(message, "invalid_request_error", "id", None))
