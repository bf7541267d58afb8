"""The image's health: asks what the container's first process serves whether it is ready.

A drain serves nothing, so it is healthy while it lives. Needs only the standard library.
"""

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

TIMEOUT_S = 4
SERVED = {"up": ("HEALTH", "CONTROL"), "proxy": ("HEALTH",), "control": ("CONTROL",)}
PORTS = {"HEALTH": "8086", "CONTROL": "8085"}


def main() -> int:
    words = Path("/proc/1/cmdline").read_bytes().decode(errors="replace").split("\0")
    served = next((SERVED[word] for word in words if word in SERVED), ())
    problems = [problem for name in served if (problem := ask(name))]
    print("\n".join(problems) or "ready")
    return 1 if problems else 0


def ask(name: str) -> str:
    """Why this part is not ready, "" when it is."""
    port = os.environ.get(f"OPSCENTER_{name}_PORT") or PORTS[name]
    known_as = os.environ.get("OPSCENTER_CONTROL_HOSTS", "").split(",")[0].strip() or "localhost"
    request = urllib.request.Request(f"http://127.0.0.1:{port}/readyz", headers={"host": known_as})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):  # noqa: S310 - loopback
            return ""
    except (OSError, urllib.error.URLError) as problem:
        return f"{name.lower()} on port {port}: {problem}"


if __name__ == "__main__":
    sys.exit(main())
