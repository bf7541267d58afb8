"""One server behind the control plane's client, and what becomes of connections that lie idle."""

import asyncio
import socket
import struct
from typing import cast

import pytest
import uvloop
from redis.exceptions import ConnectionError as Unreachable

from control.nodes import Node

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Redis(asyncio.Protocol):
    """Says OK to every command."""

    def __init__(self, connections: list[asyncio.Transport]) -> None:
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.append(self._transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(b"+OK\r\n" * (b"\r\n" + data).count(b"\r\n*"))


def test_idle_connections_that_the_server_reset_are_told_once_as_a_server_out_of_reach() -> None:
    """Not as an error that nobody expects: background work would end by it, and for good."""

    async def story() -> None:
        connections: list[asyncio.Transport] = []
        loop = asyncio.get_running_loop()
        factory = cast("type[asyncio.Protocol]", lambda: Redis(connections))
        server = await loop.create_server(factory, "127.0.0.1", 0)
        node = Node.of(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
        assert await asyncio.gather(*(node.trip([("PING",)]) for _ in range(3))) == [[b"OK"]] * 3
        for connection in connections:
            plain = connection.get_extra_info("socket")
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            connection.abort()
        await asyncio.sleep(0.05)  # the resets arrive
        with pytest.raises(Unreachable):
            await node.trip([("PING",)])
        assert [await node.trip([("PING",)]) for _ in range(3)] == [[b"OK"]] * 3
        await node.close()
        server.close()

    uvloop.run(story())
