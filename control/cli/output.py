"""How commands speak: tables for people, JSON for programs, one sentence for what went wrong."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, NoReturn

import typer

Data = Mapping[str, Any]  # one object of the API
Columns = Mapping[str, str]  # heading -> field

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


class Failed(Exception):
    """What the user reads instead of a traceback; the command ends with exit code 1."""


class Misused(Exception):
    """The command was given what it cannot use; it ends with exit code 2."""


def show_json(data: object) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False))


def show_table(rows: Iterable[Data], columns: Columns, empty: str) -> None:
    """A table of these fields; `empty` is the sentence where there is no row."""
    found = list(rows)
    if not found:
        print(empty)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in columns:
        right = heading in ("credits", "amount", "cost", "tokens")
        table.add_column(heading, overflow="fold", justify="right" if right else "left")
    for row in found:
        table.add_row(*(Text(text_of(row.get(field))) for field in columns.values()))
    _console(Console).print(table)


def show_rows(data: Data, columns: Columns) -> None:
    """One object, a line per field."""
    width = max(len(heading) for heading in columns)
    for heading, field in columns.items():
        print(f"{heading.ljust(width)}  {text_of(data.get(field))}")


def show_page(page: Data, as_json: bool, columns: Columns, empty: str) -> None:
    if as_json:
        show_json(page)
        return
    show_table(page["data"], columns, empty)
    if page.get("next"):
        print(f"There are more: --cursor {page['next']}")


def show_once(what: str, value: str) -> None:
    """A secret that is never shown again."""
    from rich.console import Console

    notice = _console(Console, stderr=True)
    notice.print(f"{what}, shown this once; keep it safe:", style="yellow", markup=False)
    print(value)


def say(sentence: str) -> None:
    print(sentence)


def complain(sentence: str) -> None:
    """In red, on the error stream."""
    from rich.console import Console

    _console(Console, stderr=True).print(sentence, style="red", markup=False)


def fail(sentence: str) -> NoReturn:
    raise Failed(sentence)


def text_of(value: object) -> str:
    """A value as a cell: dates to the second, lists by commas, nothing as a dash."""
    if value is None or value == "" or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(text_of(one) for one in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {text_of(one)}" for name, one in value.items())
    text = str(value)
    if len(text) > 19 and text[4:5] == "-" and text[10:11] == "T" and text[-1:] == "Z":
        return text[:19].replace("T", " ")
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _console(kind: Any, stderr: bool = False) -> Any:
    """Wide where it is not a terminal, so that nothing is cut for a program."""
    tty = (sys.stderr if stderr else sys.stdout).isatty()
    return kind(stderr=stderr, highlight=False, soft_wrap=not tty, width=None if tty else 240)


def pick(row: Data, fields: Sequence[str]) -> dict[str, Any]:
    return {name: row.get(name) for name in fields}
