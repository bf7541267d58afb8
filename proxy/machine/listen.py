"""Listening sockets, opened before any worker and kept while workers come and go.

Says in a sentence which setting to change where an address cannot be had.
"""

import errno
import os
import socket
from typing import Final

BACKLOG: Final = 2048  # connections that may wait while a worker is replaced


class ListenError(Exception):
    """An address cannot be listened on; the sentence names the setting to change."""


def at(host: str, port: int, count: int, setting: str) -> list[socket.socket]:
    """`count` sockets that share one address; the kernel spreads connections over them.

    `setting` is the beginning of the settings' names, such as OPSCENTER_DOOR.
    """
    family, address = _resolve(host, port, setting)
    opened: list[socket.socket] = []
    try:
        for _ in range(count):
            # Only the first shows whether a stranger of this user listens: sharing would hide it.
            if not opened and port:
                _bind(family, address, shared=False).close()
            opened.append(_bind(family, address, shared=True))
            address = (address[0], opened[0].getsockname()[1], *address[2:])
        for one in opened:
            one.listen(BACKLOG)
    except OSError as problem:
        for one in opened:
            one.close()
        raise _explained(problem, host, port, setting) from None
    return opened


def url(one: socket.socket, path: str = "") -> str:
    """Where a client on this machine reaches the socket."""
    host, port = one.getsockname()[:2]
    return f"http://{reachable(host)}:{port}{path}"


def reachable(host: str) -> str:
    """A listening address as it is written in a URL; all addresses are reached by loopback."""
    known = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}  # noqa: S104 - a look-up
    return known.get(host, f"[{host}]" if ":" in host else host)


Address = tuple[str | int, ...]


def _resolve(host: str, port: int, setting: str) -> tuple[int, Address]:
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as problem:
        raise ListenError(
            f"{setting}_HOST is {host!r}, which is no address of this machine: {problem.strerror}. "
            "Set it to 127.0.0.1 for this machine alone, or to 0.0.0.0 for all."
        ) from None
    family, _, _, _, address = found[0]
    return family, tuple(part for part in address if not isinstance(part, bytes))


def _bind(family: int, address: Address, *, shared: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.setblocking(False)
        made.bind(address)
        if not shared:
            made.listen(1)  # two may bind with SO_REUSEADDR, but only one may listen
    except OSError:
        made.close()
        raise
    return made


def _explained(problem: OSError, host: str, port: int, setting: str) -> ListenError:
    if problem.errno == errno.EADDRINUSE:
        return ListenError(
            f"Port {port} on {host} is taken by another program. "
            f"Stop it, or set {setting}_PORT to a free port."
        )
    if problem.errno == errno.EACCES:
        return ListenError(
            f"This user may not listen on port {port}. Set {setting}_PORT to 1024 or higher."
        )
    if problem.errno == errno.EADDRNOTAVAIL:
        return ListenError(
            f"{setting}_HOST is {host!r}, which is no address of this machine. "
            "Set it to 127.0.0.1 for this machine alone, or to 0.0.0.0 for all."
        )
    reason = os.strerror(problem.errno) if problem.errno else str(problem)
    return ListenError(f"{setting}_HOST and {setting}_PORT ({host}:{port}) fail: {reason}.")
