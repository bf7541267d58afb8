"""Files that a living process holds locked: whoever can lock one knows that its owner is dead."""

import fcntl
import os
from pathlib import Path


def create(path: Path) -> int:
    """A new file of our own, to be written at its end. Give it the name by which others look for it
    only afterwards: until it is locked, it looks like a dead process's.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


def take(path: Path) -> int | None:
    """The file's descriptor when its owner is dead and nobody else has taken it."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    if not _is_at(fd, path):
        os.close(fd)
        return None
    return fd


def _is_at(fd: int, path: Path) -> bool:
    """Before it was locked, another may have taken it away, or its living owner put a new one in
    its place.
    """
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
