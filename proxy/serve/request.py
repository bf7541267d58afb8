"""What the head of a request may be, and what it says. Pure.

What two programs could read in two ways is refused here or by the parser: where a body ends, who
is meant, what a header's name is.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from proxy.errors import ExpectationUnknown, HeadTooLarge, HttpInvalid, TargetTooLong

HEAD_BYTES_MAX: Final = 64 * 1024
HEADERS_MAX: Final = 200
TARGET_BYTES_MAX: Final = 8 * 1024
KEPT: Final = 256  # hosts and targets that were understood: most requests name the same

_authority = re.compile(
    rb"([A-Za-z0-9._~-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?"
).fullmatch
_absolute = re.compile(rb"https?://([^/?#]*)([/?].*)?", re.IGNORECASE).fullmatch


class Request:
    """One request; `body` is there when it is served."""

    __slots__ = ("body", "headers", "keep", "method", "path", "peer", "plain", "query")

    def __init__(
        self, method: bytes, path: str, headers: dict[bytes, bytes], keep: bool, plain: bool
    ) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.keep = keep  # the connection may live on
        self.plain = plain  # HTTP/1.0, which knows no chunks
        self.query = b""
        self.peer = ""  # the address at the other end
        self.body = b""

    @property
    def has_body(self) -> bool:
        headers = self.headers
        return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers

    @property
    def waits(self) -> bool:
        """The client sends the body when we say so."""
        return b"expect" in self.headers and not self.plain


def read(
    method: bytes, target: bytes, fields: Sequence[tuple[bytes, bytes]], version: str, keep: bool
) -> Request:
    """The request of a head, its names in lower case; raises what is wrong with it."""
    if version not in ("1.1", "1.0"):
        raise HttpInvalid(why="the version is neither 1.1 nor 1.0")
    headers = dict(fields)
    if len(headers) != len(fields):
        _check_repeated(headers, fields)
    if b"_" in b"".join(headers):
        raise HttpInvalid(why="a header's name holds an underscore")
    plain = version == "1.0"
    if b"transfer-encoding" in headers:
        _check_coding(headers, plain)
    if b"expect" in headers and headers[b"expect"].lower() != b"100-continue":
        raise ExpectationUnknown
    host = headers.get(b"host")
    if host is None:
        if not plain:
            raise HttpInvalid(why="the header Host is missing")
    elif not _is_authority(host):
        raise HttpInvalid(why="the header Host is no name or address")
    path, query = _path(target, host)
    request = Request(method, path, headers, keep and not plain, plain)
    request.query = query
    return request


def check_size(fields: Sequence[tuple[bytes, bytes]], target: bytes) -> None:
    size = len(target) + sum(len(name) + len(value) for name, value in fields)
    if size > HEAD_BYTES_MAX or len(fields) > HEADERS_MAX:
        raise head_too_large()


def head_too_large() -> HeadTooLarge:
    return HeadTooLarge(limit=HEAD_BYTES_MAX)


_ONCE = (
    *(b"host", b"authorization", b"x-service-key", b"x-api-key", b"content-type"),
    *(b"content-length", b"transfer-encoding", b"expect"),
)


def _check_repeated(headers: dict[bytes, bytes], fields: Sequence[tuple[bytes, bytes]]) -> None:
    names = [name for name, _ in fields]
    if any(names.count(name) > 1 for name in _ONCE):
        raise HttpInvalid(why="a header that may come once came twice")
    for name in headers:  # a list that came in several lines
        if names.count(name) > 1:
            headers[name] = b", ".join(value for other, value in fields if other == name)


def _check_coding(headers: dict[bytes, bytes], plain: bool) -> None:
    if plain or b"content-length" in headers:
        raise HttpInvalid(why="its length is told in two ways, or in one that it does not know")
    if headers[b"transfer-encoding"].lower() != b"chunked":
        raise HttpInvalid(why="the only transfer encoding is chunked")


@lru_cache(KEPT)
def _is_authority(host: bytes) -> bool:
    return _authority(host) is not None


@lru_cache(KEPT)
def _path(target: bytes, host: bytes | None) -> tuple[str, bytes]:
    """And its query, as it came."""
    if len(target) > TARGET_BYTES_MAX:
        raise TargetTooLong(limit=TARGET_BYTES_MAX)
    if not target.startswith(b"/") and target != b"*":
        target = _relative(target, host)
    if b"#" in target:
        raise HttpInvalid(why="the target holds a fragment")
    begin, _, query = target.partition(b"?")
    path = begin.decode("ascii", "replace")
    return (unquote(path) if "%" in path else path), query


def _relative(target: bytes, host: bytes | None) -> bytes:
    """Of an address in full, which every server has to take; it must mean the same host."""
    parts = _absolute(target)
    if parts is None or (host is not None and parts[1].lower() != host.lower()):
        raise HttpInvalid(why="the target is no path, or names another host than Host")
    rest = parts[2] or b"/"
    return rest if rest.startswith(b"/") else b"/" + rest
