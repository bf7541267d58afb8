"""Redis on the request path: few connections, automatic pipelining, one deadline for all.

Commands of many requests leave in one write and are answered in order. A call that cannot be
answered in time fails; it never waits for Redis to come back. Everything that is not on the
request path uses redis-py.
"""

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Callable, Sequence

import hiredis

from proxy.redis.address import Address, seeds
from proxy.redis.link import Left, Link, RedisDown, Reply
from proxy.redis.packed import Packed, Word
from proxy.redis.scripts import SCRIPTS, Script

log = logging.getLogger("opscenter.proxy.pipe")

__all__ = ["FORGOTTEN", "Left", "Pipe", "RedisDown", "Reply", "Word", "replied"]

BACKOFF_MIN_S, BACKOFF_MAX_S = 0.02, 0.5
HEALTHY_AFTER_S = 1.0  # a connection that lived so long did not fail at its start
TOLD_AGAIN_S = 10.0  # what Redis refuses is told once in this time
WATCH_S = 0.02  # how often deadlines are looked at
HARMLESS = ("NOPERM", "ERR unknown")  # what a server says that takes no SCRIPT LOAD or INFO
FORGOTTEN = ("NOSCRIPT", *HARMLESS)  # the script has to travel with its call


def _pack(command: tuple[Word, ...]) -> bytes:
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # any length
    return packed


async def replied(reply: "asyncio.Future[Reply]", left: Left | None) -> Reply:
    """The reply; one that came in the very moment in which its caller was cancelled goes to
    `left`, as one does that comes later.
    """
    try:
        return await reply
    except asyncio.CancelledError:
        _hand_over(reply, left)
        raise


def _hand_over(reply: "asyncio.Future[Reply]", left: Left | None) -> None:
    if left and reply.done() and not reply.cancelled() and reply.exception() is None:
        left(reply.result())


def _says(reply: Reply, line: bytes) -> bool:
    return isinstance(reply, bytes) and line in reply


def _forget(reply: "asyncio.Future[Reply]") -> None:
    if not reply.cancelled():
        reply.exception()


