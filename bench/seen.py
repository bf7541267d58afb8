"""One request to the fake provider, as it came."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import orjson


@dataclass(frozen=True, slots=True)
class Seen:
    """Decoded where somebody looks."""

    method: str
    path: str
    raw_headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    query: str = ""

    @property
    def header_rows(self) -> list[tuple[str, str]]:
        """In the order sent, names in lower case."""
        return [
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in self.raw_headers
        ]

    @property
    def headers(self) -> Mapping[str, str]:
        """By name in lower case; of a name that came twice the last value."""
        return MappingProxyType(dict(self.header_rows))

    @property
    def key(self) -> str:
        """In whichever header this provider wants it."""
        headers = self.headers
        named = headers.get("x-api-key") or headers.get("x-goog-api-key")
        return named or headers.get("authorization", "").removeprefix("Bearer ")

    @property
    def request_id(self) -> str:
        for name, value in self.raw_headers:
            if name.lower() == b"x-request-id":
                return value.decode("latin-1")
        return ""

    @property
    def json(self) -> object:
        return orjson.loads(self.body)
