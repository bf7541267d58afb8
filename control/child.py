"""Runs one long-lived process of `opscenter up` without the command line's parsing, which is slow
to load: `python -m control.child drain` is `opscenter drain`.
"""

import os
import sys
from importlib import import_module
from typing import Final

from control import settings
from proxy.settings import SettingsError

MODULES: Final = {"control": "control.main", "drain": "control.drain"}
EX_CONFIG: Final = 78


def main(name: str) -> int:
    try:
        wanted = settings.load(os.environ)
    except SettingsError as problem:
        print(f"opscenter {name}: {problem}", file=sys.stderr)
        return EX_CONFIG
    status: int = import_module(MODULES[name]).run(wanted)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