class Pipe:
    """A few connections to one server, kept up in the background. Of several addresses the
    first that answers is used, by all connections.
    """

    def __init__(
        self,
        at: str | Address,
        *,
        connections: int = 2,
        connect_ms: int = 50,
        timeout_ms: int = 200,
        backlog_max: int = 10_000,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._seeds = (at,) if isinstance(at, Address) else tuple(map(Address.parse, seeds(at)))
        self.address = self._seeds[0]  # the one in use
        self.clustered = False  # what answers there is a node of a cluster
        self._changed = changed  # told when a connection has come up or has ended
        self.timeout_s = timeout_ms / 1000
        self.connect_s = connect_ms / 1000
        self.backlog_max = max(backlog_max // connections, 1)  # of each connection
        self.problem = "not connected yet"  # why it is down, for people
        self._tls = ssl.create_default_context() if self.address.tls else None
        self._ready: list[Link] = []
        self._next = 0
        self._silent_until = 0.0
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
        return self.write(_pack(command))

    def write(self, command: bytes, left: Left | None = None) -> "asyncio.Future[Reply]":
        """Queues a command and returns its reply to come; raises RedisDown at once when down."""
        if not self._ready:
            raise RedisDown(f"Redis is not reachable: {self.problem}")
        connection = self._in_turn()
        if len(connection.waiting) >= self.backlog_max:
            raise RedisDown("too many commands wait for Redis")
        return connection.send(command, connection.loop.time() + self.timeout_s, left)

    def _in_turn(self) -> Link:
        """The one that already has something to send now, so that it all leaves in one write; else
        the next one.
        """
        ready, nth = self._ready, self._next
        if nth < len(ready):
            link = ready[nth]
            if link.collects and len(link.waiting) < self.backlog_max:
                return link
        self._next = nth = (nth + 1) % len(ready)
        return ready[nth]

    async def execute(self, *command: Word) -> Reply:
        try:
            return await self.send(*command)
        except hiredis.ReplyError as problem:
            raise self._refused("a command", problem) from None

    def ask(self, command: bytes, left: Left | None = None) -> "asyncio.Future[Reply]":
        """Sends a command to a server that its slot is on the way to."""
        self.send(b"ASKING").add_done_callback(_forget)
        connection = self._ready[self._next]  # the same one, or it would not know
        return connection.send(command, connection.loop.time() + self.timeout_s, left)

    def begin(self, call: Packed) -> "asyncio.Future[Reply]":
        """A script's reply to come. What the server refuses is for `call`."""
        return self.write(call.by_sha())

    async def run(self, script: Script, keys: Sequence[bytes], args: Sequence[Word]) -> Reply:
        return await self.call(Packed.of(script, keys, args))

    async def call(self, call: Packed, left: Left | None = None) -> Reply:
        """Runs a script by its SHA; one that the server has forgotten is sent again. Where the
        caller is cancelled, what the script did is told to `left`.
        """
        reply = self.write(call.by_sha(), left)
        try:
            return await reply  # as `replied` does it, which would be one coroutine more
        except asyncio.CancelledError:
            _hand_over(reply, left)
            raise
        except hiredis.ReplyError as problem:
            if not str(problem).startswith(FORGOTTEN):
                raise self._refused(call.script.name, problem) from None
        try:
            return await replied(self.write(call.by_text(), left), left)
        except hiredis.ReplyError as problem:
            raise self._refused(call.script.name, problem) from None

    def _refused(self, what: str, problem: hiredis.ReplyError) -> RedisDown:
        if str(problem).startswith("READONLY"):
            # it has become a replica: connecting again finds the master, or tells
            for connection in self._ready[:]:
                connection.fail("the server has become a replica")
        return self.refusal(what, problem)

    def refusal(self, what: str, problem: hiredis.ReplyError) -> RedisDown:
        """Callers are told that nothing can be checked; the log has the server's words."""
        told = RedisDown(f"Redis refused {what}: {problem}")
        now = time.monotonic()
        if now >= self._silent_until:
            self._silent_until = now + TOLD_AGAIN_S
            log.warning("%s", told)
        return told

    async def _keep(self, tried: asyncio.Event) -> None:
        """Keeps one connection up: connect, hand out, wait for its end, back off with jitter."""
        backoff = BACKOFF_MIN_S
        loop = asyncio.get_running_loop()
        while True:
            started, at = loop.time(), self.address
            try:
                async with asyncio.timeout(self.connect_s + self.timeout_s):
                    connection = await self._connect(at)
                if at is not self.address:
                    connection.fail("another address is in use")
                elif connection.transport is not None:
                    self._ready.append(connection)
                    self.problem = ""
                    self._changed()
                tried.set()
                await self._until_closed(connection)
                self.problem = connection.problem
            except TimeoutError:
                self.problem = "Redis did not answer in time"
            except (OSError, UnicodeError, RedisDown, hiredis.HiredisError) as problem:
                self.problem = str(problem) or type(problem).__name__
            tried.set()
            self._try_next(at)
            if loop.time() - started > HEALTHY_AFTER_S:
                backoff = BACKOFF_MIN_S
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))  # noqa: S311
            backoff = min(backoff * 2, BACKOFF_MAX_S)

    async def _until_closed(self, connection: Link) -> None:
        try:
            await connection.closed
        finally:
            self._lost(connection)
            connection.fail()

    def _lost(self, connection: Link) -> None:
        if connection in self._ready:
            self._ready.remove(connection)
            self._changed()

    def _try_next(self, failed: Address) -> None:
        """Goes on to the next address, once for all connections, when none is up any more."""
        if failed is self.address and not self._ready:
            self.address = self._seeds[(self._seeds.index(failed) + 1) % len(self._seeds)]

    async def _connect(self, at: Address) -> Link:
        loop = asyncio.get_running_loop()
        connection = Link(self._lost)
        if at.socket:
            await loop.create_unix_connection(lambda: connection, at.socket)
        else:
            await loop.create_connection(lambda: connection, at.host, at.port, ssl=self._tls)
        try:
            await self._greet(connection, at)
        except BaseException:
            connection.fail()
            raise
        return connection

    async def _greet(self, connection: Link, at: Address) -> None:
        """Signs in, learns what kind of server it is, and loads the scripts."""
        deadline = connection.loop.time() + self.timeout_s
        hello: list[tuple[bytes, ...]] = []
        if at.password:
            login = (at.user.encode(), at.password.encode()) if at.user else (at.password.encode(),)
            hello.append((b"AUTH", *login))
        if at.db:
            hello.append((b"SELECT", b"%d" % at.db))
        about = ((b"INFO", b"cluster"), (b"INFO", b"replication"))
        loads = [(b"SCRIPT", b"LOAD", script.text) for script in SCRIPTS.values()]
        sent = [connection.send(_pack(c), deadline) for c in (*hello, *about, *loads)]
        replies = await asyncio.gather(*sent, return_exceptions=True)
        for nth, reply in enumerate(replies):
            # a server may refuse INFO: then it is taken for a single one, and says MOVED if not;
            # and SCRIPT LOAD: then each script travels with its call
            refused = isinstance(reply, hiredis.ReplyError)
            harmless = refused and nth >= len(hello) and str(reply).startswith(HARMLESS)
            if isinstance(reply, BaseException) and not harmless:
                raise reply
        self.clustered = _says(replies[len(hello)], b"cluster_enabled:1")
        if not self.clustered and _says(replies[len(hello) + 1], b"role:slave"):
            raise RedisDown("the server is a replica, which takes no writes")

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + WATCH_S
            await asyncio.sleep(WATCH_S)
            # where we are late ourselves, an answer may lie there unread: judged as of when we
            # should have looked, it is read before the next look
            as_of = min(loop.time(), due)
            for connection in list(self._ready):
                connection.expire(as_of)
