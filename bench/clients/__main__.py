"""Runs real clients against a whole Ops-Center of its own, and writes what works into a page.

python -m bench.clients                    every client, minutes; needs package indexes
python -m bench.clients --only anthropic   those whose name has this in it
python -m bench.clients --write            docs/clients.md anew
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import stack
from bench.clients.installed import Installed
from bench.clients.page import page
from bench.clients.table import CLIENTS, Client
from bench.machine import REPOSITORY

PAGE = REPOSITORY / "docs" / "clients.md"
PROGRAM_S = 180
TOKENS = {"input": "0.15", "output": "0.6"}
#: The fake provider's name for it, and dollars for a million of what it is sold by.
SERVED = {
    "clients/tools": ("mock/tools", TOKENS),
    "clients/embed": ("mock/ok", TOKENS),
    "clients/image": ("mock/ok", {"images": "40000"}),
    "clients/speech": ("mock/ok", {"characters": "15"}),
    "clients/hearing": ("mock/ok", {"seconds": "360000"}),
}
Results = dict[Client, dict[str, str]]  # case -> what went wrong, if anything


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options().parse_args(arguments)
    chosen = [one for one in CLIENTS if options.only.lower() in one.name.lower()]
    installed = Installed(options.environment)
    installed.make(chosen)
    results: Results = {}
    with tempfile.TemporaryDirectory(prefix="occ-") as name:
        folder = Path(name)
        with stack.provider(folder, 1) as upstream, stack.opscenter(folder, 1, upstream) as ours:
            stack.serve_provider(ours, "compatible")
            for model, (upstream_model, prices) in SERVED.items():
                stack.serve_model(ours, model, upstream_model, prices)
            for client in chosen:
                results[client] = _run(client, installed, ours)
                _tell(client, results[client])
    if options.write:
        PAGE.write_text(page(results, installed))
    return int(any(problem for found in results.values() for problem in found.values()))


def _run(client: Client, installed: Installed, ours: stack.Stack) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI", "ANTHROPIC"))}
    gateway = {"GATEWAY_URL": ours.door_url, "GATEWAY_KEY": ours.key}
    done = subprocess.run(
        installed.command(client),
        capture_output=True,
        text=True,
        timeout=PROGRAM_S,
        env=inherited | gateway,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"case"')]
    found = {row["case"]: row["problem"] for row in rows}
    return found or {"chat": done.stderr.strip()[-300:] or "it said nothing"}


def _tell(client: Client, found: dict[str, str]) -> None:
    problems = [f"  {case}: {problem}" for case, problem in found.items() if problem]
    well = len(found) - len(problems)
    print(f"{client.name} ({client.index}, {client.dialect}): {well} of {len(found)}")
    print("\n".join(problems), end="\n" if problems else "", flush=True)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.clients", description=__doc__)
    parser.add_argument("--only", default="", help="a part of the clients' names")
    parser.add_argument("--write", action="store_true", help="write docs/clients.md")
    parser.add_argument("--environment", type=Path, default=REPOSITORY / "build" / "clients")
    return parser


if __name__ == "__main__":
    sys.exit(main())
