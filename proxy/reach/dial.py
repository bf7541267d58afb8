"""A socket to a host: its name resolved anew, all of its addresses tried, TLS with verification.

Deadlines are the caller's: whoever is cancelled here leaves no socket behind.
"""

import asyncio
import errno
import os
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any

from proxy.declared import SettingsError
from proxy.reach.egress import Hop
from proxy.reach.incoming import Unreachable
from proxy.reach.networks import Judge, is_possible, require

ADDRESSES_MAX = 8  # of one name
STAGGER_S = 0.25  # an address that is silent for so long gets company
TUNNEL_HEAD_MAX = 16 * 1024

AddressInfo = tuple[int, int, int, str, Any]


def trust(ca_file: str) -> ssl.SSLContext:
    """The system's authorities, and those in a file of the administrator's own."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if ca_file:
        try:
            context.load_verify_locations(cafile=ca_file)
        except ssl.SSLError:
            raise _unusable("it holds no certificate") from None
        except OSError as problem:
            raise _unusable(str(problem.strerror).lower()) from None
    return context


def _unusable(why: str) -> SettingsError:
    return SettingsError(
        f"OPSCENTER_UPSTREAM_CA_FILE cannot be used: {why}. It takes the path of a file of"
        " certificates in PEM form."
    )


async def connect(host: str, port: int, judge: Judge = is_possible) -> socket.socket:
    """A socket to the first address that answers; a silent one is soon joined by the next. What is
    judged is what is connected to: the name is not looked up again."""
    addresses = alternating(await judged(host, port, judge))[:ADDRESSES_MAX]
    if len(addresses) == 1:
        return await _connected(addresses[0])
    return await _race(deque(addresses))


async def judged(host: str, port: int, judge: Judge) -> Sequence[AddressInfo]:
    """All addresses of a name, when each of them may be connected to."""
    found = await resolved(host, port)
    require(host, (each[4][0] for each in found), judge)
    return found


async def resolved(host: str, port: int) -> Sequence[AddressInfo]:
    """What the system says of a name just now."""
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


def alternating(found: Sequence[AddressInfo]) -> list[AddressInfo]:
    """One address of each family in turn, beginning with what the system prefers."""
    first = [each for each in found if each[0] == found[0][0]]
    other = [each for each in found if each[0] != found[0][0]]
    return [each for each in chain(*zip_longest(first, other)) if each is not None]


async def _race(todo: deque[AddressInfo]) -> socket.socket:
    running: set[asyncio.Task[socket.socket]] = set()
    problem: BaseException | None = None
    try:
        while todo or running:
            if todo:
                running.add(asyncio.create_task(_connected(todo.popleft())))
            done, _ = await asyncio.wait(
                running, timeout=STAGGER_S if todo else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                running.discard(task)
                problem = task.exception()
                if problem is None:
                    running |= done - {task}  # whoever came in the same moment
                    return task.result()
        assert problem is not None
        raise problem
    finally:
        problem = None  # it holds this frame
        for task in running:
            if not task.cancel() and task.exception() is None:
                task.result().close()


async def _connected(address: AddressInfo) -> socket.socket:
    family, kind, protocol, _, at = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, at)
    except BaseException:
        sock.close()
        raise
    return sock


async def tunnel(sock: socket.socket, authority: bytes, hop: Hop) -> None:
    """Asks an HTTP proxy to connect this socket with a provider."""
    loop = asyncio.get_running_loop()
    lines = [b"CONNECT %b HTTP/1.1" % authority, b"host: " + authority]
    if hop.authorization:
        lines.append(b"proxy-authorization: " + hop.authorization)
    await loop.sock_sendall(sock, b"\r\n".join(lines) + b"\r\n\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        more = await loop.sock_recv(sock, 4096)
        head += more
        if not more or len(head) > TUNNEL_HEAD_MAX:
            raise Unreachable("the HTTP proxy on the way sent no answer that can be read")
    first, rest = head.split(b"\r\n", 1)[0].split(b" "), head.partition(b"\r\n\r\n")[2]
    if len(first) < 2 or not first[0].startswith(b"HTTP/1.") or not first[1].isdigit() or rest:
        raise Unreachable("the HTTP proxy on the way sent no answer that can be read")
    if first[1] == b"407":
        raise Unreachable("the HTTP proxy on the way does not accept its user and password (407)")
    if not 200 <= int(first[1]) < 300:
        raise Unreachable(f"the HTTP proxy on the way refused with status {int(first[1])}")


def words(problem: Exception) -> str:
    """Why a server could not be reached, in the system's words."""
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({problem.verify_message})"
    if isinstance(problem, ssl.SSLError) and problem.reason:
        return f"no TLS with it ({problem.reason.lower().replace('_', ' ')})"
    if isinstance(problem, socket.gaierror) and problem.strerror:
        return problem.strerror.lower()
    number = problem.errno if isinstance(problem, OSError) else None
    if number is not None and number in errno.errorcode:
        return os.strerror(number).lower()
    return str(problem).lower() or type(problem).__name__
