"""A whole answer that has to be said in another dialect. Pure."""

from collections.abc import Sequence

from proxy.costs.estimates import estimate
from proxy.costs.pricing import NOTHING
from proxy.dialects.clients import client_of
from proxy.dialects.events import Counted, Event, Failed
from proxy.errors import UpstreamBroken, UpstreamRefused
from proxy.stream.ways import PIECES, told
from proxy.types import Call, Usage
from proxy.upstream import Reply


def read(reply: Reply, call: Call, answer: bytes) -> tuple[Sequence[Event], Usage]:
    """What it says, and what it used; raises where it is an error."""
    speech = reply.adapter.speech
    assert speech is not None
    try:
        events = speech.whole(answer)
    except ValueError:
        raise UpstreamBroken(model=call.model, why="the answer is not what it should be") from None
    usage = None
    for event in events:
        if isinstance(event, Failed):
            message = told(event, reply.deployment.secret)
            raise UpstreamRefused(
                502, status=reply.answer.status, model=call.model, message=message
            )
        if isinstance(event, Counted):
            usage = event.usage
    return events, usage or estimate(call, len(words(events)), NOTHING)


def words(events: Sequence[Event]) -> bytes:
    return "".join(event.text for event in events if isinstance(event, PIECES)).encode()


def said(call: Call, events: Sequence[Event], usage: Usage) -> bytes:
    """The answer as its client reads it."""
    return client_of(call.dialect).writer(call.rid, call.model, call.fields).whole(events, usage)
