"""The socket side of one client's connection: what he does not read, and what we do not read of
him. Knows no HTTP.
"""

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.serve.server import Server


class Line(asyncio.Protocol):
    """The lower half of a connection."""

    __slots__ = ("_owner", "_paused", "_unsent", "room", "transport")

    def __init__(self, owner: "Server") -> None:
        self.transport: asyncio.Transport | None = None  # None when the client has gone
        self.room: asyncio.Future[None] | None = None  # while the client takes no more
        self._owner = owner
        self._unsent = 0  # bytes, when the client was last looked at
        self._paused = False  # we do not read

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def pause_writing(self) -> None:
        self.room = asyncio.get_running_loop().create_future()
        self.watch_reading()

    def resume_writing(self) -> None:
        self._owner.unread.stop(self)
        room, self.room = self.room, None
        if room is not None and not room.done():
            room.set_result(None)

    def watch_reading(self) -> None:
        """What was written has to go away."""
        if self.transport is not None:
            self._unsent = self.transport.get_write_buffer_size()
            if self._unsent:
                self._owner.unread.start(self)

    def unread_late(self) -> None:
        """Nothing went away for so long that nobody reads."""
        if self.transport is None:
            return
        if self.transport.get_write_buffer_size() < self._unsent:
            self.watch_reading()
        else:
            self.transport.abort()

    def pause_reading(self) -> None:
        if self.transport is not None and not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.transport is not None and self._paused:
            self._paused = False
            self.transport.resume_reading()
