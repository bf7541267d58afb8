"""Files and batches: their ids, and what is read of a request for them."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import forms
from proxy.errors import (
    FieldInvalid,
    FieldMissing,
    FileNotFound,
    ListTooLong,
    MethodNotAllowed,
    OpsError,
    RouteNotFound,
    UpstreamBroken,
)
from proxy.forms import Part
from proxy.ids import derived_id
from proxy.kept import told, wish
from proxy.kept.accounts import Place
from proxy.kept.names import LABEL, Names
from proxy.kept.told import Told
from proxy.kept.wish import Wish, read
from proxy.served import KEPT_BY_PATH
from proxy.settings import Settings
from proxy.types import Deployment, Model, OwnKey
from proxy.who.keyfile import KeyFile, render

OLD = KeyFile.parse(render({1: b"p" * 32}, {1: b"s" * 32}))
NEW = KeyFile.parse(render({1: b"p" * 32}, {1: b"s" * 32, 2: b"t" * 32}))
ACME, BETA = str(UUID(int=1)), str(UUID(int=2))
NAMES = Names(OLD, ACME)
THEIRS, ACCOUNT = "file-abc123", "p:openai"
OPENAI = Deployment(7, "openai/files", "openai", "openai", "https://api.test/v1", "files")
PLACE = Place(ACCOUNT, Model("openai/files", 0, 0, 0, (OPENAI,), None))
OWN = replace(OPENAI, own=OwnKey("mine", "openai", "o:acme", "openai", OPENAI.base_url, b""))
MINE = Place("o:openai", Model("openai/batches", 0, 0, 0, (OWN,), None), "theirs-1")
PURPOSE, FILE = Part("purpose", b"batch"), Part("file", b"{}\n", b"in.jsonl", b"text/plain")
LINE = {
    "input_file_id": "file-x",
    "endpoint": "/v1/chat/completions",
    "completion_window": "24h",
}


def sealed(names: Names = NAMES) -> str:
    id = names.seal("files", ACCOUNT, THEIRS)
    assert id is not None
    return id


def test_an_id_is_the_same_each_time_and_opens_for_its_organisation_alone() -> None:
    id = sealed()
    assert id == sealed()
    assert id.startswith("file-")
    assert THEIRS not in id
    assert NAMES.open("files", id) == (ACCOUNT, THEIRS)
    assert Names(OLD, BETA).open("files", id) is None
    assert NAMES.open("batches", id) is None
    assert NAMES.open("batches", id.replace("file-", "batch_")) is None


def test_an_id_outlives_the_key_that_it_was_made_by() -> None:
    assert Names(NEW, ACME).open("files", sealed()) == (ACCOUNT, THEIRS)
    assert sealed(Names(NEW, ACME)) != sealed()
    assert NAMES.open("files", sealed(Names(NEW, ACME))) is None


@given(st.integers(0, 500), st.characters(min_codepoint=33, max_codepoint=126))
def test_no_letter_of_an_id_can_be_another(at: int, letter: str) -> None:
    id = sealed()
    at %= len(id)
    changed = id[:at] + letter + id[at + 1 :]
    assert changed == id or NAMES.open("files", changed) is None


@given(st.text(max_size=200))
def test_whatever_is_no_id_opens_nothing(text: str) -> None:
    assert NAMES.open("files", text) is None
    assert NAMES.open("files", "file-" + text) is None


@pytest.mark.parametrize("theirs", ["", ".", "..", "a b", "a/b", "../a", "a?b", "x" * 201, 7, None])
def test_what_is_no_id_of_a_provider_is_not_sealed(theirs: object) -> None:
    assert NAMES.seal("files", ACCOUNT, theirs) is None


def test_a_name_is_marked_whatever_it_says_of_itself() -> None:
    other = Names(OLD, BETA)
    marked = NAMES.marked(other.marked(b"a.jsonl")).decode()
    assert other.unmarked(marked) is None
    assert NAMES.unmarked(marked) == other.marked(b"a.jsonl").decode()
    assert NAMES.unmarked("a.jsonl") is None


def test_a_derived_id_is_the_same_for_the_same_and_a_uuid_of_its_time() -> None:
    id = UUID(derived_id(1_700_000_000_000, "a"))
    assert id == UUID(derived_id(1_700_000_000_000, "a")) != UUID(derived_id(1, "a"))
    assert (id.version, id.int >> 80) == (7, 1_700_000_000_000)


# What is wanted -----------------------------------------------------------------------


def wanted(
    method: bytes, path: str, query: bytes = b"", body: bytes = b"", kind: bytes = b""
) -> Wish:
    begin = next(one for one in (path, path.rpartition("/")[0], path) if one)
    for end in (begin, *(path[: at + 1] for at, c in enumerate(path) if c == "/")):
        if end in KEPT_BY_PATH:
            served = KEPT_BY_PATH[end]
            break
    else:
        raise AssertionError(path)
    headers = {b"content-type": kind, b"x-ops-provider": b"gpu"}
    return read(served, method, path, query, headers, body, Settings())


@pytest.mark.parametrize(
    ("method", "path", "verb"),
    [
        (b"GET", "/v1/files/file-a", "get"),
        (b"HEAD", "/v1/files/file-a", "get"),
        (b"GET", "/v1/files/file-a/content", "content"),
        (b"DELETE", "/api/v1/llm/files/file-a", "delete"),
        (b"GET", "/v1/batches/file-a", "get"),
        (b"POST", "/v1/batches/file-a/cancel", "cancel"),
    ],
)
def test_a_path_says_what_is_wanted(method: bytes, path: str, verb: str) -> None:
    found = wanted(method, path)
    assert (found.verb, found.id) == (verb, "file-a")


@pytest.mark.parametrize(
    ("method", "path", "problem"),
    [
        (b"POST", "/v1/files/file-a", MethodNotAllowed),
        (b"DELETE", "/v1/files/file-a/content", MethodNotAllowed),
        (b"GET", "/v1/batches/b/cancel", MethodNotAllowed),
        (b"DELETE", "/v1/batches/b", MethodNotAllowed),
        (b"GET", "/v1/files/", RouteNotFound),
        (b"GET", "/v1/files/a/", RouteNotFound),
        (b"GET", "/v1/files/a/b", RouteNotFound),
        (b"GET", "/v1/files/a/content/b", RouteNotFound),
        (b"GET", "/v1/files//content", RouteNotFound),
        (b"GET", "/v1/files/x/files/a", RouteNotFound),
        (b"GET", "/v1/files/x/files/a/content", RouteNotFound),
    ],
)
def test_another_path_is_none(method: bytes, path: str, problem: type[OpsError]) -> None:
    with pytest.raises(problem):
        wanted(method, path)


def test_a_list_is_asked_for_page_by_page() -> None:
    found = wanted(b"GET", "/v1/files", b"limit=7&purpose=batch&model=m")
    assert (found.wanted, found.model, found.provider) == (7, "m", "gpu")
    assert wish.target_of(found, "x") == "/files?limit=1000&after=x&purpose=batch"
    assert wanted(b"GET", "/v1/batches").wanted == 20


@pytest.mark.parametrize(
    "query",
    [
        *(b"limit=0", b"limit=1001", b"limit=-1", b"limit=x", b"limit=" + b"9" * 5000),
        *(b"order=up", b"after=a&after=b", b"offset=1", b"&".join([b"a=b"] * 99), b"limit=%C2%B2"),
    ],
)
def test_a_list_takes_nothing_else(query: bytes) -> None:
    with pytest.raises(FieldInvalid):
        wanted(b"GET", "/v1/files", query)


def upload(*parts: Part) -> Wish:
    kind = forms.TYPE + b"; boundary=x"
    return wanted(b"POST", "/v1/files", body=forms.write(parts, b"x"), kind=kind)


def test_a_file_goes_on_under_our_mark_and_without_the_model() -> None:
    found = upload(PURPOSE, FILE, Part("model", b"m"))
    assert (found.model, [part.name for part in found.parts]) == ("m", ["purpose", "file"])
    call = wish.call_of(found, "", NAMES, "rid", "/v1/files", "", {})
    assert call.parts[1] == FILE._replace(filename=NAMES.marked(b"in.jsonl"))
    assert (call.method, call.target, call.free) == (b"POST", "/files", True)


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ([FILE], FieldMissing),
        ([PURPOSE], FieldMissing),
        ([Part("purpose", b""), FILE], FieldMissing),
        ([PURPOSE, Part("file", b"no file")], FieldInvalid),
        ([Part("purpose", b"x" * 65), FILE], FieldInvalid),
        ([PURPOSE, FILE._replace(filename=b"x" * 201)], FieldInvalid),
        ([PURPOSE, FILE._replace(filename=b"x/ops-other-a")], FieldInvalid),
        ([PURPOSE, FILE._replace(filename=b"x\\ops-other-a")], FieldInvalid),
        ([PURPOSE, FILE, FILE._replace(name="other")], FieldInvalid),
        ([PURPOSE, FILE, Part("filename", b"ops-other-a")], FieldInvalid),
        ([PURPOSE._replace(filename=b"a"), FILE], FieldMissing),
    ],
)
def test_a_file_has_a_purpose_and_is_one(parts: list[Part], problem: type[OpsError]) -> None:
    with pytest.raises(problem):
        upload(*parts)


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ({}, wish.EXPIRES_MAX_S),
        ({wish.ANCHOR: b"created_at"}, wish.EXPIRES_MAX_S),
        ({wish.SECONDS: b"3600"}, 3_600),
        ({wish.SECONDS: b"0003600"}, 3_600),
        ({wish.SECONDS: b"999999999999"}, wish.EXPIRES_MAX_S),
    ],
)
def test_no_file_lies_for_ever_with_the_platforms_key(asked: Any, seconds: int) -> None:
    found = upload(PURPOSE, FILE, *(Part(name, value) for name, value in asked.items()))
    given = {
        part.name: part.value
        for part in Told(found, PLACE, NAMES).call("rid", "/v1/files", "", {}).parts
    }
    assert (given[wish.ANCHOR], given[wish.SECONDS]) == (b"created_at", b"%d" % seconds)
    his = Told(found, MINE, NAMES).call("rid", "/v1/files", "", {}).parts
    assert {part.name for part in his} == {"purpose", "file", *asked}


@pytest.mark.parametrize(
    "part",
    [
        Part(wish.ANCHOR, b"last_active_at"),
        *(Part(wish.SECONDS, value) for value in (b"", b"-1", b"1e9", b" 7", b"9" * 13)),
    ],
)
def test_an_expiry_that_cannot_be_read_is_refused(part: Part) -> None:
    with pytest.raises(FieldInvalid):
        Told(upload(PURPOSE, FILE, part), PLACE, NAMES).call("rid", "/v1/files", "", {})


def begin(**changes: Any) -> Wish:
    fields = {name: value for name, value in {**LINE, **changes}.items() if value is not None}
    return wanted(b"POST", "/v1/batches", body=orjson.dumps(fields))


def test_a_batch_goes_on_under_our_mark() -> None:
    found = begin(metadata={"a": "b"})
    body = orjson.loads(wish.call_of(found, THEIRS, NAMES, "rid", "/v1/batches", "", {}).body)
    marked = {"a": "b", LABEL: NAMES.mark}
    assert body == {**LINE, "input_file_id": THEIRS, "metadata": marked}


@pytest.mark.parametrize(
    "changes",
    [
        *({name: None} for name in LINE),
        {"input_file_id": 7},
        {"endpoint": "/v1/files"},
        {"metadata": []},
        {"metadata": {LABEL: "ops-other"}},
        {"metadata": {str(n): "" for n in range(16)}},
        {"Input_File_Id": "file-raw"},
        {"input_files": ["file-raw"]},
    ],
)
def test_a_batch_is_made_of_what_is_known(changes: dict[str, Any]) -> None:
    """A field that is not read could name somebody else's file."""
    with pytest.raises((FieldMissing, FieldInvalid)):
        begin(**changes)


