"""What every gateway is to a measurement: an address, a key, processes, and how long it took to
start. Knows none of them by name.
"""

import contextlib
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bench import machine
from bench.compare.scenes import Scene
from bench.cores import Layout, pin
from bench.stack import models_of

LOOK_S = 0.002


@dataclass(frozen=True, slots=True)
class Gateway:
    """One that runs."""

    name: str
    url: str
    key: str
    root: int  # pid; all its processes descend from it
    own_models: bool  # it knows models by names of its own; else by the provider's
    about: str

    def model(self, scene: Scene) -> str:
        return scene.model if self.own_models else scene.upstream_model


Start = Callable[[Path, str], AbstractContextManager[Gateway]]  # in a folder, before a provider


@dataclass(frozen=True, slots=True)
class Started:
    gateway: Gateway
    starts_s: tuple[float, ...]


@contextlib.contextmanager
def started(start: Start, folder: Path, upstream_url: str, times: int) -> Iterator[Started]:
    """Started so often in its folder, each time until it answers; the last one stays."""
    took: list[float] = []
    for _ in range(times - 1):
        with _timed(start, folder, upstream_url, took):
            pass
    with _timed(start, folder, upstream_url, took) as gateway:
        yield Started(gateway, tuple(took))


@contextlib.contextmanager
def _timed(start: Start, folder: Path, upstream_url: str, took: list[float]) -> Iterator[Gateway]:
    began = time.perf_counter()
    with start(folder, upstream_url) as gateway:
        took.append(time.perf_counter() - began)
        yield gateway


def place(gateway: Gateway, layout: Layout) -> None:
    """Those of its processes that serve requests get the gateway's core, the rest the others."""
    roles = machine.processes(gateway.root)
    pin((pid for pid, role in roles.items() if role == "gateway"), layout.gateway)
    pin((pid for pid, role in roles.items() if role != "gateway"), layout.others)


def answers(url: str, key: str) -> str | None:
    """The gateway's list of models, as soon as there is one."""
    listed = models_of(url, key)
    time.sleep(0 if listed else LOOK_S)
    return listed


def free_port() -> int:
    """Free just now, for programs that cannot say which port they got."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str) -> str | None:
    """Where a program is; system programs are not always on a user's path."""
    path = os.environ.get("PATH", os.defpath)
    return shutil.which(name, path=os.pathsep.join((path, "/usr/sbin", "/usr/local/sbin")))
