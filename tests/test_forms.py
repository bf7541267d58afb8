"""Multipart forms: what is read of them is what is written, and nothing that reads in two ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import forms
from proxy.errors import OpsError
from proxy.forms import Part

KIND = b"multipart/form-data; boundary=x"
FILE = Part("file", b"\r\n--almost\r\n\x00\xff", b"a b.wav", b"audio/wav")
PARTS = [Part("model", b"m"), FILE, Part("include[]", b"1"), Part("include[]", b"2")]

names = st.from_regex(r"[a-z_]{1,12}(\[\])?", fullmatch=True)


@given(st.dictionaries(names, st.binary(max_size=200)))
def test_a_form_comes_back_as_it_was_written(values: dict[str, bytes]) -> None:
    parts = [Part(name, value) for name, value in values.items()]
    boundary = forms.boundary_of("rid", parts)
    body = forms.write(parts, boundary)
    if parts:
        assert forms.read(body, forms.TYPE + b"; boundary=" + boundary) == parts


def test_files_keep_their_bytes_their_names_and_their_types() -> None:
    boundary = forms.boundary_of("rid", PARTS)
    kind = forms.TYPE + b'; charset=utf-8; boundary="' + boundary + b'"'
    assert forms.read(forms.write(PARTS, boundary), kind) == PARTS
    assert forms.texts(PARTS[:2]) == {"model": "m", "file": "a b.wav"}


def test_no_part_holds_the_boundary() -> None:
    held = Part("a", b"--openscenter opscenterrid opscenterridx")
    assert forms.boundary_of("rid", [held]) not in held.value


def part(head: bytes, value: bytes = b"v") -> bytes:
    return b"--x\r\n" + head + b"\r\n\r\n" + value + b"\r\n--x--\r\n"


NAMED = b'content-disposition: form-data; name="a"'


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", KIND),
        (part(NAMED), b"application/json"),
        (part(NAMED), b"multipart/form-data"),
        (part(NAMED)[:-4], KIND),
        (b"before" + part(NAMED), KIND),
        (part(b"x: y"), KIND),
        (part(b'content-disposition: form-data; name="a"; name="b"'), KIND),
        (part(b"content-disposition: form-data; name*=utf-8''b; name=\"a\""), KIND),
        (part(b'content-disposition: form-data; name=""'), KIND),
        (part(b'content-disposition: form-data; name="\xff"'), KIND),
        (part(b'content-disposition: attachment; name="a"'), KIND),
        (part(NAMED + b"\r\ncontent-type: no type"), KIND),
        (part(NAMED + b"\r\ncontent-type: a/b;\n\nc=d"), KIND),
        (part(NAMED + b"\r\nx: " + b"y" * forms.HEAD_MAX), KIND),
        (part(NAMED)[:-8] + b"\r\n" + part(NAMED), KIND),
        (b"".join(b"--x\r\n" + NAMED + b"%d" % n for n in range(200)) + b"--x--", KIND),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(body: bytes, kind: bytes) -> None:
    with pytest.raises(OpsError):
        forms.read(body, kind)


def test_a_form_is_cut_no_further_than_it_may_have_parts() -> None:
    body = forms.write([Part("a[]", b"1")] * forms.PARTS_MAX, b"x")
    assert len(forms.read(body, KIND)) == forms.PARTS_MAX
    for many in (forms.PARTS_MAX + 1, 50_000):
        with pytest.raises(OpsError, match=f"more than {forms.PARTS_MAX} parts"):
            forms.read(forms.write([Part("a[]", b"1")] * many, b"x"), KIND)


def test_a_field_takes_text_of_a_size() -> None:
    for value in (b"\xff", b"a" * (forms.TEXT_MAX + 1)):
        with pytest.raises(OpsError):
            forms.texts([Part("prompt", value)])


@given(st.binary(max_size=300))
def test_rubbish_is_refused_and_never_worse(body: bytes) -> None:
    for text in (body, b"--x\r\n" + body + b"\r\n--x--"):
        try:
            forms.texts(forms.read(text, KIND))
        except OpsError:
            continue
