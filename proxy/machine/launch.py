"""What a child runs before its program: it asks for a signal at its parent's death, goes where it
may see no more than it should, and becomes the program.

A program of its own, because code between fork and exec can wait for ever for a lock that a thread
of the parent held. Imports nothing of ours and runs under `-I -S`.
"""

import ctypes
import json
import os
import signal
import sys
from typing import Any

FAILED = 127
NOBODY = 65534
_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000


def main() -> None:
    given, argv = json.loads(sys.argv[1]), sys.argv[2:]
    try:
        _prepare(given)
        os.execvp(argv[0], argv)  # noqa: S606 - never through a shell
    except OSError as problem:
        print(f"{argv[0]} cannot be started: {problem}", file=sys.stderr)
        sys.exit(FAILED)


def _prepare(given: dict[str, Any]) -> None:
    # Python ignores them, and the program would inherit that
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    if given["namespace"]:
        _enter_namespace()
    if given["user"] is not None:
        os.setgroups([])
        os.setgid(given["user"])
        os.setuid(given["user"])
    # Last, because a change of credentials clears it.
    _die_with(given["parent"], given["death_signal"])


def _enter_namespace() -> None:
    """The same user outside, uid 65534 to itself."""
    user, group = os.geteuid(), os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWUSER)")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{NOBODY} {user} 1"),
        ("gid_map", f"{NOBODY} {group} 1"),
    ):
        file = os.open(f"/proc/self/{name}", os.O_WRONLY)
        os.write(file, text.encode())
        os.close(file)


def _die_with(parent: int, death_signal: int) -> None:
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(FAILED)  # the parent died before it could be watched


if __name__ == "__main__":
    main()