# What is told -------------------------------------------------------------------------


def page(*names: str, more: bool = False) -> bytes:
    rows = [{"id": f"file-{name}", "filename": name} for name in names]
    return orjson.dumps({"object": "list", "data": rows, "has_more": more})


def listing(limit: int = 2) -> Told:
    return Told(Wish("files", "list", fields={"limit": str(limit)}), PLACE, NAMES)


def ours(name: str) -> str:
    return NAMES.marked(name.encode()).decode()


def test_of_a_list_only_what_is_ours_is_told() -> None:
    found = listing()
    target = found.page(page("theirs", ours("a"), "x", more=True))
    assert target == "/files?limit=1000&after=file-x"
    assert found.page(page(ours("b"), "y")) == ""
    rows = orjson.loads(found.listed())
    assert [row["filename"] for row in rows["data"]] == ["a", "b"]
    assert NAMES.open("files", rows["last_id"]) == (PLACE.sealed_as, "file-" + ours("b"))
    assert rows["has_more"] is False


def test_a_list_that_has_more_says_so() -> None:
    found = listing(1)
    assert found.page(page(ours("a"), ours("b"))) == ""
    rows = orjson.loads(found.listed())
    assert ([row["filename"] for row in rows["data"]], rows["has_more"]) == (["a"], True)


