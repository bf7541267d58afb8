"""Tokens that no provider has told, counted by tiktoken where its vocabulary is at hand: in a
process beside the worker, started when one is needed first. Whatever is in its way, the estimate by
bytes stands.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Mapping, MutableSequence
from itertools import count as numbers
from pathlib import Path
from typing import Any, Final, cast

import orjson

from proxy.costs import vocabularies
from proxy.costs.counter import LENGTHS
from proxy.costs.price import SIDES
from proxy.costs.texts import Form
from proxy.machine import children
from proxy.types import Call, Delivered, Deployment, Outcome, Usage

log = logging.getLogger("opscenter.proxy.counting")

KINDS: Final = ("chat", "completions", "embeddings")
WAITING_MAX: Final = 64  # texts of a worker that may wait to be counted; beyond, by bytes
TEXT_MAX_BYTES: Final = 4 * 2**20  # of a request or an answer; beyond, by bytes
KEPT_MAX_BYTES: Final = 64 * 2**20  # of all streams of a worker, until they end
KEPT_STEP_BYTES: Final = 16 * 2**10  # taken of it at once
BLOCK_BYTES: Final = 64  # that a piece takes in memory beside its own
STUCK_S: Final = 30.0  # a process that has said nothing for so long is ended
REST_S: Final = 60.0  # after one ended that was needed
TURNS_MAX: Final = 100  # of the loop, at the end, for those who wait
PASSED_ON: Final = ("PATH", "LANG", "PYTHONPATH")

Counts = Mapping[str, int]


class Counting:
    """What a worker can count, and the process that does."""

    def __init__(self, folder: Path, patience_s: float) -> None:
        self._at_hand = dict(vocabularies.at_hand(folder))
        self._patience_s = patience_s
        self._counter: _Counter | None = None
        self._waiting = 0
        self._rest_until = 0.0
        self.kept_bytes = 0

    def of(self, call: Call, deployment: Deployment) -> "Measure | None":
        """None where tokens cannot be counted: for this model, or for any."""
        if not self._at_hand or call.free or call.kind not in KINDS:
            return None
        encoding_of = vocabularies.encoding_of
        name = encoding_of(deployment.upstream_model) or encoding_of(deployment.model)
        return Measure(self, name, call) if name in self._at_hand else None

    async def count(self, encoding: str, call: Call, form: Form, said: bytes) -> Counts | None:
        """Tokens on both sides; None where they are not known in time."""
        if self._waiting == WAITING_MAX or encoding not in self._at_hand:
            return None
        if max(len(call.body), len(said)) > TEXT_MAX_BYTES:
            return None
        self._waiting += 1
        try:
            async with asyncio.timeout(self._patience_s):
                head = {"encoding": encoding, "dialect": call.dialect, "form": form}
                told = await self._ask(head, call.body, said)
        except TimeoutError:
            self._look_after()
            return None
        except OSError as problem:
            log.warning("tokens are estimated by bytes: %s", problem)
            self._rest()
            return None
        finally:
            self._waiting -= 1
        return self._read(encoding, told)

    async def close(self) -> None:
        """Who still waits has bytes, and is settled before this returns."""
        self._at_hand.clear()
        if self._counter is not None:
            self._counter.stop()
        for _ in range(TURNS_MAX):
            if not self._waiting:
                break
            await asyncio.sleep(0)

    async def _ask(self, head: dict[str, Any], body: bytes, said: bytes) -> Mapping[str, Any]:
        if asyncio.get_running_loop().time() < self._rest_until:
            return {}
        counter = self._counter
        if counter is None or counter.ended:
            counter = self._counter = _Counter(self._at_hand)
            await counter.start()
        return await counter.ask(head, body, said)

    def _read(self, encoding: str, told: Mapping[str, Any]) -> Counts | None:
        if "input" in told:
            return {"input": told["input"], "output": told["output"]}
        if "unusable" in told:
            log.warning("tokens are estimated by bytes: %s", told["unusable"])
            self._at_hand.pop(encoding, None)
        elif "ended" in told and self._at_hand:
            log.warning("what counts tokens ended; until it is started again, bytes are counted")
            self._rest()
        return None

    def _look_after(self) -> None:
        counter = self._counter
        if counter is not None and counter.silent_s > STUCK_S:
            counter.stop()

    def _rest(self) -> None:
        self._rest_until = asyncio.get_running_loop().time() + REST_S


class _Counter(asyncio.Protocol):
    """The process, from its start to its end."""

    def __init__(self, at_hand: Mapping[str, Path]) -> None:
        self._loop = asyncio.get_running_loop()
        self._numbers = numbers()
        self._asked: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._line = b""
        self._heard = self._loop.time()
        self._connected = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process: children.Child | None = _spawn(at_hand, theirs.fileno())
            except OSError:
                ours.close()
                raise
        self._ours = ours

    @property
    def ended(self) -> bool:
        return self._process is None

    @property
    def silent_s(self) -> float:
        return self._loop.time() - self._heard

    async def start(self) -> None:
        try:
            await self._loop.create_unix_connection(lambda: self, sock=self._ours)
        except BaseException:
            self.stop()
            raise
        finally:
            if not self._connected.done():
                self._connected.set_result(None)

    async def ask(self, head: dict[str, Any], body: bytes, said: bytes) -> Mapping[str, Any]:
        await asyncio.shield(self._connected)
        if self._transport is None:
            return {"ended": True}
        if not self._asked:
            self._heard = self._loop.time()
        number = next(self._numbers)
        told: asyncio.Future[Mapping[str, Any]] = self._loop.create_future()
        self._asked[number] = told
        first = orjson.dumps({**head, "id": number})
        sizes = LENGTHS.pack(len(first), len(body), len(said))
        self._transport.writelines([sizes, first, body, said])
        try:
            return await told
        finally:
            self._asked.pop(number, None)

    def stop(self) -> None:
        transport, process = self._transport, self._process
        self._transport = self._process = None
        if transport is not None:
            transport.abort()
        else:
            self._ours.close()
        if process is not None:
            children.stop(process, ())
        for told in self._asked.values():
            if not told.done():
                told.set_result({"ended": True})

    # what asyncio calls -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            told = orjson.loads(line)
            asked = self._asked.get(told["id"])
            if asked is not None and not asked.done():
                asked.set_result(told)

    def connection_lost(self, problem: Exception | None) -> None:
        if self._process is not None:
            self.stop()


def _spawn(at_hand: Mapping[str, Path], stdin: int) -> children.Child:
    known = {
        one.name: {"path": str(at_hand[one.name]), "sha256": one.sha256, "pattern": one.pattern}
        for one in vocabularies.ENCODINGS
        if one.name in at_hand
    }
    return children.spawn(
        [*children.module("proxy.costs.counter"), orjson.dumps(known).decode()],
        env=children.with_our_code({n: os.environ[n] for n in PASSED_ON if n in os.environ}),
        stdin=stdin,
        death_signal=signal.SIGKILL,
    )


class Measure:
    """One request's: what went to its client is kept until it has ended, and counted where its
    provider has not told."""

    __slots__ = ("_blocks", "_call", "_counting", "_encoding", "_reserved", "_room")

    def __init__(self, counting: Counting, encoding: str, call: Call) -> None:
        self._counting, self._encoding, self._call = counting, encoding, call
        self._blocks: MutableSequence[bytes] = []
        self._room = self._reserved = 0

    def keep(self, block: bytes) -> None:
        """For each piece of a stream, so it does next to nothing."""
        self._blocks.append(block)
        self._room -= len(block) + BLOCK_BYTES
        if self._room < 0:
            self._make_room()

    async def whole(self, usage: Usage, form: Form, said: bytes) -> Usage:
        """Of an answer that was read at once."""
        return await self._counted(usage, form, said, False)

    async def stream(self, outcome: Outcome, count: Delivered, close: Callable[[], None]) -> None:
        """Of a stream that has ended, somehow; `close`: nobody waits for its provider any more."""
        blocks, whole = self._blocks, self._reserved >= 0
        try:
            if outcome.kind != "settled" or outcome.usage.source != "estimated" or not whole:
                return
            close()
            said = b"".join(blocks)
            told = any(SIDES.get(name) == "input" for name in count.told)
            outcome.usage = await self._counted(
                outcome.usage, "stream", said, told, count.content_bytes
            )
        finally:
            self._forget()

    async def _counted(
        self, usage: Usage, form: Form, said: bytes, told: bool, out_max: int = sys.maxsize
    ) -> Usage:
        call = self._call
        found = await self._counting.count(self._encoding, call, form, said)
        if found is None:
            return usage
        tokens = dict(usage.tokens)
        if not told and "input" in tokens:
            tokens["input"] = min(found["input"], call.input_most)
        if "output" in tokens:
            # a token is at least a byte, and the hold reaches as far as the bytes have come
            tokens["output"] = min(found["output"], call.output_most, out_max)
        return Usage(tokens, usage.source, usage.doubt, self._encoding)

    def _make_room(self) -> None:
        counting = self._counting
        full = self._reserved >= TEXT_MAX_BYTES
        while self._room < 0 and not full:
            full = counting.kept_bytes + KEPT_STEP_BYTES > KEPT_MAX_BYTES
            if not full:
                counting.kept_bytes += KEPT_STEP_BYTES
                self._reserved += KEPT_STEP_BYTES
                self._room += KEPT_STEP_BYTES
        if full:
            self._forget()

    def _forget(self) -> None:
        """Nothing is kept from now on."""
        self._counting.kept_bytes -= max(self._reserved, 0)
        self._blocks = deque[bytes](maxlen=0)
        self._reserved, self._room = -1, sys.maxsize
