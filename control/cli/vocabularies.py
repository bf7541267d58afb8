"""`opscenter vocabularies`: by what tokens are counted that no provider tells, and whether it is
there. Works by itself, on the machine of the proxies.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from control.cli.client import settings
from control.cli.output import Failed, Json, say, show_json, show_table

if TYPE_CHECKING:
    from proxy.costs.vocabularies import Encoding

BYTES_MAX = 16 * 2**20  # of one vocabulary
COLUMNS = {"encoding": "encoding", "is": "state", "models": "models", "file": "file"}
STARTS = "Proxies that start from now on count by them."


def register(app: typer.Typer) -> None:
    epilog = "\n\n".join(
        f"Example: opscenter vocabularies{given}" for given in ("", " --fetch", " --take /mnt")
    )
    app.command(epilog=epilog)(vocabularies)


def vocabularies(
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Download what is missing from its publisher.")
    ] = False,
    take: Annotated[
        Path | None,
        typer.Option(help="Copy what is missing from this folder, such as tiktoken's cache."),
    ] = None,
    json: Json = False,
) -> None:
    """Tell which of tiktoken's vocabularies are at hand, and for which models; fetch them."""
    from proxy.costs.vocabularies import ENCODINGS

    folder = settings().vocabularies
    for encoding in ENCODINGS:
        if (fetch or take is not None) and _row(encoding, folder)["state"] != "at hand":
            data = _taken(encoding, take) if take is not None else _fetched(encoding)
            _put(folder / encoding.cached_as, data)
    rows = [_row(encoding, folder) for encoding in ENCODINGS]
    if json:
        show_json({"folder": str(folder), "data": rows})
        return
    say(f"In {folder}:")
    show_table(rows, COLUMNS, "")
    say(STARTS if fetch or take is not None else "Of other models tokens are estimated by bytes.")


def _row(encoding: "Encoding", folder: Path) -> dict[str, object]:
    path = next((folder / n for n in encoding.file_names if (folder / n).is_file()), None)
    row: dict[str, object] = {
        "encoding": encoding.name,
        "models": list(encoding.families),
        "file": str(path or folder / encoding.cached_as),
        "url": encoding.url,
    }
    try:
        problem = encoding.problem_of(path.read_bytes()) if path is not None else "missing"
    except OSError as why:
        problem = f"cannot be read: {why.strerror}"
    return {**row, "state": problem or "at hand"}


def _taken(encoding: "Encoding", folder: Path) -> bytes:
    found = next((folder / n for n in encoding.file_names if (folder / n).is_file()), None)
    if found is None:
        raise Failed(f"{folder} has no {' and no '.join(encoding.file_names)}.")
    try:
        return _whole(encoding, found.read_bytes(), str(found))
    except OSError as problem:
        raise Failed(f"{found} cannot be read: {problem.strerror}.") from None


def _fetched(encoding: "Encoding") -> bytes:
    import asyncio
    import ssl

    from control.fetch import FetchError
    from control.fetch import fetch as get

    try:
        data = asyncio.run(get(encoding.url, ssl.create_default_context(), BYTES_MAX))
    except FetchError as problem:
        raise Failed(
            f"{encoding.url}: {problem}. Fetch it on another machine, and give the folder that it"
            " is in: opscenter vocabularies --take FOLDER."
        ) from None
    return _whole(encoding, data, encoding.url)


def _whole(encoding: "Encoding", data: bytes, source: str) -> bytes:
    if problem := encoding.problem_of(data):
        raise Failed(f"{source} is not taken: {problem}.")
    return data


def _put(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    new = path.with_name(path.name + ".new")
    try:
        path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # it may be a new HOME
        path.parent.mkdir(mode=0o755, exist_ok=True)
        new.write_bytes(data)
        new.replace(path)
    except OSError as problem:
        raise Failed(f"{path} cannot be written: {problem.strerror}.") from None
