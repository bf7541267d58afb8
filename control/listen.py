"""The control API's two listeners, TCP and the unix socket: opened, served together, stopped.

What comes over the unix socket is marked here and nowhere else.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from control.head import BoundedHead
from control.local import answers
from control.roots import private_folder
from control.settings import ControlSettings
from control.state import LOCAL

log = logging.getLogger("opscenter.control.listen")

BACKLOG = 256  # connections that may wait to be accepted
KEEP_ALIVE_S = 30


class StartError(Exception):
    """The control plane cannot start; the message says why and what helps."""


@dataclass(frozen=True, slots=True)
class Sockets:
    tcp: socket.socket
    local: socket.socket


@contextmanager
def listening(settings: ControlSettings) -> Iterator[Sockets]:
    try:
        tcp = _tcp(settings.control_host, settings.control_port)
    except OSError as problem:
        raise StartError(
            f"The control API cannot listen at {settings.control_host}:{settings.control_port}: "
            f"{problem.strerror}. End what uses the port, or set OPSCENTER_CONTROL_PORT."
        ) from problem
    with tcp:
        if answers(settings.socket):
            raise StartError(
                f"Another control API answers at {settings.socket}. Stop it, or give this one a "
                "home of its own: set OPSCENTER_HOME or OPSCENTER_RUN_DIR."
            )
        try:
            local = _unix(settings.socket)
        except OSError as problem:
            raise StartError(
                f"The socket {settings.socket} cannot be made: {problem.strerror}. "
                "Give this user the folder, or set OPSCENTER_RUN_DIR."
            ) from problem
        inode = settings.socket.stat().st_ino
        try:
            with local:
                yield Sockets(tcp, local)
        finally:
            # Another process may have taken the path over meanwhile.
            with suppress(OSError):
                if settings.socket.stat().st_ino == inode:
                    settings.socket.unlink()


def _tcp(host: str, port: int) -> socket.socket:
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    made = socket.socket(family, kind)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def _unix(path: Path) -> socket.socket:
    """Made under a private name and moved into place, so that it is never open to others."""
    private_folder(path.parent)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        made.bind(str(draft))
        made.listen(BACKLOG)
        draft.replace(path)
    except OSError:
        made.close()
        raise
    finally:
        os.umask(before)
    return made


class Local:
    """Marks what comes over the unix socket; nothing that a client sends can set this mark."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[LOCAL] = True
        await self._app(scope, receive, send)


class _Server(uvicorn.Server):
    """Leaves signals to us: two servers must stop by one."""

    @contextmanager
    def capturesignals(self) -> Iterator[None]:
        yield


async def serve_both(
    settings: ControlSettings, app: ASGIApp, sockets: Sockets, stop: asyncio.Event
) -> None:
    servers = [_server(settings, app), _server(settings, Local(app))]
    tasks = [
        asyncio.create_task(servers[0].serve([sockets.tcp]), name="control-tcp"),
        asyncio.create_task(servers[1].serve([sockets.local]), name="control-unix"),
    ]
    host, port = sockets.tcp.getsockname()[:2]
    log.info("the control API answers at http://%s:%s and %s", host, port, settings.socket)
    stopping = asyncio.create_task(stop.wait(), name="control-stop")
    await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    for server in servers:
        server.should_exit = True
    await asyncio.gather(*tasks)


def _server(settings: ControlSettings, app: ASGIApp) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            http=BoundedHead,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=settings.control_parallel_max,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=settings.control_stop_s,
        )
    )


@contextmanager
def signals(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    wanted = (signal.SIGTERM, signal.SIGINT)
    try:
        for one in wanted:
            loop.add_signal_handler(one, stop.set)
    except (ValueError, RuntimeError):
        yield  # not the main thread: whoever started us stops us by the event
        return
    try:
        yield
    finally:
        for one in wanted:
            loop.remove_signal_handler(one)
