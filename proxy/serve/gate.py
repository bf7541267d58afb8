"""How much a worker takes in at one time: requests that run, requests that wait a little for one of
them to end, bytes of bodies. What is beyond is told to come again, because a queue without an end
serves nobody.
"""

from collections.abc import Callable
from typing import Protocol

from proxy.errors import Overloaded
from proxy.serve.watch import Watch
from proxy.settings import Settings


class Entrant(Protocol):
    """A request at the gate."""

    def start(self) -> None:
        """It may run."""

    def refuse(self, problem: Overloaded) -> None:
        """It may not."""


class Uploader(Protocol):
    """A connection whose body is not read on for a while."""

    def resume(self) -> None:
        """There is room again."""

    def crowded_out(self) -> None:
        """There was none in time."""


class Gate:
    """The limits of one worker; who enters leaves once."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self.running = 0
        self.bytes = 0  # of bodies that came and are not answered yet
        self._running_max = settings.requests_max
        self._waiting_max = settings.requests_waiting_max
        self._bytes_max = settings.bodies_max_bytes
        wait_s = settings.overload_wait_ms / 1000
        self.waiting: Watch[Entrant] = Watch(wait_s, lambda one: one.refuse(Overloaded()), clock)
        self.paused: Watch[Uploader] = Watch(wait_s, lambda one: one.crowded_out(), clock)

    @property
    def is_full(self) -> bool:
        """Not even a place to wait is left."""
        return self.running >= self._running_max and len(self.waiting) >= self._waiting_max

    def enter(self, one: Entrant) -> None:
        """Starts it, now or when its turn has come, or refuses it."""
        if self.running < self._running_max:
            self.running += 1
            one.start()
        elif len(self.waiting) < self._waiting_max:
            self.waiting.start(one)
        else:
            one.refuse(Overloaded())

    def leave(self) -> None:
        self.running -= 1
        if self.waiting:
            self.running += 1
            self.waiting.first().start()

    def has_room(self) -> bool:
        """Whether a body may be read on."""
        return self.bytes < self._bytes_max

    def is_bursting(self) -> bool:
        """So many came at once that waiting does not help."""
        return self.bytes > 2 * self._bytes_max

    def give_back(self, size: int) -> None:
        """The bytes of a body are needed no more."""
        self.bytes -= size
        if self.paused and self.has_room():
            for one in self.paused.all():
                self.paused.stop(one)
                one.resume()
