"""Runs one long-lived process of `opscenter up` without the command line's parsing, which is slow
to load: `python -m control.machine.child drain` is `opscenter drain`. It never outlives its
supervisor.
"""

import os
import signal
import sys
import threading
import time
from importlib import import_module
from typing import Final

from control import settings
from proxy.declared import SettingsError

MODULES: Final = {"control": "control.main", "drain": "control.books.drain"}
LOOK_SECONDS: Final = 0.5


def main(name: str) -> int:
    parent = os.getppid()
    try:
        wanted = settings.load(os.environ)
    except SettingsError as problem:
        print(f"opscenter {name}: {problem}", file=sys.stderr)
        return os.EX_CONFIG
    guard = threading.Thread(target=follow, args=(parent, wanted.control_stop_s), daemon=True)
    guard.start()
    status: int = import_module(MODULES[name]).run(wanted)
    return status


def follow(parent: int, seconds: float) -> None:
    """Ends this process when its supervisor is gone: kindly first, surely after `seconds`.

    On a thread, because a loop that stands still would not notice; without its supervisor there
    is nobody who would kill it.
    """
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(seconds)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
