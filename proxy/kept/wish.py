"""What a request wants of files or batches, read from its bytes; and the call by which the provider
is asked for it. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode

import orjson

from proxy import forms, request
from proxy.errors import FieldInvalid, FieldMissing, MethodNotAllowed, RouteNotFound
from proxy.forms import Part
from proxy.frozen import frozen
from proxy.kept.names import LABEL, Names, Thing
from proxy.served import BASES, BY_PATH, Served
from proxy.settings import Settings
from proxy.types import Call

Verb = Literal["list", "create", "get", "content", "delete", "cancel"]

FILENAME_MAX = 200  # bytes
PURPOSE_MAX = 64  # characters
SECONDS_DIGITS_MAX = 12
METADATA_MAX = 15  # pairs of a batch: providers take 16, and one is ours
QUERY_FIELDS_MAX = 16
LIST_MAX: Mapping[Thing, int] = {"files": 1_000, "batches": 100}  # of one list, and of one page
LISTED: Mapping[Thing, int] = {"files": 100, "batches": 20}  # where nobody says how many
EXPIRES_MAX_S = 30 * 86_400  # of a file that lies with the platform's key, also where nobody says
QUERIED = frozenset({"limit", "after", "order", "purpose", "model"})
#: What a file and a batch are made of: anything else could name a file in a way that is not read.
ANCHOR, SECONDS = "expires_after[anchor]", "expires_after[seconds]"
OF_FILE = ("purpose", "file", "model", ANCHOR, SECONDS)
OF_BATCH = ("input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after")
VERBS: Mapping[tuple[str, bytes], Verb] = {
    ("/files", b"GET"): "list",
    ("/files", b"POST"): "create",
    ("/files/", b"GET"): "get",
    ("/files/", b"DELETE"): "delete",
    ("/files/content", b"GET"): "content",
    ("/batches", b"GET"): "list",
    ("/batches", b"POST"): "create",
    ("/batches/", b"GET"): "get",
    ("/batches/cancel", b"POST"): "cancel",
}


@frozen
class Wish:
    thing: Thing
    verb: Verb
    id: str = ""  # of ours
    provider: str = ""  # that the client names
    model: str = ""  # likewise
    fields: Mapping[str, Any] = field(default_factory=dict)  # of a query, or of a batch
    parts: Sequence[Part] = ()  # of a file

    @property
    def wanted(self) -> int:
        """How many a list shall have."""
        return int(self.fields.get("limit", LISTED[self.thing]))


def read(
    served: Served,
    method: bytes,
    path: str,
    query: bytes,
    headers: Mapping[bytes, bytes],
    body: bytes,
    settings: Settings,
) -> Wish:
    thing: Thing = "files" if served.dialect == "files" else "batches"
    verb, id = _verb(served, b"GET" if method == b"HEAD" else method, path)
    provider = headers.get(b"x-ops-provider", b"").decode("latin-1")
    if verb == "list":
        fields = _query(query, thing)
        return Wish(thing, verb, provider=provider, model=fields.pop("model", ""), fields=fields)
    if verb == "create" and thing == "files":
        parts, model = _upload(body, headers.get(b"content-type", b""))
        return Wish(thing, verb, provider=provider, model=model, parts=parts)
    if verb == "create":
        return Wish(thing, verb, fields=_batch(request.read_object(body, settings)))
    return Wish(thing, verb, id)


def _verb(served: Served, method: bytes, path: str) -> tuple[Verb, str]:
    begin = next(one for base in BASES if path.startswith(one := base + served.path))
    id, slash, tail = path.removeprefix(begin).partition("/")
    if not served.path.endswith("/"):
        shape = served.path
    elif id and bool(slash) == bool(tail):
        shape = served.path + tail
    else:
        raise RouteNotFound
    allowed = [known.decode() for one, known in VERBS if one == shape]
    if not allowed:
        raise RouteNotFound
    verb = VERBS.get((shape, method))
    if verb is None:
        raise MethodNotAllowed(method=method.decode(), allowed=", ".join(allowed))
    return verb, id


def _query(query: bytes, thing: Thing) -> dict[str, str]:
    try:
        rows = parse_qsl(query.decode("ascii"), max_num_fields=QUERY_FIELDS_MAX)
    except ValueError:
        raise FieldInvalid("query", name="query", why="it cannot be read") from None
    fields = dict(rows)
    for name in fields:
        if name not in QUERIED:
            raise FieldInvalid(name, name=name, why="a list takes no such parameter")
        if sum(other == name for other, _ in rows) > 1:
            raise FieldInvalid(name, name=name, why="it stands there twice")
    most, limit = LIST_MAX[thing], fields.get("limit", "1")
    if not limit.isdecimal() or not limit.isascii() or not 1 <= int(limit[:9]) <= most:
        raise FieldInvalid("limit", name="limit", why=f"it takes a whole number from 1 to {most}")
    if fields.get("order", "asc") not in ("asc", "desc"):
        raise FieldInvalid("order", name="order", why="it takes asc or desc")
    return fields


def _upload(body: bytes, content_type: bytes) -> tuple[list[Part], str]:
    """The parts that go on, and the model that is named."""
    parts = forms.read(body, content_type)
    for part in parts:
        if part.name not in OF_FILE:
            raise FieldInvalid(part.name, name=part.name, why=f"a file takes {', '.join(OF_FILE)}")
    texts = forms.texts([part for part in parts if part.filename is None])
    if not texts.get("purpose"):
        raise FieldMissing("purpose", name="purpose")
    if len(texts["purpose"]) > PURPOSE_MAX:
        raise FieldInvalid("purpose", name="purpose", why=f"over {PURPOSE_MAX} characters")
    files = [part for part in parts if part.filename is not None]
    if [part.name for part in files] != ["file"]:
        raise FieldMissing("file", name="file")
    filename = files[0].filename or b""
    if len(filename) > FILENAME_MAX:
        raise FieldInvalid("file", name="file", why=f"its name is over {FILENAME_MAX} bytes")
    if b"/" in filename or b"\\" in filename:  # many keep what follows alone: without our mark
        raise FieldInvalid("file", name="file", why="its name is a path")
    return [part for part in parts if part.name != "model"], texts.get("model", "")


def _batch(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in fields:
        if name not in OF_BATCH:
            raise FieldInvalid(name, name=name, why=f"a batch takes {', '.join(OF_BATCH)}")
    for name in OF_BATCH[:3]:
        if fields.get(name) is None:
            raise FieldMissing(name, name=name)
        if not isinstance(fields[name], str):
            raise FieldInvalid(name, name=name, why="it takes a text")
    if fields["endpoint"] not in BY_PATH:
        raise FieldInvalid("endpoint", name="endpoint", why="nothing is served at this path")
    metadata = fields.get("metadata")
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, dict) or len(metadata) > METADATA_MAX:
        why = f"it takes an object of {METADATA_MAX} pairs at most"
        raise FieldInvalid("metadata", name="metadata", why=why)
    if LABEL in metadata:
        raise FieldInvalid("metadata", name="metadata", why=f"its name {LABEL} is ours")
    return fields


# The call ----------------------------------------------------------------------------


def call_of(
    wish: Wish,
    theirs: str,
    names: Names,
    rid: str,
    path: str,
    client: str,
    headers: Mapping[bytes, bytes],
) -> Call:
    """`theirs` is what the provider calls the thing that is wanted, or the input of a batch."""
    parts = [_marked(part, names) for part in wish.parts]
    body = b""
    if wish.verb == "create" and wish.thing == "batches":
        metadata = {**(wish.fields.get("metadata") or {}), LABEL: names.mark}
        body = orjson.dumps({**wish.fields, "input_file_id": theirs, "metadata": metadata})
    method = b"DELETE" if wish.verb == "delete" else b"GET"
    return Call(
        rid=rid,
        path=path,
        body=body,
        fields={},
        model="",
        stream=False,
        usage_wanted=False,
        output_max=None,
        end_user=request.end_user_of(headers),
        job=request.job_of(headers),
        client=client,
        dialect=wish.thing,
        free=True,
        parts=parts,
        method=b"POST" if wish.verb in ("create", "cancel") else method,
        target=target_of(wish, theirs),
    )


def expiring(parts: Sequence[Part]) -> list[Part]:
    """So that nobody's files lie for ever with a key that others pay for."""
    anchor, seconds = b"created_at", b"%d" % EXPIRES_MAX_S
    given = {part.name: part.value for part in parts}
    if given.get(ANCHOR, anchor) != anchor:
        raise FieldInvalid(ANCHOR, name=ANCHOR, why="it takes created_at")
    asked = given.get(SECONDS, seconds)
    if not asked.isdigit() or len(asked) > SECONDS_DIGITS_MAX:
        raise FieldInvalid(SECONDS, name=SECONDS, why="it takes a whole number of seconds")
    least = b"%d" % min(int(asked), EXPIRES_MAX_S)
    others = [part for part in parts if part.name not in (ANCHOR, SECONDS)]
    return [Part(ANCHOR, anchor), Part(SECONDS, least), *others]


def target_of(wish: Wish, theirs: str) -> str:
    """Below the provider's address; of a list, what follows `theirs`."""
    base = "/" + wish.thing
    if wish.verb == "create":
        return base
    if wish.verb == "list":
        asked = {name: wish.fields[name] for name in ("order", "purpose") if name in wish.fields}
        after = {"after": theirs} if theirs else {}
        return f"{base}?{urlencode({'limit': LIST_MAX[wish.thing], **after, **asked})}"
    tail = "/" + wish.verb if wish.verb in ("content", "cancel") else ""
    return f"{base}/{theirs}{tail}"


def _marked(part: Part, names: Names) -> Part:
    if part.filename is None:
        return part
    return part._replace(filename=names.marked(part.filename or b"file"))
