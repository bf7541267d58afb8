"""Relay: the provider's answer to the client as it comes, its usage to us.

Same dialect in and out: nothing is parsed but the event that carries the usage. A stream that
ends without it is estimated from what was delivered, and marked so.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

from proxy.costs import billed
from proxy.costs.counting import Measure
from proxy.errors import OpsError
from proxy.reach.incoming import Waits
from proxy.stream import whole
from proxy.stream.ways import Way, way_of
from proxy.types import Call, Outcome, Price
from proxy.upstream import Reply

Headers = Sequence[tuple[bytes, bytes]]
Room = Awaitable[None] | None  # until the client can take more; None: he can


class Downstream(Protocol):
    """The client's side of one exchange, whatever server carries it."""

    @property
    def gone(self) -> bool:
        """Whether the client has left."""

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer at once."""

    async def head(self, status: int, headers: Headers) -> None:
        """The beginning of a stream."""

    def chunk(self, data: bytes) -> Room:
        """Sends at once."""

    async def end(self, last: bytes) -> None:
        """The end of a stream, with what still has to go out."""


class Begun(Protocol):
    """The client's side of a stream whose head has gone out."""

    #: What an error in the middle of it looks like; None where there is no place for one.
    fail: Callable[[OpsError], bytes | None] | None

    def chunk(self, data: bytes) -> Room:
        """As above."""


class Slices(Protocol):
    """The hold of a stream, which grows as the stream goes on."""

    reach: int  # tokens; beyond it the next slice has to be held

    async def more(self) -> bool:
        """Holds the next slice; False where a limit does not carry it."""

    async def refusal(self) -> OpsError:
        """Which one."""


async def plain(
    reply: Reply, call: Call, outcome: Outcome, price: Price, measure: Measure | None = None
) -> bytes:
    """A whole answer: read before its head goes out, because the head tells its exact cost."""
    body = await reply.whole()
    if reply.is_native:
        usage = billed.usage(reply, call, price, body)
        if measure is not None and usage.source == "estimated":
            usage = await measure.whole(usage, "whole", body)
    else:
        events, usage = whole.read(reply, call, body)
        if measure is not None and usage.source == "estimated":
            usage = await measure.whole(usage, "text", whole.words(events))
        body = whole.said(call, events, usage)
    outcome.usage = usage
    if call.free:
        outcome.reason, outcome.counts = "free", True
        return body
    outcome.kind = "settled"
    outcome.reason = usage.reason
    return body


async def stream(
    reply: Reply,
    call: Call,
    outcome: Outcome,
    down: Begun,
    slices: Slices,
    price: Price,
    measure: Measure | None = None,
) -> bytes:
    """Pieces in, pieces out; gives back the last one. However it ends, `outcome` knows what was
    used until then."""
    way = way_of(reply, call, outcome, price)
    outcome.delivered = count = way.count
    outcome.kind, outcome.reason = "settled", "cut"
    down.fail = way.fail
    take, send = way.take, down.chunk
    keep = measure.keep if measure is not None else None

    def pass_on(piece: bytes) -> Waits:
        block = take(piece)
        if keep is not None:
            keep(block)
        room = send(block) if block else None
        if room is None and count.content_bytes <= slices.reach:
            return None
        return partial(_catch_up, slices, way, down, room)

    try:
        await reply.pour(pass_on)
        if block := way.rest():
            if keep is not None:
                keep(block)
            await _room(send(block))
        outcome.reason = way.ending()
    finally:
        if way.events:
            outcome.usage = way.used()
        elif outcome.usage.source != "provider":
            outcome.kind = "released"  # not one event came: nothing is charged
        if measure is not None:
            await measure.stream(outcome, count, reply.answer.close)
    return way.end()


async def _room(room: Room) -> None:
    if room is not None:
        await room


async def _catch_up(slices: Slices, way: Way, down: Begun, room: Room) -> None:
    """Until the client can take more, and the hold carries what has gone out."""
    await _room(room)
    while way.count.content_bytes > slices.reach:
        if not await slices.more():
            # cut cleanly: a last frame that says so, then the error
            await _room(down.chunk(way.last()))
            raise await slices.refusal()
