"""Starts what a run needs, each in processes of its own: the fake provider and a whole Ops-Center.

All in a temporary folder and on free ports; nothing is left behind, also after a failure.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.api import ApiError, ControlApi
from bench.machine import REPOSITORY

READY_S = 90.0
STOP_S = 30.0
LOOK_S = 0.01
LOG_SHOWN = 3000  # of a program's output, when it did not do what it should

BILLS = "bills.jsonl"

_KEY = re.compile(r"sk_ops_[0-9A-Za-z]{50}")
_DOOR = re.compile(r"Door\s+(http://\S+)/v1")
_SECRET = re.compile(r"sk_ops_\w+|(?<=Password  )\S+")
_LISTENING = re.compile(r"listening on (\S+)")


class StackError(RuntimeError):
    """A program did not start or did not do its work; the message holds the end of its output."""


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs: the provider, its file of bills, and the gateway before it."""

    upstream_url: str
    bills: Path
    door_url: str
    key: str
    api: ControlApi
    pid: int  # of `opscenter up`; all of the gateway's processes descend from it


@contextlib.contextmanager
def started(workers: int, upstream_workers: int) -> Iterator[Stack]:
    """The whole stack for as long as the block lasts."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ocb-")))
        upstream_url = stack.enter_context(provider(folder, upstream_workers))
        yield stack.enter_context(opscenter(folder, workers, upstream_url))


@contextlib.contextmanager
def provider(folder: Path, workers: int) -> Iterator[str]:
    """The fake provider; its bills go to the folder."""
    arguments = ["--ledger", str(folder / BILLS), "--workers", str(workers)]
    command = [sys.executable, "-m", "bench.upstream", *arguments]
    with Program(folder / "upstream.log", command, {}) as upstream:
        yield upstream.wait_for("its address", lambda: upstream.found(_LISTENING))


@contextlib.contextmanager
def opscenter(folder: Path, workers: int, upstream_url: str, key: str = "") -> Iterator[Stack]:
    """A whole Ops-Center in the folder; only its first start there tells a key."""
    command = [sys.executable, "-m", "control", "up"]
    with Program(folder / "up.log", command, _settings(folder, workers)) as up:
        door = up.wait_for("its door's address", lambda: up.found(_DOOR))
        key = key or up.wait_for("its first API key", lambda: up.found(_KEY))
        api = ControlApi(folder / "run" / "control.sock")
        up.wait_for("a door that answers", lambda: models_of(door, key))
        up.wait_for("a control API that answers", lambda: _answers(api))
        yield Stack(upstream_url, folder / BILLS, door, key, api, up.pid)


def serve_model(stack: Stack, model: str, upstream_model: str, prices: dict[str, str]) -> None:
    """Adds a model of the fake provider, and returns when the door serves it."""
    row: dict[str, object] = {
        "id": model,
        "provider": "mock",
        "upstream_model": upstream_model,
        "prices": prices,
    }
    limits: dict[str, object] = {"context_max": 8192, "output_max": 1024}
    stack.api.post("/api/v1/llm/admin/models", row | limits)
    deadline = time.monotonic() + READY_S
    while f'"{model}"' not in (models_of(stack.door_url, stack.key) or ""):
        if time.monotonic() > deadline:
            raise StackError(f"the door did not serve {model} within {READY_S:.0f} s")
        time.sleep(LOOK_S)


def serve_provider(stack: Stack, adapter: str = "openai") -> None:
    url = f"{stack.upstream_url}/v1"
    provider = {"name": "mock", "adapter": adapter, "base_url": url, "secret": "sk-mock-secret"}
    stack.api.post("/api/v1/llm/admin/providers", provider)


class Program:
    """A program in a session of its own; its output goes to a file."""

    def __init__(self, log: Path, command: Sequence[str], settings: dict[str, str]) -> None:
        self._log, self._name = log, " ".join([Path(command[0]).name, *command[1:3]])
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("OPSCENTER_")}
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=REPOSITORY,
                env=inherited | settings | {"PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        self.pid = self._process.pid

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        """Asks it to stop; who does not is killed, with all that is in its session."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()

    def found(self, pattern: re.Pattern[str]) -> str | None:
        match = pattern.search(self._log.read_text(errors="replace"))
        return match[match.lastindex or 0] if match else None

    def wait_for(self, what: str, look: Callable[[], str | None]) -> str:
        """What `look` gives as soon as it gives something."""
        deadline = time.monotonic() + READY_S
        while (seen := look()) is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                output = _SECRET.sub("...", self._log.read_text(errors="replace"))[-LOG_SHOWN:]
                raise StackError(f"{self._name} did not come to {what}. Its output:\n{output}")
            time.sleep(LOOK_S)
        return seen


def _settings(folder: Path, workers: int) -> dict[str, str]:
    return {
        "OPSCENTER_HOME": str(folder),
        "OPSCENTER_RUN_DIR": str(folder / "run"),
        "OPSCENTER_DOOR_PORT": "0",  # a free one, which is printed
        "OPSCENTER_CATALOGUE": "off",
        "OPSCENTER_CONTROL_PORT": "0",
        "OPSCENTER_HEALTH_PORT": "0",
        "OPSCENTER_WORKERS": str(workers),
        "OPSCENTER_GRANT_CREDITS": "1000000000",
        "OPSCENTER_LOG_LEVEL": "warning",
    }


def models_of(door: str, key: str) -> str | None:
    """What a gateway lists; None while it does not answer."""
    request = urllib.request.Request(  # noqa: S310 - our own door on loopback
        f"{door}/v1/models", headers={"authorization": f"Bearer {key}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - as above
            return str(answer.read().decode())
    except (OSError, urllib.error.URLError):
        return None


def _answers(api: ControlApi) -> str | None:
    try:
        api.get("/readyz")
    except ApiError:
        return None
    return "ready"
