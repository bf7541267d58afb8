"""What `opscenter up` says to the person before it: progress on stderr, the welcome on stdout."""

import shutil
import sys
import time
from typing import TYPE_CHECKING

from proxy.machine import listen

if TYPE_CHECKING:
    from control.bootstrap import FirstAccess
    from control.settings import ControlSettings

WELCOME = """
Ops-Center is ready.

  Door     {door}/v1    (any OpenAI client)
  Control  {control}
  Health   {health}/readyz
"""
FIRST = """
Shown this once, so keep it:

  E-mail    {email}
  Password  {password}
  API key   {key}

Try it:

  curl {door}/v1/chat/completions \\
    -H 'Authorization: Bearer {key}' \\
    -H 'Content-Type: application/json' \\
    -d '{{"model": "ops/echo", "messages": [{{"role": "user", "content": "Hello"}}]}}'
"""
LATER = """
A new API key:  {command} key create my-app
"""


class Progress:
    """One line per step that took place, with the time it took."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._started = time.monotonic()
        self._last = self._started

    def step(self, text: str) -> None:
        now = time.monotonic()
        mark = "\x1b[32m✓\x1b[0m " if self._terminal else ""
        self.say(f"{mark}{text} ({now - self._last:.2f} s)")
        self._last = now

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started


def welcome(settings: "ControlSettings") -> str:
    return WELCOME.format(
        door=_url(settings.door_host, settings.door_port),
        control=_url(settings.control_host, settings.control_port),
        health=_url(settings.health_host, settings.health_port),
    )


def first_access(settings: "ControlSettings", access: "FirstAccess") -> str:
    return FIRST.format(
        door=_url(settings.door_host, settings.door_port),
        email=access.email,
        password=access.password,
        key=access.api_key,
    )


def later() -> str:
    # after `./opscenter up` in a checkout there is no such command on the path
    return LATER.format(command="opscenter" if shutil.which("opscenter") else "./opscenter")


def _url(host: str, port: int) -> str:
    return f"http://{listen.reachable(host)}:{port}"
