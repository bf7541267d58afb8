"""Relay: the provider's answer to the client as it comes, its usage to us.

Same dialect in and out: nothing is parsed but the event that carries the usage. A stream that
ends without it is estimated from what was delivered, and marked so.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from proxy import billed, whole
from proxy.errors import OpsError
from proxy.types import Call, Outcome, Price
from proxy.upstream import Reply
from proxy.ways import Way, way_of

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

    #: What an error in the middle of it looks like; None where there is no place for one.
    fail: Callable[[OpsError], bytes | None]

    def chunk(self, data: bytes) -> Awaitable[None]:
        """As above."""


class Slices(Protocol):
    """The hold of a stream, which grows as the stream goes on."""

    reach: int  # tokens; beyond it the next slice has to be held

    async def more(self) -> bool:
        """Holds the next slice; False where a limit does not carry it."""

    async def refusal(self) -> OpsError:
        """Which one."""


async def plain(reply: Reply, call: Call, outcome: Outcome, price: Price) -> bytes:
    """A whole answer: read before its head goes out, because the head tells its exact cost."""
    body = await reply.whole()
    if reply.is_native:
        usage = billed.usage(reply, call, price, body)
    else:
        body, usage = whole.translated(reply, call, body)
    outcome.usage = usage
    if call.free:
        outcome.reason = "free"
        return body
    outcome.kind = "settled"
    outcome.reason = "usage_frame" if usage.source == "provider" else "no_usage_frame"
    return body


async def stream(
    reply: Reply, call: Call, outcome: Outcome, down: Begun, slices: Slices, price: Price
) -> bytes:
    """Pieces in, pieces out; gives back the last one. However it ends, `outcome` knows what was
    used until then."""
    way = way_of(reply, call, outcome)
    outcome.delivered = count = way.count
    outcome.kind, outcome.reason = "settled", "cut"
    if call.kind == "speech":
        outcome.usage = billed.spoken(call, price)
    down.fail = way.fail
    read, take, send = reply.read, way.take, down.chunk
    try:
        while (piece := await read()) is not None:
            if block := take(piece):
                await send(block)
            if count.content_bytes > slices.reach:
                await _hold_more(slices, way, down)
        if block := way.rest():
            await send(block)
        outcome.reason = way.ending()
    finally:
        if way.events:
            outcome.usage = way.used()
        elif outcome.usage.source != "provider" or call.kind == "speech":
            outcome.kind = "released"  # not one event came: nothing is charged
    return way.end()


async def _hold_more(slices: Slices, way: Way, down: Begun) -> None:
    while way.count.content_bytes > slices.reach:
        if not await slices.more():
            # cut cleanly: a last frame that says so, then the error
            await down.chunk(way.last())
            raise await slices.refusal()
