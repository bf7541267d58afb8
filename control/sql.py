"""Reads schema/queries/*.sql into names. Holds no SQL and never builds any."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

_SECTION = re.compile(r"^-- name: *(.*?) *$", re.MULTILINE)
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class SqlError(ValueError):
    """A file of queries cannot be read: the message says where and why."""


def schema_folder() -> Path:
    """In a wheel the SQL lies inside this package, in a checkout beside it."""
    packaged = Path(__file__).parent / "schema"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "schema"


@cache
def load() -> Mapping[str, str]:
    """Every named query of the product, by name."""
    return read(schema_folder() / "queries")


def read(folder: Path) -> Mapping[str, str]:
    """Every named query of a folder; a name that occurs twice is an error."""
    queries: dict[str, str] = {}
    for file in sorted(folder.glob("*.sql")):
        for name, statement in _sections(file):
            if name in queries:
                raise SqlError(f"{file.name}: the query {name} exists already; rename one.")
            queries[name] = statement
    if not queries:
        raise SqlError(f"{folder} holds no queries; install the program again.")
    return MappingProxyType(queries)


def _sections(file: Path) -> list[tuple[str, str]]:
    head, *rest = _SECTION.split(file.read_text("utf-8"))
    if any(line.strip() and not line.startswith("--") for line in head.splitlines()):
        raise SqlError(f"{file.name}: a statement stands before the first `-- name:` line.")
    pairs = list(zip(rest[::2], rest[1::2], strict=True))
    for name, statement in pairs:
        if not _NAME.fullmatch(name):
            raise SqlError(f"{file.name}: {name!r} is no name for a query.")
        if not statement.strip():
            raise SqlError(f"{file.name}: the query {name} is empty.")
    return [(name, statement.strip()) for name, statement in pairs]
