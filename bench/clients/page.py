"""The page that tells which client does what: `docs/clients.md`."""

from collections.abc import Mapping

from bench.clients.installed import Installed
from bench.clients.table import CASES, Client

HEAD = """\
# Clients

Real clients against a running Ops-Center, unchanged but for address and key. Written by
`make clients ARGS=--write`, which installs them into environments of their own, starts a whole
Ops-Center with a fake provider, and runs the programs in `bench/clients/programs/`; each of them
is an example too.

Models are the built-in one, which repeats what it is told and calls the tool that is named, and
a fake provider's. What a dialect carries is in [dialects.md](dialects.md).

"""


def page(results: Mapping[Client, Mapping[str, str]], installed: Installed) -> str:
    columns = ("client", "version", "dialect", *CASES)
    lines = [_row(columns), _row(["---"] * len(columns))]
    notes: list[str] = []
    for client, found in results.items():
        cells = [_cell(client, case, found.get(case), notes) for case in CASES]
        name = f"[{client.name}](../bench/clients/programs/{client.program}) ({client.index})"
        lines.append(_row([name, installed.version(client), client.dialect, *cells]))
    told = "\n".join(f"{number}. {note}" for number, note in enumerate(notes, 1))
    return HEAD + "\n".join(lines) + "\n" + (f"\nWhat does not work:\n\n{told}\n" if told else "")


def _cell(client: Client, case: str, problem: str | None, notes: list[str]) -> str:
    if problem is None:
        return ""
    if not problem:
        return "yes"
    notes.append(f"{client.name}, {client.dialect}, {case}: {problem}")
    return f"no ({len(notes)})"


def _row(cells: "list[str] | tuple[str, ...]") -> str:
    return f"| {' | '.join(cells)} |"
