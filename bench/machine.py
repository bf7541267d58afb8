"""The machine under a measurement: what it is, which commit runs, what its processes used."""

import contextlib
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

PROC = Path("/proc")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
REPOSITORY = Path(__file__).resolve().parent.parent

#: A word of a command line -> whose CPU it is; the first that fits. The rest is `other`.
ROLES: Mapping[str, str] = MappingProxyType(
    {
        "proxy.worker": "gateway",
        "nginx: worker": "gateway",
        "litellm": "gateway",
        "query-engine": "gateway",
        "valkey-server": "redis",
        "redis-server": "redis",
        "postgres": "postgres",
        " drain": "drain",
        " control proxy": "supervisor",
    }
)


@dataclass(frozen=True, slots=True)
class Machine:
    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    commit: str
    load_before: float  # what the machine was busy with already: well below 1 on a quiet one


def describe() -> Machine:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        cpu=_cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(pages / 2**30, 1),
        kernel=platform.release(),
        python=platform.python_version(),
        commit=_commit(),
        load_before=round(os.getloadavg()[0], 2),
    )


def _cpu_name() -> str:
    lines = (PROC / "cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _commit() -> str:
    """Short name of the commit; a `+` says that files differ from it."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def processes(root: int) -> dict[int, str]:
    """A process and all below it: whose each is."""
    found = {}
    for pid in _tree(root):
        try:
            command = (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        found[pid] = next((role for word, role in ROLES.items() if word in command), "other")
    return found


def cpu_seconds(root: int) -> dict[str, float]:
    """CPU that a process and all below it have used so far, in user and kernel, by role."""
    used: dict[str, float] = {}
    for pid, role in processes(root).items():
        used[role] = used.get(role, 0.0) + _cpu_of(pid)
    return used


def memory_bytes(root: int) -> dict[str, int]:
    """Memory that is resident, by role; what processes share counts for each of them."""
    used: dict[str, int] = {}
    for pid, role in processes(root).items():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            pages = int((PROC / str(pid) / "statm").read_text().split()[1])
            used[role] = used.get(role, 0) + pages * os.sysconf("SC_PAGE_SIZE")
    return used


def _cpu_of(pid: int) -> float:
    """By the scheduler's nanoseconds of its threads where the kernel keeps them, else by ticks."""
    folder = PROC / str(pid)
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])  # utime and stime, fields 14 and 15 of the line
        threads = [path / "schedstat" for path in (folder / "task").iterdir()]
        exact = sum(int(path.read_text().split()[0]) for path in threads) / 1e9
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0.0  # it ended meanwhile
    return max(exact, ticks / _TICKS_PER_SECOND)  # threads that ended are in the ticks alone


def _tree(root: int) -> set[int]:
    """A process and its descendants, whatever sessions they made for themselves."""
    children: dict[int, list[int]] = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    found, todo = set(), [root]
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo += children.get(pid, [])
    return found
