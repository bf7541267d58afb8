"""Redis on the request path: few connections, automatic pipelining, one deadline for all.

Commands of many requests leave in one write and are answered in order. A call that cannot be
answered in time fails; it never waits for Redis to come back. Everything that is not on the
request path uses redis-py.
"""

import asyncio
import random
import ssl
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis

from proxy.scripts import SCRIPTS, Script

Word = bytes | int
Reply = Any  # what Redis answered: bytes, int, None or a list of these
BACKOFF_MIN_S, BACKOFF_MAX_S = 0.02, 0.5
WATCH_S = 0.02  # how often deadlines are looked at


class RedisDown(Exception):
    """Redis cannot be reached, answers too late, or has too much waiting. Nothing was decided."""


@dataclass(frozen=True, slots=True)
class Address:
    """A Redis URL taken apart."""

    host: str
    port: int
    socket: str
    user: str
    password: str
    db: int
    tls: bool

    @classmethod
    def parse(cls, url: str) -> "Address":
        parts = urlsplit(url)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if parts.scheme == "unix" and parts.path:
            socket, path = unquote(parts.path), ""
        elif parts.scheme in ("redis", "rediss") and parts.hostname:
            socket, path = "", parts.path.strip("/")
        else:
            raise ValueError("a Redis URL starts with redis://HOST, rediss://HOST or unix:///PATH")
        db = query.get("db") or path or "0"
        if not db.isdigit():
            raise ValueError(f"a Redis URL ends with the number of a database, not {db!r}")
        return cls(
            host=parts.hostname or "",
            port=parts.port or 6379,
            socket=socket,
            user=unquote(parts.username or query.get("username", "")),
            password=unquote(parts.password or query.get("password", "")),
            db=int(db),
            tls=parts.scheme == "rediss",
        )


class _Connection(asyncio.Protocol):
    """One connection: commands out, replies in, in order."""

    def __init__(self) -> None:
        self.reader = hiredis.Reader(notEnoughData=_NOTHING)
        self.waiting: deque[tuple[float, asyncio.Future[Reply]]] = deque()
        self.transport: asyncio.Transport | None = None
        self.loop = asyncio.get_running_loop()
        self.closed = self.loop.create_future()
        self._out: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by class

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        while self.waiting:
            future = self.waiting.popleft()[1]
            if not future.done():
                future.set_exception(RedisDown("the connection to Redis ended"))
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        while (reply := self.reader.gets()) is not _NOTHING:
            if not self.waiting:
                return self.fail()
            future = self.waiting.popleft()[1]
            if future.done():
                continue
            if isinstance(reply, hiredis.ReplyError):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    def send(self, command: bytes, deadline: float) -> "asyncio.Future[Reply]":
        future: asyncio.Future[Reply] = self.loop.create_future()
        self.waiting.append((deadline, future))
        if not self._out:
            self.loop.call_soon(self._flush)
        self._out.append(command)
        return future

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self.transport is not None:
            self.transport.write(out[0] if len(out) == 1 else b"".join(out))

    def expire(self, now: float) -> None:
        """A late answer condemns the connection: the ones behind it would be later still."""
        if self.waiting and self.waiting[0][0] < now:
            self.fail()

    def fail(self) -> None:
        if self.transport is not None:
            self.transport.abort()


_NOTHING = object()


def _pack(command: tuple[Word, ...]) -> bytes:
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # any length
    return packed


