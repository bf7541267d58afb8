"""What both embedded servers share: errors with cause and cure, checks before a start, one process.

Never touches a process that does not work in the very data folder it was asked about.
"""

import errno
import os
import shutil
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from proxy.machine import children

SOCKET_PATH_BYTES_MAX: Final = 107 if sys.platform == "linux" else 103
FREE_BYTES_MIN: Final = 64 * 2**20
READY_SECONDS_MAX: Final = 120.0  # a long log to replay after a crash
LEFT_OVER_SECONDS_MAX: Final = 30.0

Escalation = Sequence[tuple[signal.Signals, float]]


class ServerError(Exception):
    """An embedded server cannot be used; the sentence says why and what helps."""


class BinaryMissing(ServerError):
    """The package that brings the server is not installed here."""


class FolderUnusable(ServerError):
    """A folder cannot be made or written."""


class DiskFull(ServerError):
    """Too little room for the server's data."""


class SocketPathTooLong(ServerError):
    """The system's limit for socket paths."""


class WrongVersion(ServerError):
    """The data was written by a server of another version."""


class StillInUse(ServerError):
    """Another server works in the data folder and does not stop."""


class StartFailed(ServerError):
    """The server ended or did not answer in time."""


class EmbeddedServer(ABC):
    """One started server: where it answers, and how it ends."""

    name: str
    escalation: Escalation

    def __init__(self, url: str, process: children.Child, log: Path) -> None:
        self.url = url
        self.process = process
        self.log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it answers now; asks without waiting."""

    def has_come(self) -> bool:
        """Whether it answers now; raises when it never will."""
        status = self.process.poll()
        if status is not None:
            raise start_failed(self.name, children.ended(status), self.log)
        return self.is_ready()

    def wait_ready(self) -> None:
        """Returns when the server answers; raises StartFailed when it ended or took too long."""
        if not children.until(self.has_come, READY_SECONDS_MAX):
            raise self.too_late()

    def too_late(self) -> ServerError:
        """Stops what did not answer in time and says so."""
        self.stop()
        return start_failed(self.name, f"gave no answer in {READY_SECONDS_MAX:.0f} s", self.log)

    def stop(self) -> int:
        return children.stop(self.process, self.escalation)


def start_failed(name: str, what: str, log: Path) -> ServerError:
    last = children.tail(log)
    if "No space left on device" in last:
        return DiskFull(f"{name} {what}: the disk is full. Free some room, then start again.")
    shown = f" Its last lines:\n{last}" if last else ""
    return StartFailed(f"{name} {what}. {log} says more.{shown}")


def make_folder(path: Path, mode: int = 0o700) -> None:
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as problem:
        if problem.errno == errno.ENOSPC:
            raise DiskFull(f"{path} cannot be made: the disk is full. Free some room.") from None
        raise FolderUnusable(
            f"{path} cannot be made: {problem.strerror}. "
            "Give this user the folder above it, or set OPSCENTER_HOME to one of its own."
        ) from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise FolderUnusable(
            f"{path} cannot be written by this user. "
            "Change its owner, or set OPSCENTER_HOME to another folder."
        )


def check_room(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES_MIN:
        raise DiskFull(
            f"{folder} has {free // 2**20} MiB left; the servers need {FREE_BYTES_MIN // 2**20}. "
            "Free some room, or set OPSCENTER_HOME to a folder on another disk."
        )


def check_socket_path(path: Path) -> None:
    length = len(os.fsencode(path))
    if length > SOCKET_PATH_BYTES_MAX:
        raise SocketPathTooLong(
            f"The socket {path} has a path of {length} bytes; the system takes "
            f"{SOCKET_PATH_BYTES_MAX}. Set OPSCENTER_RUN_DIR to a shorter folder."
        )


def read_pid(file: Path) -> int | None:
    """The process id in the first line of a pid file, if it is one."""
    try:
        first = file.read_text("ascii", "replace").partition("\n")[0].strip()
    except OSError:
        return None
    return int(first) if first.isdecimal() and int(first) > 1 else None


def alive(pid: int) -> bool:
    """Whether a process has this id; one that has ended and waits to be reaped has not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        state = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return not Path("/proc/self/stat").exists()
    return state[0] not in "ZX"


def works_in(pid: int, program: str, data: Path) -> bool:
    """Whether this process is a server of that name whose data folder is that very one."""
    if not Path("/proc/self").exists():
        return _listed_with(pid, program, data)
    here = Path(f"/proc/{pid}")
    try:
        name = (here / "comm").read_text("ascii", "replace").strip()
        return name == program and (here / "cwd").samefile(data)
    except OSError:
        return False


def _listed_with(pid: int, program: str, data: Path) -> bool:
    """Where there is no /proc: `ps` shows the data folder, which is in both servers' titles."""
    shown = subprocess.run(
        ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    words = shown.stdout.split()
    return bool(words) and program in Path(words[0]).name and str(data) in shown.stdout


def servers_in(data: Path, program: str, pid_file: Path) -> list[int]:
    """Every process of that server in that folder: the one of the pid file and what it left."""
    named = read_pid(pid_file)
    candidates = {named} if named else set()
    if Path("/proc/self").exists():
        candidates |= {int(p.name) for p in Path("/proc").iterdir() if p.name.isdecimal()}
    return [pid for pid in sorted(candidates) if works_in(pid, program, data)]


def stop_left_over(
    data: Path, program: str, pid_file: Path, escalation: Escalation, name: str
) -> None:
    """Ends what a killed supervisor left in this data folder, then removes the pid file.

    Such a server is stopped and not taken over: it would not die with its new supervisor.
    """
    for number, _ in escalation:
        found = servers_in(data, program, pid_file)
        if not found:
            break
        main = read_pid(pid_file)
        # A main server alone is told; its helpers follow it.
        _signal([main] if main in found else found, number)
        if children.until(_gone(found), LEFT_OVER_SECONDS_MAX / len(escalation)):
            break
    left = servers_in(data, program, pid_file)
    if left:
        raise StillInUse(
            f"{name} still runs in {data} as process {left[0]} and does not stop. "
            f"End it with `kill {left[0]}`, then start again."
        )
    pid_file.unlink(missing_ok=True)


def _signal(pids: Sequence[int | None], number: signal.Signals) -> None:
    for pid in pids:
        if pid is not None:
            try:
                os.kill(pid, number)
            except (ProcessLookupError, PermissionError):
                pass


def _gone(pids: Sequence[int]) -> Callable[[], bool]:
    return lambda: not any(alive(pid) for pid in pids)
