"""The servers behind OPSCENTER_REDIS_URL as the control plane sees them: one, or the masters of a
cluster. Who serves a key, and many commands to one server in one trip; retries nothing itself.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as Unreachable
from redis.exceptions import TimeoutError as Late

from proxy.redis.address import Address, seeds
from proxy.redis.slots import SLOTS, masters, slot_of

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 5.0  # for each answer of a trip
CONNECTIONS_MAX = 64  # to one server
AWAY = (RedisError, OSError, TimeoutError)  # Redis cannot be reached or cannot answer

Reply = Any  # what Redis answered: bytes, int, None or a list of these; an error as a value
Word = bytes | str | int
Command = Sequence[Word]


class NotSent(Unreachable):
    """No connection could be made, so the server has seen nothing of it."""


class Node:
    """One server."""

    def __init__(self, name: str, pool: "redis.asyncio.ConnectionPool") -> None:
        self.name = name  # host:port or the path of a socket, for people
        self._pool = pool

    @classmethod
    def of(cls, url: str) -> "Node":
        at = Address.parse(url)
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS_MAX,
            timeout=CONNECT_TIMEOUT_S,
            protocol=2,  # replies come as the server sent them
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            # each trip has a deadline of its own: redis-py's would go through wait_for, which
            # in Python 3.11 may swallow a cancellation
            socket_timeout=None,
            retry=Retry(NoBackoff(), 0),
            client_name="opscenter",
        )
        return cls(at.socket or f"{at.host}:{at.port}", pool)

    def sibling(self, host: str, port: int) -> "Node":
        """Another server of the same cluster: the same login, another place."""
        kwargs = self._pool.connection_kwargs | {"host": host, "port": port}
        pool = redis.asyncio.BlockingConnectionPool(
            connection_class=self._pool.connection_class,
            max_connections=CONNECTIONS_MAX,
            timeout=CONNECT_TIMEOUT_S,
            **kwargs,
        )
        return Node(f"{host}:{port}", pool)

    async def trip(self, commands: Sequence[Command], asking: bool = False) -> list[Reply]:
        """All commands in one write, all answers; what the server refuses is an error as a value.
        `asking`: they are for slots on their way to this server.
        """
        sent = [c for command in commands for c in (("ASKING",), command)] if asking else commands
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S + ANSWER_TIMEOUT_S) as deadline:
                replies = await self._answers(sent, deadline)
        except TimeoutError:
            raise Late(f"Redis at {self.name} did not answer in time") from None
        return replies[1::2] if asking else replies

    async def _answers(self, sent: Sequence[Command], deadline: asyncio.Timeout) -> list[Reply]:
        connection = await self._connection()
        loop, replies = asyncio.get_running_loop(), list[Reply]()
        try:
            await self._write(connection, sent)
            for _ in sent:
                deadline.reschedule(loop.time() + ANSWER_TIMEOUT_S)
                try:
                    replies.append(await connection.read_response())
                except ResponseError as refusal:
                    replies.append(refusal)
        except BaseException:
            await connection.disconnect(nowait=True)  # its next answer would be another's
            raise
        finally:
            await self._pool.release(connection)
        return replies

    async def _write(self, connection: "redis.asyncio.Connection", sent: Sequence[Command]) -> None:
        packed = connection.pack_commands(sent)
        try:
            await connection.send_packed_command(packed, check_health=False)
        except RuntimeError as closed:  # how uvloop says it; the others in the pool ended with it
            await self._pool.disconnect(inuse_connections=False)
            raise NotSent(f"Redis at {self.name} had ended the connection") from closed

    async def _connection(self) -> "redis.asyncio.Connection":
        try:
            return await self._pool.get_connection()  # type: ignore[no-untyped-call,no-any-return]
        except AuthenticationError:
            raise
        except (Unreachable, Late, OSError) as problem:
            raise NotSent(str(problem)) from problem

    async def close(self) -> None:
        await self._pool.disconnect()


class Nodes:
    """Who serves what. Found out at the first use, and again after anything went wrong."""

    def __init__(self, url: str) -> None:
        self._seeds = [Node.of(one) for one in seeds(url)]
        self._masters: dict[tuple[str, int], Node] = {}
        self._slots: list[Node | None] = []  # empty: a single server
        self._single = self._seeds[0]
        self._known = False
        self._finding = asyncio.Lock()

    @property
    def clustered(self) -> bool:
        return bool(self._slots)

    @property
    def single(self) -> Node | None:
        """The only server there is."""
        return None if self._slots else self._single

    @property
    def all(self) -> list[Node]:
        return list(self._masters.values()) if self._slots else [self._single]

    def serving(self, key: bytes) -> Node:
        if not self._slots:
            return self._single
        node = self._slots[slot_of(key)]
        if node is None:
            self.forget()
            raise Unreachable("no master of the cluster serves this key's slot")
        return node

    def at(self, host: str, port: int) -> Node:
        if (host, port) not in self._masters:
            self._masters[host, port] = self._single.sibling(host, port)
        return self._masters[host, port]

    def forget(self) -> None:
        self._known = False

    async def find(self) -> None:
        """Asks the servers that are known, then the seeds, until one tells."""
        if self._known:
            return
        async with self._finding:
            if not self._current():  # another may have found it while we waited
                await self._find()

    def _current(self) -> bool:
        return self._known

    async def _find(self) -> None:
        problem: Exception = Unreachable("Redis is not reachable")
        for node in (*self.all, *self._seeds):
            try:
                await self._ask(node)
            except AWAY as answer:
                problem = answer
            else:
                self._known = True
                return
        raise problem

    async def _ask(self, node: Node) -> None:
        cluster, replication, slots = await node.trip(
            [("INFO", "cluster"), ("INFO", "replication"), ("CLUSTER", "SLOTS")]
        )
        if _says(cluster, b"cluster_enabled:1"):
            if isinstance(slots, Exception):
                raise slots
            await self._adopt(slots, node)
        elif _says(replication, b"role:slave"):
            raise Unreachable(f"Redis at {node.name} is a replica, which takes no writes")
        else:
            # also a server that refuses INFO: should it be one of a cluster, it will say MOVED
            self._slots, self._single = [], node

    async def _adopt(self, reply: Reply, asked: Node) -> None:
        slots: list[Node | None] = [None] * SLOTS
        used = set()
        for first, last, host, port in masters(reply, asked.name.rpartition(":")[0]):
            slots[first : last + 1] = [self.at(host, port)] * (last + 1 - first)
            used.add((host, port))
        self._slots = slots
        for gone in self._masters.keys() - used:
            # what is on its way there ends by its own deadline; idle connections end now
            await self._masters.pop(gone)._pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        for node in {*self._masters.values(), *self._seeds}:
            await node.close()


def _says(reply: Reply, line: bytes) -> bool:
    return isinstance(reply, bytes) and line in reply
