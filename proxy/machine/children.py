"""Starts child processes that cannot outlive their parent, and stops them within a named time.

Used by every supervisor; imports nothing heavy and never kills a process it did not start.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

POLL_SECONDS: Final = 0.005
LOG_BYTES_MAX: Final = 10 * 2**20
TAIL_BYTES_MAX: Final = 64 * 2**10

_LAUNCH: Final = str(Path(__file__).with_name("launch.py"))

Child = subprocess.Popen[bytes]


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
    log: Path | None = None,
    pass_fds: Sequence[int] = (),
    cwd: str | None = None,
    user: int | None = None,
    namespace: bool = False,
    death_signal: signal.Signals = signal.SIGTERM,
) -> Child:
    """Starts `argv` in a session of its own; it gets `death_signal` when its parent dies. With
    `user` it runs as that one, in a `namespace` as nobody to itself.

    Call it on the main thread: Linux ties the signal to the thread that started the child.
    A session of its own keeps a terminal's Ctrl-C for the supervisor, which stops in order.
    """
    given = {
        "parent": os.getpid(),
        "death_signal": int(death_signal),
        "user": user,
        "namespace": namespace,
    }
    output = open_log(log) if log is not None else None
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", _LAUNCH, json.dumps(given), *argv],
            env=None if env is None else dict(env),
            stdin=stdin,
            stdout=output,
            stderr=output,
            pass_fds=tuple(pass_fds),
            cwd=cwd,
            start_new_session=True,
        )
    finally:
        if output is not None:
            os.close(output)


def module(name: str) -> list[str]:
    """The command that runs one of our modules; the current folder cannot put in its own."""
    return [sys.executable, "-P", "-m", name]


def with_our_code(env: Mapping[str, str]) -> dict[str, str]:
    """An environment in which a child finds the very code that its parent runs."""
    places = [str(Path(__file__).parents[2]), *filter(None, [env.get("PYTHONPATH")])]
    return {**env, "PYTHONPATH": os.pathsep.join(dict.fromkeys(places))}


def open_log(path: Path) -> int:
    """A descriptor that appends to the log; one that has grown too long is set aside first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        if path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_name(path.name + ".1"))
    except FileNotFoundError:
        pass
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def tail(path: Path, lines_max: int = 15) -> str:
    """The last lines of a log, empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES_MAX))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines_max:])


def stop(child: Child, escalation: Sequence[tuple[signal.Signals, float]]) -> int:
    """Sends each signal in turn until the child is gone within that signal's seconds."""
    for number, seconds in escalation:
        if child.poll() is not None:
            break
        child.send_signal(number)
        try:
            return child.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
    if child.poll() is None:
        child.kill()
    return child.wait()


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Waits for `condition`, at most `seconds`; says whether it came."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def ended(status: int) -> str:
    """How a child ended, as the end of a sentence."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
