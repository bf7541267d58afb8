"""Redis for everything that is not on the request path: one client, scripts by SHA, for a single
server and for a cluster.

On a cluster each command goes to the master that serves its key, all commands for one master in
one trip. What a moving slot or a failover refuses has not been done, so it is sent again, for at
most SETTLE_S; what went unanswered is not. Commands on one key keep their order unless its slot
moves meanwhile. Without a key: EVERYWHERE to every master, the others to any.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from control.nodes import AWAY, Command, Node, Nodes, NotSent, Reply, Word
from proxy.redis.scripts import SCRIPTS
from proxy.redis.slots import key_of

SETTLE_S = 5.0
PAUSE_FIRST_S, PAUSE_MAX_S = 0.005, 0.2
EVERYWHERE = frozenset(("PING", "SCRIPT", "FLUSHALL", "FLUSHDB", "CONFIG"))
# MOVED is an AskError
UNSETTLED = (AskError, TryAgainError, ClusterDownError, ReadOnlyError, NotSent)

__all__ = ["AWAY", "Call", "Command", "Reply", "Server", "Store", "Word"]

Call = tuple[str, Sequence[bytes], Sequence[Word]]  # script, keys, arguments


@dataclass(frozen=True, slots=True)
class Server:
    """What `opscenter doctor` tells of Redis."""

    product: str  # Valkey or Redis
    version: str
    masters: int  # 0: a single server
    replicas: int  # connected just now

    @property
    def mode(self) -> str:
        return f"a cluster of {self.masters} masters" if self.masters else "a single server"

    def __str__(self) -> str:
        return f"{self.product} {self.version}, {self.mode} with {self.replicas} replicas"


@dataclass(slots=True)
class _Job:
    """One command on its way to one server."""

    nth: int  # of the caller's commands
    command: Command
    node: Node | None = None  # None: whoever serves the key
    asking: bool = False
    reply: Reply = field(default=None)


class Store:
    """A client that connects when it is first used."""

    def __init__(self, url: str) -> None:
        self._nodes = Nodes(url)

    async def command(self, *words: Word) -> Reply:
        return (await self.commands([words]))[0]

    async def commands(self, commands: Sequence[Command]) -> list[Reply]:
        """Many commands in one round trip, answered as the server sent it."""
        return self._checked(await self._send(commands))

    async def run(self, script: str, keys: Sequence[bytes], *args: Word) -> Reply:
        return (await self.run_all([(script, keys, args)]))[0]

    async def run_all(self, calls: Sequence[Call]) -> list[Reply]:
        """Many scripts in one round trip; those that a server has forgotten are sent whole."""
        short = [("EVALSHA", SCRIPTS[name].sha, len(k), *k, *a) for name, k, a in calls]
        replies = await self._send(short)
        forgotten = [nth for nth, reply in enumerate(replies) if _forgotten(reply)]
        whole = [("EVAL", SCRIPTS[calls[nth][0]].text, *short[nth][2:]) for nth in forgotten]
        for nth, reply in zip(forgotten, await self._send(whole), strict=True):
            replies[nth] = reply
        return self._checked(replies)

    async def ping(self) -> None:
        """Every master answers."""
        await self.command("PING")

    async def info(self, section: str) -> dict[str, str]:
        """Of the master that started last, where the section tells of that."""
        return min(await self.infos(section), key=lambda i: int(i.get("uptime_in_seconds", 0)))

    async def infos(self, section: str) -> list[dict[str, str]]:
        """Of every master."""
        return [_parsed(reply) for reply in await self._of_each("INFO", section)]

    async def server(self) -> Server:
        """Which server runs in which mode; of several versions the oldest."""
        infos = await self.infos("server")
        replicas = sum(int(i["connected_slaves"]) for i in await self.infos("replication"))
        versions = {}
        for info in infos:
            product = "Valkey" if "valkey_version" in info else "Redis"
            text = info.get("valkey_version") or info.get("redis_version") or "0"
            versions[tuple(int(p) for p in text.split(".") if p.isdecimal())] = (product, text)
        masters = len(infos) if self._nodes.clustered else 0
        return Server(*versions[min(versions)], masters, replicas)

    async def run_ids(self, keys: Sequence[bytes]) -> list[str]:
        """Per key the run id of the server that serves it: another one after a restart, a
        failover or a move of its slot, so that whoever reads on knows to look again.
        """
        found = await self._by_node("INFO", "server")
        return [_parsed(found[self._nodes.serving(key)])["run_id"] for key in keys]

    async def times_ms(self, keys: Sequence[bytes]) -> list[int]:
        """Per key the clock of the server that serves it: leases are in its time."""
        found = await self._by_node("TIME")
        now = {node: int(s) * 1000 + int(us) // 1000 for node, (s, us) in found.items()}
        return [now[self._nodes.serving(key)] for key in keys]

    async def close(self) -> None:
        await self._nodes.close()

    # trips ------------------------------------------------------------------------------

    async def _of_each(self, *command: Word) -> list[Reply]:
        return list((await self._by_node(*command)).values())

    async def _by_node(self, *command: Word) -> dict[Node, Reply]:
        """What each server says; all of them, or the failure of one."""
        until = time.monotonic() + SETTLE_S
        while True:
            await self._nodes.find()
            nodes = self._nodes.all
            jobs = [_Job(0, command, node) for node in nodes]
            await self._round(jobs)
            dead = any(isinstance(job.reply, NotSent) for job in jobs)
            if not (dead and self._nodes.clustered and time.monotonic() < until):
                replies = self._checked([job.reply for job in jobs])
                return dict(zip(nodes, replies, strict=True))
            await asyncio.sleep(PAUSE_MAX_S)  # another takes over

    async def _send(self, commands: Sequence[Command]) -> list[Reply]:
        if not commands:
            return []
        await self._nodes.find()
        if (node := self._nodes.single) is not None:
            return await self._send_single(node, commands)
        jobs = [job for nth, command in enumerate(commands) for job in self._jobs(nth, command)]
        await self._settle(jobs)
        replies: dict[int, Reply] = {}
        for job in jobs:  # of a command that went everywhere: the first answer, or a refusal
            if job.nth not in replies or isinstance(job.reply, Exception):
                replies[job.nth] = job.reply
        return list(replies.values())

    async def _send_single(self, node: Node, commands: Sequence[Command]) -> list[Reply]:
        try:
            replies = await node.trip(commands)
        except BaseException:
            self._nodes.forget()
            raise
        if any(isinstance(reply, ReadOnlyError | MovedError) for reply in replies):
            self._nodes.forget()  # it has become a replica, or the node of a cluster
        return replies

    def _jobs(self, nth: int, command: Command) -> list[_Job]:
        if key_of(command) is not None:
            return [_Job(nth, command)]
        nodes = self._nodes.all
        chosen = nodes if _everywhere(command) else [random.choice(nodes)]  # noqa: S311
        return [_Job(nth, command, node) for node in chosen]

    async def _settle(self, jobs: list[_Job]) -> None:
        """Sends until each command has been done or refused for good, or SETTLE_S are over."""
        until, pause = time.monotonic() + SETTLE_S, PAUSE_FIRST_S
        while jobs:
            await self._round(jobs)
            jobs = [job for job in jobs if isinstance(job.reply, UNSETTLED)]
            for job in jobs:
                self._redirect(job)
            if jobs:
                if time.monotonic() > until:
                    return
                await asyncio.sleep(pause)
                pause = min(pause * 2, PAUSE_MAX_S)
                await self._nodes.find()

    def _redirect(self, job: _Job) -> None:
        asked, job.node, job.asking = job.node, None, False
        if isinstance(job.reply, AskError) and job.reply.host:
            job.node = self._nodes.at(job.reply.host, int(job.reply.port))
            job.asking = not isinstance(job.reply, MovedError)
        elif key_of(job.command) is None:
            job.node = asked if _everywhere(job.command) else random.choice(self._nodes.all)  # noqa: S311
        if not job.asking:
            self._nodes.forget()

    async def _round(self, jobs: Sequence[_Job]) -> None:
        """One trip to each server; when one fails, the others' have still ended."""
        trips: dict[tuple[Node, bool], list[_Job]] = {}
        for job in jobs:
            node = job.node or self._nodes.serving(key_of(job.command) or b"")
            trips.setdefault((node, job.asking), []).append(job)
        done = await asyncio.gather(
            *(node.trip([j.command for j in js], asking) for (node, asking), js in trips.items()),
            return_exceptions=True,
        )
        for replies, trip in zip(done, trips.values(), strict=True):
            if isinstance(replies, BaseException):
                self._nodes.forget()
                if not isinstance(replies, NotSent):
                    raise replies
                replies = [replies] * len(trip)
            for job, reply in zip(trip, replies, strict=True):
                job.reply = reply

    def _checked(self, replies: list[Reply]) -> list[Reply]:
        for reply in replies:
            if isinstance(reply, MovedError) and not self._nodes.clustered:
                raise ResponseError(
                    "the server belongs to a cluster: allow its user INFO and CLUSTER SLOTS"
                )
            if isinstance(reply, Exception):
                raise reply
        return replies


def _everywhere(command: Command) -> bool:
    return str(command[0]).upper() in EVERYWHERE


def _forgotten(reply: Reply) -> bool:
    if isinstance(reply, NoScriptError | NoPermissionError):
        return True
    return isinstance(reply, ResponseError) and str(reply).startswith("unknown command")


def _parsed(info: bytes) -> dict[str, str]:
    return dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
