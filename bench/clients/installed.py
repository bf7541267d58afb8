"""The clients' environments: two virtual ones and a folder of modules, made once and anew when what
is wanted changes. Nothing of them is ours, and nothing of ours is in them.
"""

import json
import re
import shutil
import subprocess
import venv
from collections.abc import Sequence
from pathlib import Path

from bench.clients.table import Client

INSTALL_S = 1_200
PROGRAMS = Path(__file__).parent / "programs"


class Installed:
    """Where programs run, and in which versions their packages are there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._versions: dict[tuple[str, str], str] = {}

    def make(self, clients: Sequence[Client]) -> None:
        """Installs what is missing; the indexes are the machine's own."""
        for room in sorted({one.room for one in clients}):
            theirs = [one for one in clients if one.room == room]
            wanted = sorted({package for one in theirs for package in one.packages})
            folder = self._folder / room
            folder.mkdir(parents=True, exist_ok=True)
            done = folder / "wanted.txt"
            install, look = (_npm, _modules) if theirs[0].index == "npm" else (_pip, _distributions)
            if not done.exists() or not set(wanted) <= set(done.read_text().split("\n")):
                install(folder, wanted)
                done.write_text("\n".join(wanted))
            for name, version in look(folder).items():
                self._versions[room, name] = version

    def command(self, client: Client) -> list[str]:
        folder = self._folder / client.room
        if client.index == "pip":
            program = PROGRAMS / client.program
            return [str(folder / "bin" / "python"), "-B", str(program), *client.arguments]
        # modules are looked for beside the program
        for path in PROGRAMS.glob("*.mjs"):
            shutil.copy(path, folder)
        return ["node", str(folder / client.program), *client.arguments]

    def version(self, client: Client) -> str:
        return self._versions.get((client.room, _plain(client.packages[0])), "")


def _pip(folder: Path, wanted: list[str]) -> None:
    if not (folder / "bin").exists():
        venv.create(folder, with_pip=True)
    _run([str(folder / "bin" / "python"), "-m", "pip", "install", "-q", *wanted], folder)


def _npm(folder: Path, wanted: list[str]) -> None:
    (folder / "package.json").write_text('{"private": true}')
    _run(["npm", "install", "--silent", "--no-fund", "--no-audit", *wanted], folder)


def _distributions(folder: Path) -> dict[str, str]:
    listed = _run([str(folder / "bin" / "python"), "-m", "pip", "list", "--format=json"], folder)
    return {_plain(row["name"]): row["version"] for row in json.loads(listed)}


def _modules(folder: Path) -> dict[str, str]:
    listed = json.loads(_run(["npm", "ls", "--depth=0", "--json"], folder))
    return {_plain(name): row["version"] for name, row in listed["dependencies"].items()}


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} failed:\n{done.stderr[-3_000:]}")
    return done.stdout


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower()
