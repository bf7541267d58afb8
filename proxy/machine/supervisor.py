"""`opscenter proxy`: opens the door's sockets, runs a worker on each, tells health and metrics.

Serves no request itself and imports nothing heavy, so that there is little in it that can fail.
"""

import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy.declared import SettingsError, load
from proxy.machine import children, listen
from proxy.machine.fleet import Fleet, Process
from proxy.settings import Settings

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger("opscenter.proxy.supervisor")

WORKER: Final = tuple(children.module("proxy.worker"))
DOOR: Final = "OPSCENTER_DOOR"
HEALTH: Final = "OPSCENTER_HEALTH"
FILES_WANTED: Final = 65_536
# glibc would keep what the first large body took: after it has been freed once, it no longer
# gives blocks of that size back
STEADY_MEMORY: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(2**20),
    "MALLOC_TRIM_THRESHOLD_": str(4 * 2**20),
}


class Crew:
    """Starts real workers and reads in their metrics whether they are ready."""

    def __init__(self, run_dir: Path, command: Sequence[str]) -> None:
        self._run_dir = run_dir
        self._command = command

    def start(self, number: int, listening: socket.socket) -> Process:
        self._forget_readiness(number)
        fd = listening.fileno()
        argv = [*self._command, "--slot", str(number), "--fd", str(fd)]
        env = {**STEADY_MEMORY, **children.with_our_code(os.environ)}
        return children.spawn(argv, env=env, pass_fds=[fd])

    def is_ready(self, number: int) -> bool:
        from proxy import metrics

        return metrics.ready(metrics.slot_path(self._run_dir, number))

    def _forget_readiness(self, number: int) -> None:
        """The last worker of this number may have died while it was ready."""
        from proxy import metrics

        path = metrics.slot_path(self._run_dir, number)
        try:
            if path.stat().st_size > metrics.READY * 8:
                with path.open("r+b") as file:
                    file.seek(metrics.READY * 8)
                    file.write(bytes(8))
        except FileNotFoundError:
            pass


def run(wanted: Settings, command: Sequence[str] = WORKER) -> int:
    """Runs until SIGTERM or SIGINT; 0 when every worker drained in time, 78 when the
    settings cannot be used."""
    prepare_process()
    early = hear_early()
    wanted.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    sockets: list[socket.socket] = []
    try:
        count = wanted.workers or cores()
        sockets += listen.at(wanted.door_host, wanted.door_port, count, DOOR)
        health = listen.at(wanted.health_host, wanted.health_port, 1, HEALTH)
    except listen.ListenError as problem:
        for one in sockets:
            one.close()
        print(problem, file=sys.stderr, flush=True)
        return 1
    fleet = Fleet(sockets, Crew(wanted.run_dir, command), wanted.drain_ms / 1000)
    fleet.step(time.monotonic())  # the workers load while this process loads asyncio
    print(
        f"door {listen.url(sockets[0])} with {count} workers, health {listen.url(health[0])}",
        file=sys.stderr,
        flush=True,
    )
    import asyncio

    try:
        return asyncio.run(_supervise(fleet, health[0], wanted.run_dir, early))
    finally:
        for one in sockets:
            one.close()


async def _supervise(
    fleet: Fleet, listening: socket.socket, run_dir: Path, early: list[int]
) -> int:
    import asyncio

    from proxy import metrics
    from proxy.machine.health import Health, Sources

    paths = [metrics.slot_path(run_dir, number) for number in fleet.numbers()]
    health = Health(Sources(lambda: _not_ready(fleet), lambda: metrics.render(paths)))
    await health.start(listening)
    wake = asyncio.Event()
    _on_signals(fleet, wake)
    if signal.SIGTERM in early or signal.SIGINT in early:
        fleet.stop(time.monotonic())
    while not fleet.done():
        wake.clear()
        seconds = fleet.step(time.monotonic())
        try:
            async with asyncio.timeout(seconds):
                await wake.wait()
        except TimeoutError:
            pass
    await health.stop()
    log.info("all workers are gone")
    if fleet.misconfigured:
        return os.EX_CONFIG
    return 1 if fleet.killed else 0


def _on_signals(fleet: Fleet, wake: "asyncio.Event") -> None:
    import asyncio

    loop = asyncio.get_running_loop()

    def stop() -> None:
        fleet.stop(time.monotonic())
        wake.set()

    def reload() -> None:
        fleet.reload()
        wake.set()

    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGINT, stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    loop.add_signal_handler(signal.SIGCHLD, wake.set)


def _not_ready(fleet: Fleet) -> str:
    if fleet.stopping:
        return "stopping"
    waiting = fleet.not_ready()
    return f"worker {waiting[0]} of {len(fleet.slots)} is not ready" if waiting else ""


def hear_early() -> list[int]:
    """Signals that come before the event loop listens; without this they would end us at once."""
    heard: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue  # nohup
        signal.signal(number, lambda received, _: heard.append(received))
    return heard


def cores() -> int:
    """Those that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prepare_process() -> None:
    """No memory with secrets in core files; as many open files as the system lets us have."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, FILES_WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main() -> int:
    try:
        wanted = load(Settings, os.environ, strict=False)
    except SettingsError as problem:
        print(problem, file=sys.stderr)
        return 2
    logging.basicConfig(level=wanted.log_level.upper(), format="%(asctime)s %(name)s %(message)s")
    return run(wanted)


if __name__ == "__main__":
    sys.exit(main())
