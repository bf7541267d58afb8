"""Objects of a request, read name by name: each value is what it has to be or FieldInvalid, and
what nobody has read stands in `others` when the object is done with. Pure.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from proxy.errors import FieldInvalid, FieldMissing


class Fields:
    """One object of a request, with its place in it for errors."""

    __slots__ = ("_nth", "_rest", "others", "path")

    def __init__(self, value: Any, path: str, others: dict[str, Any], nth: str) -> None:
        if not isinstance(value, Mapping):
            raise invalid(path, "it takes an object")
        self._rest = {name: one for name, one in value.items() if one is not None}
        self._nth = nth  # how the dialect writes places in a list: `.{}` or `[{}]`
        self.path = path
        self.others = others

    def at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def take(self, name: str) -> Any:
        return self._rest.pop(name, None)

    def text(self, name: str, default: str | None = "") -> str:
        """A text; one without a default has to be there."""
        value = self.take(name)
        if value is None:
            if default is None:
                raise FieldMissing(self.at(name), name=self.at(name))
            return default
        if not isinstance(value, str):
            raise invalid(self.at(name), "it takes a text")
        return value

    def one_of(self, name: str, words: Sequence[str], default: str | None = "") -> str:
        """One of these words; an empty one is none of them."""
        if default is not None and name not in self._rest:
            return default
        value = self.text(name, None)
        if value not in words:
            raise invalid(self.at(name), f"it takes {', '.join(words)}")
        return value

    def flag(self, name: str) -> bool | None:
        value = self.take(name)
        if value is not None and not isinstance(value, bool):
            raise invalid(self.at(name), "it takes true or false")
        return value

    def number(self, name: str) -> float | None:
        value = self.take(name)
        # to Python a bool is an int
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise invalid(self.at(name), "it takes a number")
        return value

    def whole(self, name: str, low: int, high: int) -> int | None:
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise invalid(self.at(name), f"it takes a whole number from {low} to {high}")
        return value

    def object(self, name: str) -> Mapping[str, Any] | None:
        """An object that is nobody's business here, such as a schema."""
        value = self.take(name)
        if value is not None and not isinstance(value, Mapping):
            raise invalid(self.at(name), "it takes an object")
        return value

    def fields(self, name: str) -> "Fields | None":
        value = self.take(name)
        return None if value is None else self._inner(value, self.at(name))

    def each(self, name: str) -> "Iterator[Fields]":
        """The objects of a list; none where there is no list."""
        for nth, value in enumerate(self.list(name)):
            yield self._inner(value, self.at(name) + self._nth.format(nth))

    def texts(self, name: str) -> tuple[str, ...]:
        found = self.list(name)
        for nth, value in enumerate(found):
            if not isinstance(value, str):
                raise invalid(self.at(name) + self._nth.format(nth), "it takes a text")
        return tuple(found)

    def list(self, name: str) -> Sequence[Any]:
        value = self.take(name)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise invalid(self.at(name), "it takes a list")
        return value

    def has_text(self, name: str) -> bool:
        """Whether it is a text, where a list may stand too."""
        return isinstance(self._rest.get(name), str)

    def refuse(self, what: str, value: Any) -> None:
        """Something that this side has no word for: a provider carries it or refuses."""
        self.others[f"{self.path} {what}".strip()] = value

    def unknown(self, kind: str) -> None:
        """The whole object is such a thing."""
        self.refuse(f"of type {kind}", dict(self._rest))
        self._rest.clear()

    def done(self) -> None:
        """What is left has not been read."""
        for name, value in self._rest.items():
            self.others[self.at(name)] = value
        self._rest.clear()

    def _inner(self, value: Any, path: str) -> "Fields":
        return Fields(value, path, self.others, self._nth)


def invalid(path: str, why: str) -> FieldInvalid:
    return FieldInvalid(path, name=path, why=why)
