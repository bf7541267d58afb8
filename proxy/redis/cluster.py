"""Redis on the request path, whichever kind answers: one server, or a cluster with one pipe per
master. A call that meets a moving slot is sent again, the same bytes, within its deadline.
"""

import asyncio
import logging
import random
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import hiredis

from proxy.redis.address import Address
from proxy.redis.packed import Packed, Word, words
from proxy.redis.pipe import FORGOTTEN, Left, Pipe, RedisDown, Reply, replied
from proxy.redis.scripts import Script
from proxy.redis.slots import SLOTS, UNSETTLED, key_of, masters, redirect, slot_of

log = logging.getLogger("opscenter.proxy.cluster")

TRIES_MAX = 20  # of one call, all within its deadline
PAUSE_FIRST_S, PAUSE_MAX_S = 0.005, 0.04
REFRESH_S = 5.0  # how often the slots are asked for when nothing happens
REFRESH_SOONEST_S = 0.1  # and when something does
NODES_MAX = 500  # masters


class Open(Protocol):
    def __call__(self, at: Address) -> Pipe: ...


class Cluster:
    """The masters, and which of them serves a key."""

    def __init__(self, seed: Pipe, open: Open) -> None:
        self._seed = seed  # asked for the slots when no master answers
        self._open = open
        self._nodes: dict[tuple[str, int], Pipe] = {}
        self._slots: list[Pipe | None] = [None] * SLOTS
        self._tasks: set[asyncio.Task[None]] = set()
        self._starts: dict[Pipe, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._problem = "the slots are not known yet"

    @property
    def up(self) -> bool:
        return any(node.up for node in self._nodes.values())

    @property
    def problem(self) -> str:
        down = [f"{h}:{p}: {n.problem}" for (h, p), n in self._nodes.items() if not n.up]
        return self._problem or "; ".join(down)

    async def start(self) -> None:
        """Learns the slots once, whether or not that succeeds, and keeps them fresh."""
        await self._refresh()
        if self._starts:
            await asyncio.wait(list(self._starts.values()))
        _ = self._spawn(self._keep())

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(node.stop() for node in self._nodes.values()))
        self._nodes = {}
        self._slots = [None] * SLOTS

    # calls ------------------------------------------------------------------------------

    def begin(self, call: Packed) -> "asyncio.Future[Reply]":
        return asyncio.ensure_future(self.call(call))

    async def execute(self, *command: Word) -> Reply:
        packed = b"*%d\r\n" % len(command) + words(command)
        return await self._call(key_of(command), packed, None, None)

    async def run(self, script: Script, keys: Sequence[bytes], args: Sequence[Word]) -> Reply:
        return await self.call(Packed.of(script, keys, args))

    async def call(self, call: Packed, left: Left | None = None) -> Reply:
        """Runs a script where its first key lies; keys of several slots are refused there."""
        return await self._call(call.key, call.by_sha(), call, left)

    async def _call(
        self, key: bytes | None, command: bytes, call: Packed | None, left: Left | None
    ) -> Reply:
        pipe = self._serving(key)
        until = asyncio.get_running_loop().time() + pipe.timeout_s
        try:
            return await replied(pipe.write(command, left), left)
        except RedisDown:
            self._wake.set()
            raise
        except hiredis.ReplyError as answer:
            problem = answer
        try:
            async with asyncio.timeout_at(until):
                return await self._again(key, command, call, left, pipe, problem)
        except TimeoutError:
            raise RedisDown(f"the cluster did not settle in time: {problem}") from None

    async def _again(
        self,
        key: bytes | None,
        command: bytes,
        call: Packed | None,
        left: Left | None,
        pipe: Pipe,
        problem: hiredis.ReplyError,
    ) -> Reply:
        """Follows what the servers say, as long as the deadline and TRIES_MAX allow."""
        asking, pause, texted = False, PAUSE_FIRST_S, False
        for _ in range(TRIES_MAX):
            said = str(problem)
            if to := redirect(said):
                pipe, asking = await self._redirected(key, to.host, to.port, pipe), to.asking
                if not asking:
                    self._learn(key, pipe)
            elif call and said.startswith(FORGOTTEN) and not texted:
                command, texted = call.by_text(), True
            elif said.startswith(UNSETTLED):
                self._wake.set()
                await asyncio.sleep(pause)
                pipe, asking, pause = self._serving(key), False, min(pause * 2, PAUSE_MAX_S)
            else:
                break
            try:
                send = pipe.ask if asking else pipe.write
                return await replied(send(command, left), left)
            except RedisDown:
                self._wake.set()
                raise
            except hiredis.ReplyError as answer:
                problem = answer
        raise pipe.refusal(call.script.name if call else "a command", problem)

    def _serving(self, key: bytes | None) -> Pipe:
        if key is None:
            return next((node for node in self._nodes.values() if node.up), self._seed)
        pipe = self._slots[slot_of(key)]
        if pipe is None:
            self._wake.set()
            why = self._problem or "no master serves this slot"
            raise RedisDown(f"Redis is not reachable: {why}")
        return pipe

    async def _redirected(self, key: bytes | None, host: str, port: int, said: Pipe) -> Pipe:
        pipe = self._node(host or said.address.host, port)
        if start := self._starts.get(pipe):
            await asyncio.shield(start)
        return pipe

    def _learn(self, key: bytes | None, pipe: Pipe) -> None:
        self._wake.set()
        if key is not None:
            self._slots[slot_of(key)] = pipe

    # who serves what --------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            try:
                async with asyncio.timeout(REFRESH_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            await self._refresh()
            await asyncio.sleep(REFRESH_SOONEST_S * random.uniform(0.5, 1.0))  # noqa: S311

    async def _refresh(self) -> None:
        """Asks any master, or the seed when none is up. What fails is tried again by `_keep`."""
        up = [node for node in self._nodes.values() if node.up]
        asked = random.choice(up) if up else self._seed  # noqa: S311
        try:
            reply = await asked.execute(b"CLUSTER", b"SLOTS")
            self._adopt(reply, asked.address.host)
            self._tell("" if reply else "the cluster serves no slot")
        except RedisDown as problem:
            self._tell(str(problem))
            self._wake.set()
        except (ValueError, TypeError, IndexError) as problem:
            self._tell(f"what CLUSTER SLOTS answered cannot be read: {problem!r}")

    def _adopt(self, reply: Reply, asked: str) -> None:
        slots: list[Pipe | None] = [None] * SLOTS
        used = set()
        for first, last, host, port in masters(reply, asked):
            slots[first : last + 1] = [self._node(host, port)] * (last + 1 - first)
            used.add((host, port))
        self._slots = slots
        for at in self._nodes.keys() - used:
            _ = self._spawn(self._retire(self._nodes.pop(at)))

    def _node(self, host: str, port: int) -> Pipe:
        """The pipe of a master; one that is new is on its way up."""
        if node := self._nodes.get((host, port)):
            return node
        if len(self._nodes) >= NODES_MAX:
            raise RedisDown(f"the cluster names more than {NODES_MAX} masters")
        node = self._open(replace(self._seed.address, host=host, port=port, socket=""))
        self._nodes[host, port] = node
        self._starts[node] = start = self._spawn(node.start())
        start.add_done_callback(lambda _: self._starts.pop(node, None))
        return node

    async def _retire(self, node: Pipe) -> None:
        """Lets what is on its way be answered first."""
        try:
            await asyncio.sleep(node.timeout_s)
        finally:
            await node.stop()

    def _spawn(self, work: Coroutine[None, None, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _tell(self, problem: str) -> None:
        """One line per change of state, not one per try."""
        if problem != self._problem and problem:
            log.warning("the slots of the cluster are not known: %s", problem)
        self._problem = problem


class Redis:
    """What `Pipe` is for one server, for either kind. Which kind it is, is found out whenever a
    connection is made; a call to a single server goes straight to its pipe.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: int = 2,
        connect_ms: int = 50,
        timeout_ms: int = 200,
        backlog_max: int = 10_000,
    ) -> None:
        pipe = partial(
            Pipe,
            connections=connections,
            connect_ms=connect_ms,
            timeout_ms=timeout_ms,
            backlog_max=backlog_max,
        )
        self._open: Open = pipe
        self._seed = pipe(url, changed=self._look)
        self._cluster: Cluster | None = None
        self._starting: asyncio.Task[None] | None = None
        self._serve(self._seed)

    def _serve(self, by: Pipe | Cluster) -> None:
        self._by = by
        self.execute, self.run = by.execute, by.run
        self.begin, self.call = by.begin, by.call

    @property
    def up(self) -> bool:
        return self._by.up

    @property
    def problem(self) -> str:
        return self._by.problem or self._seed.problem

    async def start(self) -> None:
        """Waits for the first try of each connection, not for success."""
        await self._seed.start()
        if self._starting:
            await asyncio.shield(self._starting)

    async def stop(self) -> None:
        if self._starting:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._cluster:
            await self._cluster.stop()
        await self._seed.stop()

    def _look(self) -> None:
        """A connection of the seed has come or gone."""
        if self._seed.up and self._seed.clustered and self._cluster is None:
            self._cluster = Cluster(self._seed, self._open)
            self._serve(self._cluster)
            self._starting = asyncio.create_task(self._cluster.start())
