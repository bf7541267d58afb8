"""The workers of one machine: which runs in which slot, who is replaced, who must go.

A slot keeps its listening socket while workers come and go. `step` does what is due and says when
to call it again; it never waits itself.

    a worker      starting -> ready -> draining -> gone
    dies          a new one on the same socket, after a pause that grows while it keeps dying
    reload        slot by slot: a second worker on the same socket, ready, then the first drains
    stop          all drain; who is not gone in time is killed
"""

import logging
import os
import random
import signal
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from proxy.machine.backoff import Backoff
from proxy.machine.children import ended

log = logging.getLogger("opscenter.proxy.fleet")

READY_MAX_S: Final = 60.0  # a replacement that is not ready by then is given up
KILL_GRACE_S: Final = 5.0  # beyond the drain that a worker ends by itself
LOOK_READY_S: Final = 0.05
IDLE_S: Final = 1.0


class Process(Protocol):
    """What of a child process is used here."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def send_signal(self, sig: int) -> None: ...


class Staff(Protocol):
    """Hires workers and knows whether they can serve."""

    def start(self, number: int, listening: socket.socket) -> Process: ...
    def is_ready(self, number: int) -> bool: ...


@dataclass(slots=True)
class Worker:
    process: Process
    number: int  # its metrics' slot: another than that of the worker it replaces
    started_at: float
    kill_at: float = 0.0


@dataclass(slots=True)
class Slot:
    listening: socket.socket
    number: int
    start_at: float = 0.0
    backoff: Backoff = field(default_factory=Backoff)
    worker: Worker | None = None
    replacement: Worker | None = None
    leaving: list[Worker] = field(default_factory=list)

    def workers(self) -> list[Worker]:
        return [w for w in (self.worker, self.replacement, *self.leaving) if w is not None]


class Fleet:
    def __init__(
        self,
        sockets: Sequence[socket.socket],
        staff: Staff,
        drain_s: float,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.slots = [
            Slot(one, number, backoff=Backoff(jitter)) for number, one in enumerate(sockets)
        ]
        self.killed = 0
        self.stopping = False
        self.misconfigured = False
        self._has_served = False
        self._staff = staff
        self._drain_s = drain_s
        self._reloading: deque[Slot] = deque()

    def reload(self) -> None:
        """Replaces every worker, one slot after another."""
        if not self.stopping:
            log.info("reload: every worker is replaced, one after another")
            self._reloading = deque(self.slots)

    def stop(self, now: float) -> None:
        """Lets all workers drain; a second call ends them at once."""
        if self.stopping:
            for worker in self._all():
                worker.kill_at = now
            return
        self.stopping = True
        self._reloading.clear()
        for slot in self.slots:
            for worker in [w for w in (slot.worker, slot.replacement) if w is not None]:
                self._dismiss(slot, worker, now)
            slot.worker = slot.replacement = None

    def done(self) -> bool:
        return self.stopping and not self._all()

    def not_ready(self) -> list[int]:
        """The slots whose worker cannot serve now."""
        return [slot.number for slot in self.slots if not self._serves(slot.worker)]

    def numbers(self) -> range:
        """Every number that a worker of this fleet may have counted under."""
        return range(2 * len(self.slots))

    def step(self, now: float) -> float:
        """Does what is due; returns the longest that the next step may be away."""
        self._has_served = self._has_served or any(self._serves(s.worker) for s in self.slots)
        for slot in self.slots:
            self._reap(slot, now)
        self._kill_late(now)
        if self.stopping:
            return LOOK_READY_S
        for slot in self.slots:
            if slot.worker is None and now >= slot.start_at:
                slot.worker = self._start(slot, now)
        if self._reloading:
            self._reload_one(self._reloading[0], now)
            return LOOK_READY_S
        waits = [slot.start_at - now for slot in self.slots if slot.worker is None]
        return max(0.0, min([IDLE_S, *waits]))

    def _start(self, slot: Slot, now: float) -> Worker | None:
        number = self._free_number(slot)
        if number is None:
            return None
        try:
            process = self._staff.start(number, slot.listening)
        except OSError as problem:
            log.error("worker %d cannot be started: %s", slot.number, problem.strerror)
            self._pause(slot, now, 0.0)
            return None
        return Worker(process, number, now)

    def _free_number(self, slot: Slot) -> int | None:
        """Each slot has two: one worker may still drain while the next one counts."""
        taken = {worker.number for worker in slot.workers()}
        both = (slot.number, slot.number + len(self.slots))
        return next((number for number in both if number not in taken), None)

    def _reap(self, slot: Slot, now: float) -> None:
        slot.leaving = [w for w in slot.leaving if w.process.poll() is None]
        if slot.replacement and (status := slot.replacement.process.poll()) is not None:
            self._give_up(f"the new worker of slot {slot.number} {ended(status)}")
            slot.replacement = None
        worker = slot.worker
        if worker is None or (status := worker.process.poll()) is None:
            return
        slot.worker, slot.replacement = slot.replacement, None
        if slot.worker is not None:
            return
        if status == os.EX_CONFIG and not self._has_served:
            self._refuse(now)
            return
        pause = self._pause(slot, now, now - worker.started_at)
        log.warning(
            "worker %d (process %d) %s; a new one starts in %.1f s",
            *(slot.number, worker.process.pid, ended(status), pause),
        )

    def _refuse(self, now: float) -> None:
        """The settings were never right, as a worker has said: another start mends nothing."""
        if not self.stopping:
            log.error("the settings cannot be used; nothing is started until they are mended")
            self.misconfigured = True
            self.stop(now)

    def _pause(self, slot: Slot, now: float, lived_s: float) -> float:
        pause = slot.backoff.pause(lived_s)
        slot.start_at = now + pause
        return pause

    def _reload_one(self, slot: Slot, now: float) -> None:
        if slot.worker is None:
            return  # it starts anew anyway
        if slot.replacement is None:
            if self._free_number(slot) is None:
                return  # the worker of the reload before still drains
            slot.replacement = self._start(slot, now)
            if slot.replacement is None:
                self._give_up(f"the new worker of slot {slot.number} cannot be started")
        elif self._serves(slot.replacement):
            self._dismiss(slot, slot.worker, now)
            slot.worker, slot.replacement = slot.replacement, None
            self._reloading.popleft()
        elif now - slot.replacement.started_at > READY_MAX_S:
            self._dismiss(slot, slot.replacement, now)
            slot.replacement = None
            self._give_up(f"the new worker of slot {slot.number} is not ready")

    def _give_up(self, why: str) -> None:
        if self._reloading:
            log.error("reload stopped: %s; the workers that run stay as they are", why)
            self._reloading.clear()

    def _serves(self, worker: Worker | None) -> bool:
        if worker is None or worker.process.poll() is not None:
            return False
        return self._staff.is_ready(worker.number)

    def _dismiss(self, slot: Slot, worker: Worker, now: float) -> None:
        worker.process.send_signal(signal.SIGTERM)
        worker.kill_at = now + self._drain_s + KILL_GRACE_S
        slot.leaving.append(worker)

    def _kill_late(self, now: float) -> None:
        for slot in self.slots:
            for worker in slot.leaving:
                if now >= worker.kill_at and worker.process.poll() is None:
                    log.error("process %d did not drain in time and is killed", worker.process.pid)
                    worker.process.send_signal(signal.SIGKILL)
                    worker.kill_at = now + KILL_GRACE_S
                    self.killed += 1

    def _all(self) -> list[Worker]:
        return [worker for slot in self.slots for worker in slot.workers()]
