"""The unix socket of the control API, seen from outside: whether somebody answers behind it."""

import socket
from pathlib import Path
from typing import Final

ANSWER_S: Final = 2.0  # whoever lives accepts at once


def answers(path: Path) -> bool:
    """After a crash the socket may lie there alone."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(ANSWER_S)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
