"""The table of a process' open files, as large as it will be, before anybody waits for it.

The kernel doubles it when it is full, and where the process has threads it lets whoever opened the
next file wait for all cores meanwhile: tens of milliseconds, in which a worker does nothing.
"""

import contextlib
import fcntl
import os
import resource
import socket


def make_room(files: int) -> None:
    """For so many, or as many as the system allows."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = files if soft == resource.RLIM_INFINITY else min(files, soft)
    with contextlib.suppress(OSError), socket.socket() as any_file:  # else it grows as it must
        os.close(fcntl.fcntl(any_file, fcntl.F_DUPFD_CLOEXEC, most - 1))
