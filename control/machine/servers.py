"""The embedded servers as one thing: their passwords, their addresses, started together, stopped.

Starts nothing that a setting already names elsewhere; that is for `up` to decide.
"""

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from control.machine.embedded import postgres, valkey
from control.machine.embedded.base import EmbeddedServer, FolderUnusable, ServerError, make_folder
from control.machine.embedded.postgres import PostgresServer
from control.machine.embedded.valkey import ValkeyServer

__all__ = [
    "EmbeddedServer",
    "PostgresServer",
    "Server",
    "ServerError",
    "ValkeyServer",
    "start_postgres",
    "start_valkey",
]

PASSWORD_BYTES: Final = 24
SECRETS: Final = "secrets"
VALKEY: Final = "valkey"
POSTGRES: Final = "pg"


@dataclass(frozen=True, slots=True)
class Server:
    """A started server as others see it; its URL holds the password, so print the name alone."""

    name: str
    url: str
    pid: int

    def __repr__(self) -> str:
        return f"Server({self.name}, pid {self.pid})"


def describe(server: EmbeddedServer) -> Server:
    return Server(server.name, server.url, server.pid)


def start_valkey(
    data: Path, run: Path, password: str, *, log: Path | None = None, databases: int = 1
) -> ValkeyServer:
    """A Valkey that answers on a unix socket in `run`."""
    server = valkey.launch(data, run, password, log=log or run / "valkey.log", databases=databases)
    server.wait_ready()
    return server


def start_postgres(
    data: Path, run: Path, password: str, *, log: Path | None = None, durable: bool = True
) -> PostgresServer:
    """A PostgreSQL with the database `opscenter` that answers on a unix socket in `run`."""
    server = postgres.launch(data, run, password, log=log or run / "postgres.log", durable=durable)
    server.wait_ready()
    return server


def launch_valkey(home: Path, run: Path) -> ValkeyServer:
    """Starts the home's Valkey without waiting for it."""
    return valkey.launch(
        home / "data" / VALKEY,
        run,
        password(home, VALKEY),
        log=home / "logs" / "valkey.log",
        databases=1,
    )


def launch_postgres(home: Path, run: Path) -> PostgresServer:
    """Starts the home's PostgreSQL, made first where there is none, without waiting for it."""
    return postgres.launch(
        home / "data" / POSTGRES,
        run,
        password(home, POSTGRES),
        log=home / "logs" / "postgres.log",
    )


def stop_all(servers: Sequence[EmbeddedServer]) -> None:
    """All are told first and waited for then, so that the slowest sets the time."""
    for server in servers:
        if server.process.poll() is None:
            server.process.send_signal(server.escalation[0][0])
    for server in servers:
        server.stop()


def password(home: Path, server: str) -> str:
    """The server's password, made at the first start and kept for its owner's eyes alone."""
    file = home / SECRETS / f"{server}.password"
    try:
        return file.read_text("ascii").strip()
    except (FileNotFoundError, NotADirectoryError):
        _check_unused(home, server, file)
        make_folder(file.parent)
    except (OSError, UnicodeDecodeError) as problem:
        raise FolderUnusable(
            f"{file} cannot be read: {problem}. It holds the password of a server in {home}; "
            "give it back to this user, or restore it from a backup."
        ) from None
    made = secrets.token_hex(PASSWORD_BYTES)
    _write_private(file, made + "\n")
    return made


def _check_unused(home: Path, server: str, file: Path) -> None:
    """PostgreSQL keeps the password it was made with; Valkey is told its own at each start."""
    data = home / "data" / server
    if server == POSTGRES and data.exists():
        raise FolderUnusable(
            f"{file} is gone, but the data in {data} opens with that password alone. Put it back "
            "from a backup, or restore the database into an empty home."
        )


def _write_private(file: Path, text: str) -> None:
    """Whole or not at all: a half-written password would lock the data up."""
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        fresh.replace(file)
    except OSError as problem:
        raise FolderUnusable(
            f"{file} cannot be written: {problem.strerror}. Free some room or change its owner."
        ) from None


def addresses(home: Path, run: Path) -> tuple[str, str]:
    """The URLs of a home's own Valkey and PostgreSQL, whether they run or not."""
    folder = run / "pg" if (run / "pg" / f".s.PGSQL.{postgres.PORT}").exists() else run
    return (
        valkey.url_of(run, password(home, VALKEY)),
        postgres.url_of(folder, password(home, POSTGRES)),
    )
