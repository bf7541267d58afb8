"""The sentence: request -> admit -> route -> upstream -> relay -> settle. Errors become answers
here; each step is the file of that name.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from proxy import answers, relay, request, route
from proxy.admit import Admission
from proxy.answers import Exchange
from proxy.costs.charge import is_own, total_ucr
from proxy.costs.counting import Counting
from proxy.costs.hold import more_ucr, output_max
from proxy.dialects.clients import client_of
from proxy.errors import ClientGone, KeyInvalid, NotReady, OpsError, Stopping
from proxy.ids import request_id
from proxy.kept import accounts, answer
from proxy.kept.names import Names
from proxy.kept.told import Told
from proxy.kept.wish import Wish
from proxy.metrics import Metrics
from proxy.relay import Downstream
from proxy.served import Served
from proxy.settings import Settings
from proxy.settle import Settler
from proxy.snapshot import Current
from proxy.translate import said_anew
from proxy.types import Call, Caller, Outcome, Ticket
from proxy.upstream import Reply, Upstream

log = logging.getLogger("opscenter.proxy.flow")


@dataclass(frozen=True, slots=True)
class Flow:
    """The six steps of one worker."""

    settings: Settings
    current: Current
    admission: Admission
    upstream: Upstream
    settler: Settler
    metrics: Metrics
    counting: Counting

    async def serve(
        self,
        served: Served,
        path: str,
        headers: Mapping[bytes, bytes],
        body: bytes,
        down: Downstream,
        client: str = "",
        wish: Callable[[], Wish] | None = None,
    ) -> None:
        """One request for a provider, from its bytes to its charge. `wish` reads what is wanted of
        files and batches."""
        started_ns = time.perf_counter_ns()
        exchange = Exchange(request_id(), down, self.metrics, client_of(served.dialect))
        call: Call | None = None
        ticket: Ticket | None = None
        reply: Reply | None = None
        outcome = Outcome()
        told: Told | None = None
        try:
            caller = await self.admission.identify(request.credential(headers), client)
            if wish is not None:
                told = await self._placed(wish(), caller)
                call, model = told.call(exchange.rid, path, client, headers), told.place.model
            else:
                read = (served, exchange.rid, path, body, self.settings, headers, client)
                call = request.read(*read)
                model = route.find(call.model, self.current.in_force())
            ticket = await self.admission.admit(call, caller, model)
            call = said_anew(call, ticket)
            if ticket.lowered_to is not None:
                call = request.with_maximum(call, ticket.lowered_to)
            call.bound(ticket.input_held, output_max(call, ticket.model))
            self._begin(ticket, call, outcome)
            if told is not None:
                reply = await answer.asked(told, call, ticket, outcome, self.upstream.first)
                return await self._kept(told, reply, call, ticket, outcome, exchange)
            reply = await self.upstream.first(call, ticket.deployments, outcome)
            # a provider may answer a stream's request with one plain object
            if reply.is_stream:
                await self._stream(reply, call, ticket, outcome, exchange)
            else:
                await self._plain(reply, call, ticket, outcome, exchange)
        except OpsError as found:
            # kept under no other name: an error knows its frames, and they would know it
            await _refused(exchange, outcome, found if told is None else told.refusal(found))
        except asyncio.CancelledError:
            # what was relayed until now is charged
            await _refused(exchange, outcome, _why_cut(exchange, outcome))
        except Exception:
            log.exception("request %s failed inside Ops-Center", exchange.rid)
            outcome.reason = OpsError.code
            await exchange.refuse(OpsError())
        finally:
            if reply is not None:
                reply.answer.close()
            if ticket is not None:
                self.settler.finish(ticket, outcome, started_ns)
            self._measure(started_ns, call, reply)

    async def _plain(
        self, reply: Reply, call: Call, ticket: Ticket, outcome: Outcome, exchange: Exchange
    ) -> None:
        measure = self.counting.of(call, reply.deployment)
        body = await relay.plain(reply, call, outcome, ticket.price, measure)
        cost = total_ucr(ticket, outcome)
        headers = answers.headers(reply, call, outcome) + answers.cost_headers(ticket, cost)
        if ticket.standing.counting:
            headers += answers.rate_headers(ticket, self.settler.counted(outcome))
        await exchange.answer(reply.answer.status, headers, body)

    async def _stream(
        self, reply: Reply, call: Call, ticket: Ticket, outcome: Outcome, exchange: Exchange
    ) -> None:
        headers = answers.headers(reply, call, outcome) + answers.hold_headers(ticket)
        headers += answers.rate_headers(ticket)
        await exchange.head(reply.answer.status, headers)
        slices = _Slices(self, ticket, call, outcome)
        measure = self.counting.of(call, reply.deployment)
        last = await relay.stream(reply, call, outcome, exchange, slices, ticket.price, measure)
        if reply.is_text:
            cost = total_ucr(ticket, outcome)
            last += answers.cost_comment(ticket, cost)
        await exchange.end(last)

    async def _placed(self, wish: Wish, caller: Caller) -> Told:
        """Where it lies, or shall: by his keys as they are now, so Redis is asked for them."""
        caller, keys = await self.admission.check(caller), self.admission.keyfile
        place = accounts.find(wish, caller, self.current.in_force(), keys)
        return Told(wish, place, Names(keys, caller.key.organisation))

    async def _kept(
        self,
        told: Told,
        reply: Reply,
        call: Call,
        ticket: Ticket,
        outcome: Outcome,
        exchange: Exchange,
    ) -> None:
        ask, settler = self.upstream.first, self.settler
        await answer.kept(told, reply, call, ticket, outcome, exchange, ask, settler)

    def _begin(self, ticket: Ticket, call: Call, outcome: Outcome) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.settler.begin(ticket, call, outcome, task)

    def _measure(self, started_ns: int, call: Call | None, reply: Reply | None) -> None:
        stream = call is not None and call.stream
        self.metrics.add(self.metrics.requests + stream)
        inside_ns = time.perf_counter_ns() - started_ns - (reply.waited_ns if reply else 0)
        if not stream:
            self.metrics.overhead(inside_ns // 1000)


async def _refused(exchange: Exchange, outcome: Outcome, problem: OpsError) -> None:
    outcome.reason, outcome.counts = problem.code, problem.counts
    await exchange.refuse(problem)


def _why_cut(exchange: Exchange, outcome: Outcome) -> OpsError:
    """The key was revoked, the client left, or the worker's time to drain is over."""
    if outcome.revoked:
        return KeyInvalid()
    return ClientGone() if exchange.gone else Stopping()