def test_a_list_ends_after_so_many_pages() -> None:
    found, nothing = listing(), listing()
    for _ in range(told.PAGES_MAX - 1):
        assert found.page(page("x", more=True))
        assert nothing.page(page("x", more=True))
    assert found.page(page(ours("a"), more=True)) == ""
    assert orjson.loads(found.listed())["has_more"] is True
    with pytest.raises(ListTooLong):
        nothing.page(page("x", more=True))


@pytest.mark.parametrize("body", [b"no", b"[]", b"{}", b'{"data":[1]}', b'{"data":7}'])
def test_a_page_that_is_none_is_the_providers_fault(body: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        listing().page(body)


def test_an_answer_has_so_many_values_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all of its pages, and before they are read."""
    monkeypatch.setattr(told, "ITEMS_MAX", 15)
    found = listing()
    assert found.page(page("x", more=True))
    with pytest.raises(UpstreamBroken, match="15 values"):
        found.page(page("x", "y", "z"))
    for crowded in (b'{"data":[' + b"[]," * 20, b'{"id":"a","x":[' + b"{}," * 20):
        with pytest.raises(UpstreamBroken, match="15 values"):
            listing().page(crowded)
        with pytest.raises(UpstreamBroken, match="15 values"):
            Told(Wish("batches", "get", "x"), MINE, NAMES).answer(crowded)


DEEP = b"[" * 400 + b"]" * 400


@pytest.mark.parametrize(
    "row",
    [
        *(b'{"id":"b","status":["completed"]}', b'{"id":"b","status":{}}', b'{"status":"failed"}'),
        *(b'{"id":"..","status":"failed"}', b'{"id":"b","output_file_id":[]}', b"[]", b"", b"{"),
        *(b'{"id":"b","x":' + DEEP + b"}", b'{"id":"b","x":"\\ud800"}'),
    ],
)
def test_an_answer_that_is_none_is_the_providers_fault(row: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        Told(Wish("batches", "get", "x"), MINE, NAMES).answer(row)


def test_a_list_that_cannot_be_written_is_the_providers_fault() -> None:
    found = listing()
    row = b'{"id":"a","filename":"%b","x":%b}' % (ours("a").encode(), DEEP)
    assert found.page(b'{"data":[%b],"has_more":false}' % row) == ""
    with pytest.raises(UpstreamBroken):
        found.listed()


def test_a_file_that_is_gone_without_a_word_is_deleted() -> None:
    gone = Told(Wish("files", "delete", "x"), MINE, NAMES).answer(b"")
    id = NAMES.seal("files", MINE.sealed_as, MINE.theirs)
    assert orjson.loads(gone) == {"id": id, "object": "file", "deleted": True}


def test_what_lies_with_the_platforms_key_is_told_to_whom_its_mark_names() -> None:
    """Also where an id names it: another key, or a provider that gives ids anew, could have made it
    somebody else's."""
    place = PLACE._replace(theirs="file-a")
    mine, others = (
        orjson.dumps({"id": "file-a", "filename": names.marked(b"a").decode()})
        for names in (NAMES, Names(OLD, BETA))
    )
    for row in (others, b'{"id":"file-a","filename":"a"}', b'{"id":"file-a"}'):
        with pytest.raises(FileNotFound):
            Told(Wish("files", "get", "x"), place, NAMES).answer(row)
        with pytest.raises(FileNotFound):
            Told(Wish("files", "delete", "x"), place, NAMES).look(row)
        with pytest.raises(UpstreamBroken, match="names of files"):
            Told(Wish("files", "create"), place, NAMES).answer(row)
    Told(Wish("files", "delete", "x"), place, NAMES).look(mine)
    for verb, looked in (("get", ""), ("content", "/files/file-a"), ("delete", "/files/file-a")):
        assert Told(Wish("files", verb, "x"), place, NAMES).looked_at == looked  # type: ignore[arg-type]
        assert Told(Wish("files", verb, "x"), MINE, NAMES).looked_at == ""  # type: ignore[arg-type]
