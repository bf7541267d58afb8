"""The home of one installation: its folders, and the locks that keep two starts apart.

Holds no secret itself and never removes anything.
"""

import errno
import fcntl
import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from control import sql
from control.machine.embedded.base import FolderUnusable, make_folder
from control.settings import ControlSettings

LOCK: Final = "up.lock"
FAMILY_LOCK: Final = "family.lock"
STAMP: Final = "schema.stamp"
POLL_SECONDS: Final = 0.05


class HomeInUse(Exception):
    """Another start works in this home; the sentence says which process."""


@dataclass(frozen=True, slots=True)
class Home:
    """An opened home. Its locks are held until this process ends."""

    path: Path
    run: Path
    lock: int
    family: int  # inherited by every child: free when the last one of a start is gone

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"


def open_home(settings: ControlSettings) -> Home:
    """Makes what is missing, private to its owner, and takes the lock of this home."""
    home, run = settings.home, settings.run_dir
    for folder in (home, home / "data", home / "logs", home / "secrets", run):
        make_folder(folder)
    _check_private(run)
    lock = _open(home / LOCK)
    if not _try(lock):
        holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise HomeInUse(
            f"`opscenter up` already runs in {home} as process {holder}. "
            f"Stop it with `kill {holder}`, or set OPSCENTER_HOME to another folder."
        )
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return Home(home, run, lock, _open(home / FAMILY_LOCK))


def family_is_gone(home: Home) -> bool:
    """Whether every child of an earlier start has ended; if so, the lock is ours."""
    return _try(home.family)


def await_family(home: Home, seconds: float) -> None:
    """Children of a start that was killed end by themselves; new ones must not meet them."""
    deadline = time.monotonic() + seconds
    while not family_is_gone(home):
        if time.monotonic() >= deadline:
            pids = " ".join(map(str, holders(home.path / FAMILY_LOCK)))
            raise HomeInUse(
                f"Processes of an earlier start in {home.path} still run after {seconds:.0f} s. "
                f"End them with `kill -9 {pids or '(their process ids)'}`, then start again."
            )
        time.sleep(POLL_SECONDS)


def holders(file: Path) -> list[int]:
    """The other processes that have this file open, where the system tells."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            opened = any(link.readlink() == file for link in (process / "fd").iterdir())
        except OSError:
            continue
        if opened and int(process.name) != os.getpid():
            found.append(int(process.name))
    return sorted(found)


def _check_private(run: Path) -> None:
    """A run folder under /tmp has a name that others can guess and take first."""
    found = run.lstat()
    if not run.is_dir() or run.is_symlink() or found.st_uid != os.geteuid():
        raise FolderUnusable(
            f"{run} is not this user's own folder. Remove it, or set OPSCENTER_RUN_DIR to another."
        )
    if found.st_mode & 0o077:
        run.chmod(0o700)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise FolderUnusable(
            f"{path} cannot be opened: {problem.strerror}. Give this user the folder, "
            "or set OPSCENTER_HOME to another one."
        ) from None


def _try(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        if problem.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


# The stamp of the schema: whether the database was seen at this program's schema -------


def schema_is_known(settings: ControlSettings) -> bool:
    """Whether the last start left this very database at this very schema."""
    try:
        return (settings.home / "data" / STAMP).read_text("ascii") == _fingerprint(settings)
    except (OSError, UnicodeDecodeError):
        return False


def remember_schema(settings: ControlSettings) -> None:
    (settings.home / "data" / STAMP).write_text(_fingerprint(settings))


def _fingerprint(settings: ControlSettings) -> str:
    digest = hashlib.blake2b(settings.database_url.encode(), digest_size=16)
    for file in sorted(sql.schema_folder().glob("*.sql")):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
