"""Relay: the provider's bytes to the client as they come, its usage to us.

Same dialect in and out: nothing is parsed but the event that carries the usage. A stream that
ends without it is estimated from what was delivered, and marked so.
"""

from collections.abc import Awaitable, Sequence
from typing import Protocol

import orjson

from proxy import sse
from proxy.delivered import Delivered, last_frame
from proxy.errors import OpsError, UpstreamBroken
from proxy.masks import mask_bytes
from proxy.types import Call, Outcome, Usage
from proxy.upstream import Reply

BYTES_PER_TOKEN = 4  # of an estimate
DONE = b"[DONE]"
ERROR = b'"error"'
# the names of all counts end so; `"usage":null` stands in every chunk of a stream and tells nothing
COUNTS = b'_tokens"'

Headers = Sequence[tuple[bytes, bytes]]


class Downstream(Protocol):
    """The client's side of one exchange, whatever server carries it."""

    @property
    def gone(self) -> bool:
        """Whether the client has left."""

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer at once."""

    async def head(self, status: int, headers: Headers) -> None:
        """The beginning of a stream."""

    def chunk(self, data: bytes) -> Awaitable[None]:
        """Sends at once; is awaited until the client can take more."""

    async def end(self, last: bytes) -> None:
        """The end of a stream, with what still has to go out."""


class Begun(Protocol):
    """The client's side of a stream whose head has gone out."""

    outcome: Outcome | None  # what an error in the middle of it tells of

    def chunk(self, data: bytes) -> Awaitable[None]:
        """As above."""


class Slices(Protocol):
    """The hold of a stream, which grows as the stream goes on."""

    reach: int  # tokens; beyond it the next slice has to be held

    async def more(self) -> bool:
        """Holds the next slice; False where a limit does not carry it."""

    async def refusal(self) -> OpsError:
        """Which one."""


async def plain(reply: Reply, call: Call, outcome: Outcome) -> bytes:
    """A whole answer: read before its head goes out, because the head tells its exact cost."""
    body = await reply.whole()
    usage = reply.adapter.usage(body)
    if usage is None and not _is_object(body):
        raise UpstreamBroken(model=call.model, why="the answer is not JSON")
    if usage is None and ERROR in body and _is_error(body):
        raise reply.adapter.error(reply.deployment, reply.answer.status, body)
    outcome.kind = "settled"
    outcome.usage = usage or estimate(call, len(body))
    outcome.reason = "usage_frame" if usage else "no_usage_frame"
    return body


async def stream(reply: Reply, call: Call, outcome: Outcome, down: Begun, slices: Slices) -> None:
    """Events in, events out. However it ends, `outcome` knows what was used until then."""
    limit = reply.settings.event_max_bytes
    splitter, count = sse.Splitter(limit), Delivered()
    down.outcome = outcome
    outcome.delivered = count
    outcome.kind, outcome.reason = "settled", "cut"
    try:
        while (piece := await reply.read()) is not None:
            try:
                block = splitter.feed(piece)
            except sse.EventTooLong:
                raise _too_long(call, limit) from None
            if not block:
                continue
            if COUNTS in block or ERROR in block or DONE in block:
                block = _look(block, reply, call, outcome, count)
            else:
                count.add(block)
            if block:
                await down.chunk(block)
            if count.content_bytes > slices.reach:
                await _hold_more(slices, count, down)
        rest = splitter.rest().rstrip(b"\r\n")
        if len(rest) > limit:
            raise _too_long(call, limit)
        # a last event without its blank line still counts
        if rest and (block := _look(rest + b"\n\n", reply, call, outcome, count)):
            await down.chunk(block)
        outcome.reason = _ending(call, outcome, count)
    finally:
        if not count.events and outcome.usage.source != "provider":
            outcome.kind = "released"  # not one event came: nothing is charged
        elif outcome.usage.source != "provider":
            outcome.usage = estimate(call, count.content_bytes)


async def _hold_more(slices: Slices, count: Delivered, down: Begun) -> None:
    while count.content_bytes > slices.reach:
        if not await slices.more():
            # cut cleanly: a last frame that says so, then the error
            await down.chunk(last_frame(count.first))
            raise await slices.refusal()


def _too_long(call: Call, limit: int) -> UpstreamBroken:
    return UpstreamBroken(model=call.model, why=f"an event is longer than {limit} bytes")


def _ending(call: Call, outcome: Outcome, count: Delivered) -> str:
    """Why a stream ended that was read to its end; one without its end mark was broken off."""
    if count.error:
        return "error_in_stream"
    if not count.done:
        raise UpstreamBroken(model=call.model, why="the stream ended without its end mark")
    return "usage_frame" if outcome.usage.source == "provider" else "no_usage_frame"


def _look(block: bytes, reply: Reply, call: Call, outcome: Outcome, count: Delivered) -> bytes:
    """Reads the events that may carry usage, an error or the end; hides what nobody asked for."""
    plain = _before_marks(block)
    if plain:
        count.add(block[:plain])
    kept = [block[:plain]]
    for event in sse.events(block[plain:]):
        data = sse.data(event)
        if data == DONE:
            count.done = True
            kept.append(event)
            continue
        if COUNTS in data and (usage := reply.adapter.usage(data)):
            outcome.usage = usage
            if not call.usage_wanted and b'"choices":[]' in data.replace(b" ", b""):
                continue
        if ERROR in data and _is_error(data):
            count.error = True
            event = mask_bytes(event, reply.deployment.secret)
        else:
            count.add(event)
        kept.append(event)
    return b"".join(kept)


def _before_marks(block: bytes) -> int:
    """How much of a block lies in events before the first that is worth reading."""
    marks = [at for mark in (COUNTS, ERROR, DONE) if (at := block.find(mark)) >= 0]
    end = block.rfind(b"\n\n", 0, min(marks, default=0))
    return end + 2 if end >= 0 else 0


def estimate(call: Call, content_bytes: int) -> Usage:
    """When nothing tells the usage: counted by bytes, and marked so in the record."""
    tokens = {
        "input": -(-len(call.body) // BYTES_PER_TOKEN),
        "output": -(-content_bytes // BYTES_PER_TOKEN),
    }
    return Usage(tokens, "estimated")


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(orjson.loads(body), dict)
    except orjson.JSONDecodeError:
        return False


def _is_error(data: bytes) -> bool:
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return isinstance(chunk, dict) and bool(chunk.get("error"))