class Pipe:
    """A few connections to one server, kept up in the background."""

    def __init__(
        self,
        url: str,
        *,
        connections: int = 2,
        connect_ms: int = 50,
        timeout_ms: int = 200,
        backlog_max: int = 10_000,
    ) -> None:
        self.address = Address.parse(url)
        self.timeout_s = timeout_ms / 1000
        self.connect_s = connect_ms / 1000
        self.backlog_max = backlog_max
        self.problem = "not connected yet"  # why it is down, for people
        self._ready: list[_Connection] = []
        self._next = 0
        self._count = connections
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def up(self) -> bool:
        return bool(self._ready)

    async def start(self) -> None:
        """Starts connecting and waits for the first try of each connection, not for success."""
        tried = [asyncio.Event() for _ in range(self._count)]
        self._tasks = [asyncio.create_task(self._keep(event)) for event in tried]
        self._tasks.append(asyncio.create_task(self._watch()))
        for event in tried:
            await event.wait()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in self._ready:
            connection.fail()
        self._ready = []

    def send(self, *command: Word) -> "asyncio.Future[Reply]":
        """Queues a command and returns its reply to come; raises RedisDown at once when down."""
        if not self._ready:
            raise RedisDown("Redis is not reachable")
        self._next = (self._next + 1) % len(self._ready)
        connection = self._ready[self._next]
        if len(connection.waiting) >= self.backlog_max:
            raise RedisDown("too many commands wait for Redis")
        deadline = connection.loop.time() + self.timeout_s
        return connection.send(_pack(command), deadline)

    async def execute(self, *command: Word) -> Reply:
        try:
            return await self.send(*command)
        except hiredis.ReplyError as problem:
            raise RedisDown(f"Redis refused a command: {problem}") from None

    async def run(self, script: Script, keys: Sequence[bytes], args: Sequence[Word]) -> Reply:
        """Runs a script by its SHA; one that the server has forgotten is sent again."""
        try:
            return await self.send(b"EVALSHA", script.sha, len(keys), *keys, *args)
        except hiredis.ReplyError as problem:
            if not str(problem).startswith("NOSCRIPT"):
                raise RedisDown(f"Redis refused {script.name}: {problem}") from None
        return await self.execute(b"EVAL", script.text, len(keys), *keys, *args)

    async def _keep(self, tried: asyncio.Event) -> None:
        """Keeps one connection up: connect, hand out, wait for its end, back off with jitter."""
        backoff = BACKOFF_MIN_S
        while True:
            connection = None
            try:
                async with asyncio.timeout(max(self.connect_s, self.timeout_s)):
                    connection = await self._connect()
            except (OSError, TimeoutError, RedisDown, hiredis.ReplyError) as problem:
                self.problem = str(problem) or type(problem).__name__
            tried.set()
            if connection is None:
                await asyncio.sleep(backoff * random.uniform(0.5, 1.0))  # noqa: S311
                backoff = min(backoff * 2, BACKOFF_MAX_S)
                continue
            backoff = BACKOFF_MIN_S
            self._ready.append(connection)
            try:
                await connection.closed
            finally:
                if connection in self._ready:
                    self._ready.remove(connection)
                connection.fail()

    async def _connect(self) -> _Connection:
        loop, at = asyncio.get_running_loop(), self.address
        connection = _Connection()
        if at.socket:
            await loop.create_unix_connection(lambda: connection, at.socket)
        else:
            context = ssl.create_default_context() if at.tls else None
            await loop.create_connection(lambda: connection, at.host, at.port, ssl=context)
        try:
            await self._greet(connection)
        except BaseException:
            connection.fail()
            raise
        return connection

    async def _greet(self, connection: _Connection) -> None:
        at, deadline = self.address, connection.loop.time() + self.timeout_s
        hello: list[tuple[bytes, ...]] = []
        if at.password:
            login = (at.user.encode(), at.password.encode()) if at.user else (at.password.encode(),)
            hello.append((b"AUTH", *login))
        if at.db:
            hello.append((b"SELECT", b"%d" % at.db))
        loads = [(b"SCRIPT", b"LOAD", script.text) for script in SCRIPTS.values()]
        sent = [connection.send(_pack(c), deadline) for c in (*hello, *loads)]
        replies = await asyncio.gather(*sent, return_exceptions=True)
        for nth, reply in enumerate(replies):
            # a server may refuse SCRIPT LOAD: then each script travels with its call
            harmless = nth >= len(hello) and not str(reply).startswith("LOADING")
            if isinstance(reply, BaseException) and not harmless:
                raise reply

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(WATCH_S)
            now = loop.time()
            for connection in list(self._ready):
                connection.expire(now)
