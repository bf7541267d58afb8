"""What a client reads from us: headers, errors, the cost at the end of a stream. Money in them is
credits; every header of ours begins with `x-ops-`.
"""

import time
from collections.abc import Callable, Mapping
from functools import lru_cache

from proxy import relay
from proxy.bounds import rates
from proxy.costs.charge import BYOK
from proxy.costs.pricing import credits_text
from proxy.dialects.base import ClientDialect
from proxy.dialects.clients import client_of
from proxy.errors import ClientGone, OpsError
from proxy.metrics import Metrics
from proxy.relay import Downstream
from proxy.request import NO_HEADERS
from proxy.served import DIALECTS
from proxy.types import NO_USAGE, Call, Outcome, Ticket
from proxy.upstream import Reply

JSON = (b"content-type", b"application/json")
SSE = b"text/event-stream; charset=utf-8"
CHAT = client_of("chat")
Headers = list[tuple[bytes, bytes]]
DEPLOYMENTS_KEPT = 4096  # whose headers are kept ready


class Exchange:
    """One request and its answer, of which a part may already have gone out."""

    __slots__ = ("_begun", "_client", "_down", "_ended", "_metrics", "chunk", "fail", "rid")
    #: an error in the middle of a stream; a method of its own would make each request garbage
    #: that only the collector finds
    fail: Callable[[OpsError], bytes | None] | None

    def __init__(
        self, rid: str, down: Downstream, metrics: Metrics, client: ClientDialect = CHAT
    ) -> None:
        self.rid = rid
        self._client = client
        self.chunk = down.chunk  # nothing stands between a stream and its client
        self._down = down
        self._metrics = metrics
        self._begun = self._ended = False
        self.fail = None

    async def answer(self, status: int, headers: relay.Headers, body: bytes) -> None:
        self._begun = self._ended = True
        await self._down.answer(status, self._with_id(headers), body)

    async def head(self, status: int, headers: relay.Headers) -> None:
        self._begun = True
        await self._down.head(status, self._with_id(headers))

    async def end(self, last: bytes) -> None:
        self._ended = True
        await self._down.end(last)

    @property
    def gone(self) -> bool:
        return self._down.gone

    async def refuse(self, problem: OpsError) -> None:
        """The error as an answer, or as the last event of a stream that has begun."""
        self._metrics.error(problem.code)
        if isinstance(problem, ClientGone) or self._ended:
            return
        if not self._begun:
            body = self._client.error(problem, self.rid)
            await self.answer(problem.status, error_headers(problem), body)
        elif (last := (self.fail or self._no_stream)(problem)) is not None:
            await self.end(last)

    def _no_stream(self, problem: OpsError) -> bytes | None:
        return self._client.writer(self.rid, "", {}).fail(problem, NO_USAGE)

    def _with_id(self, headers: relay.Headers) -> Headers:
        rid = self.rid.encode()
        named = [(b"x-ops-request-id", rid), (b"x-request-id", rid)]
        if self._client.name == "messages":
            named.append((b"request-id", rid))  # where Anthropic's SDKs look for it
        return [*headers, *named]


def error_body(
    problem: OpsError, rid: str, path: str = "", headers: Mapping[bytes, bytes] = NO_HEADERS
) -> bytes:
    """As the clients of this path read errors, and at no such path, Anthropic's by their header."""
    other = "messages" if b"anthropic-version" in headers else "chat"
    return client_of(DIALECTS.get(path, other)).error(problem, rid)


def error_headers(problem: OpsError) -> Headers:
    return [JSON, *((name.encode(), value.encode("latin-1")) for name, value in problem.fields())]


def headers(reply: Reply, call: Call, outcome: Outcome) -> Headers:
    """Who answered, how many were asked, and the maximum where the credits lowered it."""
    lowered, at = call.lowered_to, reply.deployment
    who = _who(at.model, at.provider, at.id, at.own is not None, outcome.attempts)
    told = [(b"content-type", _content_type(reply)), *who]
    return told if lowered is None else [(b"x-ops-max-tokens", b"%d" % lowered), *told]


def _content_type(reply: Reply) -> bytes:
    """The provider's own only where its bytes are."""
    if reply.is_native:
        return reply.content_type
    return SSE if reply.is_stream else JSON[1]


@lru_cache(maxsize=DEPLOYMENTS_KEPT)
def _who(
    model: str, provider: str, deployment: int, own: bool, attempts: int
) -> tuple[tuple[bytes, bytes], ...]:
    return (
        (b"x-ops-model", model.encode()),
        (b"x-ops-provider", provider.encode()),
        (b"x-ops-deployment", b"%d" % deployment),
        *([(b"x-ops-mode", BYOK.encode())] if own else []),
        (b"x-ops-attempts", b"%d" % attempts),
    )


def cost_headers(ticket: Ticket, cost: int) -> Headers:
    return [
        (b"x-ops-cost", credits_text(cost).encode()),
        (b"x-ops-credits-left", credits_text(_left(ticket, cost)).encode()),
    ]


def rate_headers(ticket: Ticket, tokens: int | None = None) -> Headers:
    """What is left of limits of requests and of tokens; of a plain answer as its usage leaves it,
    of a stream as its head goes out."""
    standing = ticket.standing
    if not standing.counting:
        return []
    spare = [0] * len(ticket.left)
    if tokens is not None:
        for nth in standing.counting:
            if standing.meters[nth].unit == "tok":
                spare[nth] = ticket.amounts[nth] - tokens
    now_ms = time.time_ns() // 1_000_000
    fields = rates.answered(standing, ticket.left, spare, now_ms)
    return [(name.encode(), value.encode()) for name, value in fields]


def hold_headers(ticket: Ticket) -> Headers:
    """A stream's cost is not known when its head goes out."""
    return [
        (b"x-ops-held", credits_text(ticket.held_ucr).encode()),
        (b"x-ops-credits-left", credits_text(ticket.left_ucr).encode()),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
    ]


def cost_comment(ticket: Ticket, cost: int) -> bytes:
    """A comment after the last event: clients that do not know it pass over it."""
    left = credits_text(_left(ticket, cost))
    return f": x-ops-cost={credits_text(cost)} x-ops-credits-left={left}\n\n".encode()


def _left(ticket: Ticket, cost: int) -> int:
    return ticket.left_ucr + ticket.held_ucr - cost
