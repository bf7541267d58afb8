"""What the control plane's handlers share while it runs: one object, made at start."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from starlette.requests import HTTPConnection

from control.database import Pool
from control.idp import Idp
from control.logins import Logins
from control.passwords import Passwords
from control.secrets import Box
from control.settings import ControlSettings
from control.store import Store
from control.token_keys import TokenKeys
from proxy.who.keyfile import KeyFile

LOCAL = "opscenter.local"  # in an ASGI scope: the connection came over the unix socket


class Publishing(Protocol):
    """Carries records to Redis; False where Redis cannot be reached (the drain delivers later)."""

    async def key(self, kid: str) -> bool: ...
    async def sign_in(self, id: str) -> bool: ...
    async def organisation(self, organisation: str) -> bool: ...
    async def records(self, kind: str, ids: Sequence[str]) -> bool: ...
    async def pool(self, organisation: str) -> bool: ...
    async def snapshot(self) -> bool: ...
    async def snapshot_current(self) -> bool: ...
    async def foreign(self, issuers: bytes, is_news: bool) -> bool: ...


@dataclass(slots=True)
class Counters:
    """Since this process began."""

    started_at: float = field(default_factory=time.time)
    answers: dict[str, int] = field(default_factory=dict)  # by class of status, such as 2xx
    running: int = 0
    snapshot_published_at: float = 0.0  # seconds since 1970; 0: not yet

    def answered(self, status: int) -> None:
        name = f"{status // 100}xx"
        self.answers[name] = self.answers.get(name, 0) + 1


@dataclass(frozen=True, slots=True, repr=False)
class Seals:
    """By which the database's secrets are brought under the newest root key."""

    version: int  # of that one
    providers: Box
    plugins: Box


@dataclass(frozen=True, slots=True)
class State:
    settings: ControlSettings
    pool: Pool
    redis: Store
    publisher: Publishing
    keys: KeyFile = field(repr=False)
    answers: Box = field(repr=False)
    seals: Seals = field(repr=False)
    passwords: Passwords
    logins: Logins
    tokens: TokenKeys = field(repr=False)
    idp: Idp
    counters: Counters = field(default_factory=Counters)


def state_of(connection: HTTPConnection) -> State:
    state = connection.app.state.ops
    assert isinstance(state, State)
    return state
