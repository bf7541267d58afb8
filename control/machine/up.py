"""`opscenter up`: starts the whole product on one machine, watches it, and stops it in order.

Leaves no process behind, however it ends. Serves no request itself.
"""

import signal
import sys
from typing import TYPE_CHECKING, Final

from control.machine.embedded.base import ServerError
from control.machine.home import HomeInUse
from control.machine.processes import Household
from control.machine.start import Start, StartError
from control.machine.welcome import Progress
from control.settings import ControlSettings
from proxy.machine import listen
from proxy.machine.supervisor import hear_early, prepare_process

if TYPE_CHECKING:
    import asyncio

WATCH_SECONDS: Final = 0.25
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

# What is told as a sentence; anything else is a fault of ours and keeps its traceback.
TOLD: Final = (StartError, ServerError, HomeInUse, listen.ListenError)
# The same of modules that only some starts load; one that was not loaded raised nothing.
TOLD_LATER: Final = (
    ("control.machine.reach", "WrongUrl"),
    ("control.migrate", "SchemaError"),
    ("control.roots", "SecretError"),
    ("control.database", "DatabaseError"),
)


def run(settings: ControlSettings) -> int:
    """Runs until SIGTERM, SIGINT or SIGHUP; 0 when all ended in good order."""
    prepare_process()
    early = hear_early()
    household, progress = Household(), Progress()
    start = Start(settings, household, progress)
    status = 1
    try:
        start.open()
        import asyncio  # loaded while the servers load their data

        status = asyncio.run(_live(start, early))
    except Exception as problem:
        if not isinstance(problem, _told()):
            raise
        print(f"\n{problem}", file=sys.stderr, flush=True)
    finally:
        killed = _close(household, progress)
    return 1 if killed else status


def _told() -> tuple[type[Exception], ...]:
    loaded = [(sys.modules[module], name) for module, name in TOLD_LATER if module in sys.modules]
    return (*TOLD, *(getattr(module, name) for module, name in loaded))


async def _live(start: Start, early: list[int]) -> int:
    """Finishes the start, then watches until a signal comes; a signal also ends the start."""
    import asyncio

    stop, wake = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGCHLD, wake.set)
    if early:
        return 0
    starting = asyncio.create_task(start.finish())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return 0
    try:
        starting.result()
        await _watch(start.household, stopping, wake)
    finally:
        stopping.cancel()
    return 0


async def _watch(
    household: Household, stopping: "asyncio.Task[bool]", wake: "asyncio.Event"
) -> None:
    import asyncio

    loop = asyncio.get_running_loop()
    while not stopping.done():
        wake.clear()
        household.step(loop.time())
        woken = asyncio.create_task(wake.wait())
        await asyncio.wait(
            {stopping, woken}, timeout=WATCH_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        woken.cancel()


def _close(household: Household, progress: Progress) -> list[str]:
    """Stops all in order; another signal ends at once what would still drain."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: household.force())
    if household.units:
        progress.say("stopping: running requests first, the servers last")
    killed = household.stop()
    for name in killed:
        progress.say(f"{name} did not end in time and was killed")
    return killed
