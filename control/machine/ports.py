"""The three addresses of one machine: chosen and checked before anything starts, asked after.

Never keeps an address: the processes that serve there open it themselves.
"""

import asyncio
import socket
from dataclasses import replace
from typing import Final

from control.settings import ControlSettings
from proxy.declared import PREFIX
from proxy.machine import listen

ASK_SECONDS_MAX: Final = 2.0
HEAD_BYTES_MAX: Final = 8192


def settle(settings: ControlSettings) -> ControlSettings:
    """The same settings with every port 0 replaced by a free one; raises where one is taken."""
    wanted = {
        "DOOR": (settings.door_host, settings.door_port),
        "CONTROL": (settings.control_host, settings.control_port),
        "HEALTH": (settings.health_host, settings.health_port),
    }
    _refuse_twins({name: port for name, (_, port) in wanted.items()})
    found: dict[str, int] = {}
    held: list[socket.socket] = []
    try:
        for name, (host, port) in wanted.items():
            # Held until all are found, so that no two of ours get the same free port.
            held += listen.at(host, port, 1, PREFIX + name)
            found[name] = held[-1].getsockname()[1]
    finally:
        for one in held:
            one.close()
    return replace(
        settings,
        door_port=found["DOOR"],
        control_port=found["CONTROL"],
        health_port=found["HEALTH"],
    )


def _refuse_twins(ports: dict[str, int]) -> None:
    seen: dict[int, str] = {}
    for name, port in ports.items():
        if port and port in seen:
            raise listen.ListenError(
                f"{PREFIX}{seen[port]}_PORT and {PREFIX}{name}_PORT are both {port}. "
                "Give each a port of its own."
            )
        seen[port] = name


async def says_ready(host: str, port: int, known_as: str) -> bool:
    """Whether /readyz there answers 200 now."""
    question = f"GET /readyz HTTP/1.1\r\nhost: {known_as}\r\nconnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(ASK_SECONDS_MAX):
            reader, writer = await asyncio.open_connection(host, port, limit=HEAD_BYTES_MAX)
            try:
                writer.write(question.encode())
                line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return False
    return line.split(b" ")[1:2] == [b"200"]
