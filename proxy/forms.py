"""Multipart forms: read once, written anew, so that the provider finds no other field in them than
was admitted. Pure.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from proxy.errors import BodyInvalid, FieldInvalid

PARTS_MAX = 100
HEAD_MAX = 4_096  # bytes of a part's headers
TEXT_MAX = 1_000_000  # bytes of a field that is no file
FILE = "file"  # the one part that is a file
TYPE = b"multipart/form-data"
_boundary = re.compile(
    rb'multipart/form-data\s*;(?:.*;)?\s*boundary=(?:"([^"\r\n]{1,70})"|([^\s;",]{1,70}))',
    re.IGNORECASE,
)
_disposition = re.compile(
    rb'form-data((?:\s*;\s*[a-z*-]+=(?:"[^"\r\n]*"|[^\s;"]+))*)\s*', re.IGNORECASE
)
_parameter = re.compile(rb';\s*([a-z*-]+)=(?:"([^"\r\n]*)"|([^\s;"]+))', re.IGNORECASE)
_media_type = re.compile(rb"[\w.+-]+/[\w.+-]+(?:[ \t]*;[ \t]*[\w.+-]+=[\w.+-]+)*").fullmatch


class Part(NamedTuple):
    name: str
    value: bytes
    filename: bytes | None = None  # of a file
    media_type: bytes = b""


def read(body: bytes, content_type: bytes) -> list[Part]:
    """The parts in their order; raises where two readers could see two forms."""
    found = _boundary.match(content_type)
    if found is None:
        raise BodyInvalid(why="it takes multipart/form-data with a boundary")
    mark = b"\r\n--" + (found[1] or found[2])
    pieces = (b"\r\n" + body).split(mark, PARTS_MAX + 2)
    if len(pieces) > PARTS_MAX + 2:
        raise BodyInvalid(why=f"the form has more than {PARTS_MAX} parts")
    if len(pieces) < 2 or pieces[0].strip() or not pieces[-1].startswith(b"--"):
        raise BodyInvalid(why="the form does not end with its boundary")
    parts = [_part(piece) for piece in pieces[1:-1]]
    for part in parts:
        name = part.name
        if not name.endswith("[]") and sum(other.name == name for other in parts) > 1:
            raise FieldInvalid(name, name=name, why="it stands in the form twice")
    return parts


def write(parts: Sequence[Part], boundary: bytes) -> bytes:
    lines = []
    for part in parts:
        head = b'content-disposition: form-data; name="%b"' % part.name.encode()
        if part.filename is not None:
            head += b'; filename="%b"' % part.filename
        if part.media_type:
            head += b"\r\ncontent-type: " + part.media_type
        lines += [b"--", boundary, b"\r\n", head, b"\r\n\r\n", part.value, b"\r\n"]
    return b"".join([*lines, b"--", boundary, b"--\r\n"])


def boundary_of(rid: str, parts: Sequence[Part]) -> bytes:
    """One that stands in none of them."""
    boundary = b"opscenter" + rid.encode()
    while any(boundary in part.value for part in parts):
        boundary += b"x"
    return boundary


def texts(parts: Sequence[Part]) -> dict[str, str]:
    """Fields by name; of a file its name."""
    return dict(_texts(parts))


def _texts(parts: Sequence[Part]) -> Iterator[tuple[str, str]]:
    for part in parts:
        if (part.filename is None) is (part.name == FILE):
            why = "it takes a file, with a name" if part.name == FILE else "it takes no file"
            raise FieldInvalid(part.name, name=part.name, why=why)
        if part.filename is not None:
            yield part.name, part.filename.decode("utf-8", "replace") or "file"
            continue
        if len(part.value) > TEXT_MAX:
            raise FieldInvalid(part.name, name=part.name, why=f"over {TEXT_MAX} bytes of text")
        try:
            yield part.name, part.value.decode()
        except UnicodeDecodeError:
            raise FieldInvalid(part.name, name=part.name, why="it is no UTF-8") from None


def _part(piece: bytes) -> Part:
    head, blank, value = piece.partition(b"\r\n\r\n")
    if not blank or not head.startswith(b"\r\n") or len(head) > HEAD_MAX:
        raise BodyInvalid(why="a part of the form has no head")
    headers = dict(_header(line) for line in head[2:].split(b"\r\n"))
    found = _disposition.fullmatch(headers.get(b"content-disposition", b""))
    given = [] if found is None else _parameter.findall(found[1])
    named = {name.lower(): quoted or bare for name, quoted, bare in given}
    if len(named) != len(given) or set(named) - {b"name", b"filename"} or not named.get(b"name"):
        raise BodyInvalid(why="a part of the form has no name, or one in a form that is not taken")
    media_type = headers.get(b"content-type", b"")
    if media_type and not _media_type(media_type):
        raise BodyInvalid(why="a part of the form has a type that is none")
    try:
        name = named[b"name"].decode("ascii")
    except UnicodeDecodeError:
        raise BodyInvalid(why="a part's name takes ASCII") from None
    return Part(name, value, named.get(b"filename"), media_type)


def _header(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.strip().lower(), value.strip()