class _Slices:
    """What a stream may still give out before its hold has to grow."""

    __slots__ = ("_flow", "_held", "_most", "_request", "reach")
    reach: int

    def __init__(self, flow: Flow, ticket: Ticket, call: Call, outcome: Outcome) -> None:
        self._flow = flow
        self._request = (ticket, call, outcome)
        self._held = ticket.output_held
        self._most = call.output_most
        self._look_ahead()

    async def more(self) -> bool:
        """Asked early; who is refused then uses up what he holds before he is asked again."""
        is_last_word = self.reach >= self._held
        try:
            extended = await self._flow.settler.extend(*self._request, self._next)
        except NotReady:
            if is_last_word:
                raise
            extended = False
        if extended:
            self._held += self._next
            self._look_ahead()
        else:
            self.reach = self._held
        return extended or not is_last_word

    async def refusal(self) -> OpsError:
        ticket, call, _ = self._request
        extra = more_ucr(ticket, self._next)
        return await self._flow.admission.ended(ticket, call, extra)

    @property
    def _next(self) -> int:
        return min(self._flow.settings.slice_tokens, self._most - self._held)

    def _look_ahead(self) -> None:
        """The next slice is asked for when half of this one is left; what costs nothing has one."""
        ahead = self._flow.settings.slice_tokens // 2
        grows = self._held < self._most and not is_own(self._request[2])
        self.reach = self._held - ahead if grows else sys.maxsize
