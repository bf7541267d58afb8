"""Relay: the provider's bytes to the client as they come, its usage to us.

Same dialect in and out: nothing is parsed but the event that carries the usage. A stream that
ends without it is estimated from what was delivered, and marked so.
"""

import re
from typing import Protocol

import orjson

from proxy import sse
from proxy.delivered import Delivered, last_frame
from proxy.errors import InsufficientCredits, UpstreamBroken
from proxy.types import Call, Outcome, Usage
from proxy.upstream import Reply

BYTES_PER_TOKEN = 4  # of an estimate
DONE = b"[DONE]"
ERROR = b'"error"'
# what makes an event worth reading; `"usage":null` stands in every chunk of a stream and is not
worth_reading = re.compile(rb'"usage"\s*:\s*\{|"error"|\[DONE\]').search


class Downstream(Protocol):
    """The client's side of one exchange, whatever server carries it."""

    async def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """A whole answer at once."""

    async def head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """The beginning of a stream."""

    async def chunk(self, data: bytes) -> None:
        """Returns when the client can take more."""

    async def end(self) -> None:
        """The end of a stream."""


class Slices(Protocol):
    """The hold of a stream, which grows as the stream goes on."""

    reach: int  # tokens; beyond it the next slice has to be held

    @property
    def next_text(self) -> str:
        """What the next slice may cost, in credits."""

    async def more(self) -> bool:
        """Holds the next slice; False where the credits do not carry it."""


async def plain(reply: Reply, call: Call, outcome: Outcome) -> bytes:
    """A whole answer: read before its head goes out, because the head tells its exact cost."""
    body = await reply.whole()
    usage = reply.adapter.usage(body)
    if usage is None and not _is_object(body):
        raise UpstreamBroken(model=call.model, why="the answer is not JSON")
    outcome.kind = "settled"
    outcome.usage = usage or estimate(call, len(body))
    outcome.reason = "usage_frame" if usage else "no_usage_frame"
    return body


async def stream(
    reply: Reply, call: Call, outcome: Outcome, down: Downstream, slices: Slices
) -> None:
    """Events in, events out. However it ends, `outcome` knows what was used until then."""
    splitter = sse.Splitter(reply.settings.event_max_bytes)
    count = Delivered()
    outcome.delivered = count
    outcome.kind, outcome.reason = "settled", "cut"
    try:
        while (piece := await reply.read()) is not None:
            try:
                block = splitter.feed(piece)
            except sse.EventTooLong:
                why = f"an event is longer than {reply.settings.event_max_bytes} bytes"
                raise UpstreamBroken(model=call.model, why=why) from None
            if block:
                await _pass(block, reply, call, outcome, down, count)
                while count.content_bytes > slices.reach:
                    if not await slices.more():
                        # cut cleanly: a last frame that says so, then the error
                        await down.chunk(last_frame(count.first))
                        raise InsufficientCredits(needed=slices.next_text, left="less")
        if rest := splitter.rest():
            # a last event without its blank line still counts
            await _pass(rest.rstrip(b"\r\n") + b"\n\n", reply, call, outcome, down, count)
        if count.error:
            outcome.reason = "error_in_stream"
        elif not count.done:
            raise UpstreamBroken(model=call.model, why="the stream ended without its end mark")
        elif outcome.usage.source == "provider":
            outcome.reason = "usage_frame"
        else:
            outcome.reason = "no_usage_frame"
    finally:
        if not count.events and outcome.usage.source != "provider":
            outcome.kind = "released"  # not one event came: nothing is charged
        elif outcome.usage.source != "provider":
            outcome.usage = estimate(call, count.content_bytes)


async def _pass(
    block: bytes, reply: Reply, call: Call, outcome: Outcome, down: Downstream, count: Delivered
) -> None:
    if worth_reading(block):
        block = _look(block, reply, call, outcome, count)
        if not block:
            return
    else:
        count.add(block)
    await down.chunk(block)


def _look(block: bytes, reply: Reply, call: Call, outcome: Outcome, count: Delivered) -> bytes:
    """Reads the events that may carry usage, an error or the end; hides what nobody asked for."""
    kept = []
    for event in sse.events(block):
        data = sse.data(event)
        if data == DONE:
            count.done = True
        elif b'"usage"' in data and (usage := reply.adapter.usage(data)):
            outcome.usage = usage
            if not call.usage_wanted and b'"choices":[]' in data.replace(b" ", b""):
                continue
            count.add(event)
        elif ERROR in data and _is_error(data):
            count.error = True
        else:
            count.add(event)
        kept.append(event)
    return b"".join(kept)


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
