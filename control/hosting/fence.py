"""Between the core and one plugin: each call is measured, has a deadline, may open the circuit.

Code that blocks cannot be ended from outside. A third party's runs therefore on a thread of its
own, which is abandoned when it blocks; how many may be abandoned is bounded. Never lets into the
core what a plugin raised, other than as a PluginError.
"""

import asyncio
import inspect
import logging
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from proxy.errors import OpsError

log = logging.getLogger("opscenter.control.hosting.fence")

FAILURES_MAX = 5  # in a row; then the circuit opens
OPEN_S = 30.0  # how long it stays open before one call is tried
PING_S = 0.5  # a thread that does not answer within this is blocked
THREADS_LEFT_MAX = 3  # blocked threads of one plugin; then it is called no more
REASON_MAX = 300  # characters of what a plugin raised
TRACEBACK_MAX = 10_000  # characters of it in the log

# What a handler raises on purpose: an answer to its caller, no failure of the plugin.
ANSWERS = (HTTPException, RequestValidationError, OpsError)

Result = TypeVar("Result")
Work = Callable[[], Result | Awaitable[Result]]


class PluginError(OpsError):
    """The plugin {name} does not answer as it should: {why}"""

    status = 503
    code = "plugin_failed"


@dataclass(slots=True)
class _Circuit:
    """Of one hook or route, so that a broken one closes none that works."""

    failures: int = 0  # in a row
    try_again_at: float = 0.0
    reason: str = ""

    @property
    def open(self) -> bool:
        return self.failures >= FAILURES_MAX


class Fence:
    """Calls into one plugin. Lives as long as the process, so that its circuit and time do too."""

    def __init__(
        self, name: str, *, own_thread: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self.seconds = 0.0  # spent inside the plugin, waiting included
        self.threads_left = 0  # ever; who was started on an abandoned thread is lost with it
        self._own_thread = own_thread
        self._clock = clock
        self._circuits: dict[str, _Circuit] = {}  # of the calls that failed last
        self._hidden: set[str] = set()
        self._thread: PluginThread | None = None
        self._blocked: list[PluginThread] = []

    @property
    def open(self) -> bool:
        """Whether calls are refused, because they failed too often in a row."""
        return self._full() or any(one.open for one in self._circuits.values())

    @property
    def reason(self) -> str:
        """Why the call that failed most often in a row failed; "" when all went well last."""
        worst = max(self._circuits.values(), key=lambda one: one.failures, default=None)
        return worst.reason if worst else ""

    def reset(self) -> None:
        """Closes every circuit: an administrator asked for another try."""
        self._circuits.clear()

    async def call(self, what: str, deadline_s: float, work: Work[Result]) -> Result:
        """What `work` returns; anything that goes wrong in it is a PluginError."""
        self._refuse_while_open(what)
        begun = time.perf_counter()
        try:
            result = await self._within(deadline_s, _contained(work))
        except ANSWERS:
            self._circuits.pop(what, None)
            raise
        except _Late:
            raise self._failed(what, f"{what} took longer than {deadline_s:g} s.") from None
        except Exception as error:
            log.warning("plugin %s: %s failed\n%s", self.name, what, self._traceback(error))
            raise self._failed(what, f"{what} failed: {self._told(error)}") from error
        finally:
            self.seconds += time.perf_counter() - begun
        self._circuits.pop(what, None)
        return result

    def close(self) -> None:
        """Ends the plugin's thread; one that blocks ends with the process."""
        if self._thread is not None:
            self._thread.end()
            self._thread = None

    # Telling ------------------------------------------------------------------------

    def hide(self, secrets: Iterable[str]) -> None:
        """What the plugin raises may repeat its configuration; these are blotted out of it."""
        self._hidden |= {one for one in secrets if one}

    def _told(self, error: Exception) -> str:
        text = self._blotted(" ".join(f"{type(error).__name__}: {error}".split()))
        return text if len(text) <= REASON_MAX else text[: REASON_MAX - 3] + "..."

    def _traceback(self, error: Exception) -> str:
        return self._blotted("".join(traceback.format_exception(error)))[-TRACEBACK_MAX:]

    def _blotted(self, text: str) -> str:
        for secret in self._hidden:
            text = text.replace(secret, "***")
        return text

    # The circuit ------------------------------------------------------------------

    def _refuse_while_open(self, what: str) -> None:
        if self._full():
            raise PluginError(
                name=self.name,
                why=f"{THREADS_LEFT_MAX} of its calls never came back. Disable it, restart the "
                "control process, and tell its author.",
            )
        circuit = self._circuits.get(what)
        if circuit is None or not circuit.open:
            return
        if self._clock() < circuit.try_again_at:
            raise PluginError(
                name=self.name,
                why=f"it failed {circuit.failures} times in a row, at last: {circuit.reason}",
            )
        circuit.try_again_at = self._clock() + OPEN_S  # this call is the trial, others wait

    def _failed(self, what: str, reason: str) -> PluginError:
        circuit = self._circuits.setdefault(what, _Circuit())
        circuit.failures += 1
        circuit.reason = reason
        if circuit.open:
            circuit.try_again_at = self._clock() + OPEN_S
            log.error("plugin %s is left alone for %g s: %s", self.name, OPEN_S, reason)
        return PluginError(name=self.name, why=reason)

    # Threads ------------------------------------------------------------------------

    def _full(self) -> bool:
        self._blocked = [one for one in self._blocked if one.running]
        return len(self._blocked) >= THREADS_LEFT_MAX

    async def _within(self, deadline_s: float, work: Coroutine[Any, Any, Result]) -> Result:
        if not self._own_thread:
            return await _before(deadline_s, work)
        if self._thread is None:
            self._thread = PluginThread(self.name)
        thread = self._thread
        try:
            return await _before(deadline_s, asyncio.wrap_future(thread.submit(work)))
        except _Late:
            if not await thread.answers():
                self._leave(thread)
            raise

    def _leave(self, thread: "PluginThread") -> None:
        if self._thread is not thread:
            return  # another call has left it already
        log.error("plugin %s blocks its thread, which is abandoned", self.name)
        thread.end()
        self._thread = None
        self._blocked.append(thread)
        self.threads_left += 1


class PluginThread:
    """An event loop on a daemon thread: it never keeps the process from ending."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"plugin-{name}", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def submit(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def answers(self) -> bool:
        ping = self.submit(asyncio.sleep(0))
        with suppress(_Late):
            await _before(PING_S, asyncio.wrap_future(ping))
            return True
        return False

    def end(self) -> None:
        """The loop stops as soon as the plugin lets it."""
        with suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()


class _Late(Exception):
    """Our deadline passed; not to be mistaken for a TimeoutError of the plugin's own."""


async def _before(deadline_s: float, work: Awaitable[Result]) -> Result:
    try:
        async with asyncio.timeout(deadline_s) as limit:
            return await work
    except TimeoutError:
        if limit.expired():
            raise _Late from None
        raise


async def _contained(work: Work[Result]) -> Result:
    """Runs work; what would end the process or look like our own cancellation becomes a failure."""
    try:
        result = work()
        return await result if inspect.isawaitable(result) else result
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise RuntimeError("it cancelled itself") from None
    except (SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"it raised {type(error).__name__}") from error
