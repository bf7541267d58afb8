"""The cables between Ops-Center and Redis: a TCP proxy that delays, drips, cuts, resets, swallows.

    python -m bench.chaos.cable --target /run/valkey.sock --names left,right

Prints one JSON line with the port of each cable; takes one JSON line per change on its standard
input, such as {"cable": "left", "mode": "delay", "ms": 50}. It ends when its input ends.
"""

import argparse
import asyncio
import json
import os
import socket
import struct
import sys
from collections import deque
from typing import cast

import uvloop

MODES = ("open", "delay", "drip", "half", "blackhole", "reset", "cut")
DRIP_BYTES, DRIP_S = 16, 0.002
WAITING_MAX = 64 * 2**20  # bytes that one direction may hold back; then the cable breaks
_RST_ON_CLOSE = struct.pack("ii", 1, 0)


class Cable:
    """One listening port; all its connections suffer the same."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.mode = "open"
        self.delay_s = 0.0
        self.ends: set[End] = set()

    def change(self, mode: str, ms: int) -> None:
        """A cable that has swallowed bytes cannot be mended: its connections end with the mode."""
        lossy = self.mode in ("half", "blackhole", "cut") and mode != self.mode
        self.mode, self.delay_s = mode, ms / 1000
        if mode in ("reset", "cut") or lossy:
            self.drop()
        if mode == "reset":
            self.mode = "open"

    def drop(self) -> None:
        for end in tuple(self.ends):
            end.abort()

    def swallows(self, to_server: bool) -> bool:
        return self.mode == "blackhole" or (self.mode == "half" and not to_server)


class End(asyncio.Protocol):
    """One end of a connection; what it reads leaves by its peer, sooner or later."""

    def __init__(self, cable: Cable, to_server: bool) -> None:
        self.cable = cable
        self.to_server = to_server  # what this end reads goes to the server
        self.peer: End | None = None
        self.transport: asyncio.Transport | None = None
        self._late: deque[tuple[float, bytes]] = deque()
        self._late_bytes = 0
        self._ready_at = 0.0
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.cable.ends.add(self)
        if self.to_server:
            if self.cable.mode == "cut":
                self.abort()
            else:
                self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        """Bytes that came before the server was reached wait in `_late`."""
        try:
            _, peer = await self._loop.create_unix_connection(
                lambda: End(self.cable, to_server=False), self.cable.target
            )
        except OSError:
            self.abort()
            return
        if self.transport is None:
            peer.abort()
            return
        self.peer, peer.peer = peer, self
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self.cable.swallows(self.to_server):
            return
        wait = self.cable.delay_s if self.cable.mode == "delay" else 0.0
        if self.peer is not None and not self._late and not wait and self.cable.mode != "drip":
            self.peer.write(data)
            return
        now = self._loop.time()
        self._late_bytes += len(data)
        if self._late_bytes > WAITING_MAX:
            self.abort()
            return
        for piece, pause in self._pieces(data):
            self._ready_at = max(self._ready_at + pause, now + wait)
            self._late.append((self._ready_at, piece))
        if len(self._late) and self.peer is not None:
            self._loop.call_at(self._late[0][0], self._flush)

    def _pieces(self, data: bytes) -> list[tuple[bytes, float]]:
        if self.cable.mode != "drip":
            return [(data, 0.0)]
        starts = range(0, len(data), DRIP_BYTES)
        return [(data[at : at + DRIP_BYTES], DRIP_S) for at in starts]

    def _flush(self) -> None:
        """Sends on what is due; once the cable is whole again, all that was held back."""
        now = self._loop.time()
        whole = self.cable.mode == "open"
        while self._late and self.peer is not None and (whole or self._late[0][0] <= now):
            piece = self._late.popleft()[1]
            self._late_bytes -= len(piece)
            self.peer.write(piece)
        if self._late and self.peer is not None:
            self._loop.call_at(self._late[0][0], self._flush)

    def write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.cable.ends.discard(self)
        if self.peer is not None:
            self.peer.abort()

    def abort(self) -> None:
        """A reset, as a machine gives that no longer knows the connection."""
        if self.transport is not None:
            sock = self.transport.get_extra_info("socket")
            if sock is not None and sock.family == socket.AF_INET:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
            self.transport.abort()


async def serve(target: str, names: list[str]) -> None:
    loop = asyncio.get_running_loop()
    cables = {name: Cable(target) for name in names}
    ports = {}
    for name, cable in cables.items():
        server = await loop.create_server(_factory(cable), "127.0.0.1", 0, backlog=512)
        ports[name] = server.sockets[0].getsockname()[1]
    print(json.dumps(ports), flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        wanted = json.loads(line)
        assert wanted["mode"] in MODES
        cables[wanted["cable"]].change(wanted["mode"], wanted.get("ms", 0))
    os._exit(0)


def _factory(cable: Cable) -> "type[asyncio.Protocol]":
    return cast("type[asyncio.Protocol]", lambda: End(cable, to_server=True))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos.cable", description=__doc__)
    parser.add_argument("--target", required=True, help="unix socket of the server")
    parser.add_argument("--names", required=True, help="of the cables, by commas")
    given = parser.parse_args()
    uvloop.run(serve(given.target, given.names.split(",")))


if __name__ == "__main__":
    main()
