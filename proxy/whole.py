"""A whole answer that has to be said in another dialect. Pure."""

from proxy.dialects.clients import client_of
from proxy.dialects.events import Counted, Failed
from proxy.errors import UpstreamBroken, UpstreamRefused
from proxy.estimates import estimate
from proxy.pricing import NOTHING
from proxy.types import Call, Usage
from proxy.upstream import Reply
from proxy.ways import PIECES, told


def translated(reply: Reply, call: Call, answer: bytes) -> tuple[bytes, Usage]:
    """The answer as its client reads it, and what it used; raises where it is an error."""
    speech = reply.adapter.speech
    assert speech is not None
    try:
        events = speech.whole(answer)
    except ValueError:
        raise UpstreamBroken(model=call.model, why="the answer is not what it should be") from None
    usage, size = None, 0
    for event in events:
        if isinstance(event, Failed):
            message = told(event, reply.deployment.secret)
            raise UpstreamRefused(
                502, status=reply.answer.status, model=call.model, message=message
            )
        if isinstance(event, Counted):
            usage = event.usage
        elif isinstance(event, PIECES):
            size += len(event.text.encode())
    used = usage or estimate(call, size, NOTHING)
    writer = client_of(call.dialect).writer(call.rid, call.model, call.fields)
    return writer.whole(events, used), used
