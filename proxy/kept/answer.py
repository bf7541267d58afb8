"""What a client is answered about files and batches: one thing, a list, or a file as it is kept."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

from proxy import answers
from proxy.answers import Exchange
from proxy.errors import OpsError, UpstreamTimeout
from proxy.kept import accounts
from proxy.kept.told import Told
from proxy.reach.incoming import Waits
from proxy.relay import Room
from proxy.settings import Settings
from proxy.settle import Settler
from proxy.types import Call, Deployment, Outcome, Ticket
from proxy.upstream import Reply

Ask = Callable[[Call, Sequence[Deployment], Outcome], Awaitable[Reply]]
FREE = "free", True  # costs nothing, and yet counts as a call
BYTES = b"application/octet-stream"  # whatever it is: nobody's browser is to run it
PLAIN = (b"x-content-type-options", b"nosniff")


async def asked(told: Told, call: Call, ticket: Ticket, outcome: Outcome, ask: Ask) -> Reply:
    """Of the place that was found and of no other."""
    accounts.check(told.place, ticket.caller, ticket.deployments)
    accounts.require_credits(told.place, told.wish, ticket.left_ucr)
    places = (told.place.deployment,)
    if told.looked_at:
        reply = await ask(replace(call, method=b"GET", target=told.looked_at), places, outcome)
        try:
            told.look(await reply.whole())
        finally:
            reply.answer.close()
    return await ask(call, places, outcome)


async def kept(
    told: Told,
    reply: Reply,
    call: Call,
    ticket: Ticket,
    outcome: Outcome,
    exchange: Exchange,
    ask: Ask,
    settler: Settler,
) -> None:
    """`ask` is for the further pages of a list."""
    headers = answers.headers(reply, call, outcome) + answers.rate_headers(ticket, 0)
    if told.wish.verb == "content":
        await exchange.head(reply.answer.status, [*_typed(headers, BYTES), PLAIN])
        await _poured(reply, exchange)
        outcome.reason, outcome.counts = FREE
        return
    body = await reply.whole()
    if told.wish.verb == "list":
        answer = await _listed(told, body, call, outcome, ask, reply.settings)
    else:
        answer = told.answer(body)
        if told.spent_as:
            _book(told.spent_as, reply, body, call, ticket, settler)
    outcome.reason, outcome.counts = FREE
    headers = _typed(headers, answers.JSON[1]) + answers.cost_headers(ticket, 0)
    await exchange.answer(200, headers, answer)


def _typed(headers: answers.Headers, media_type: bytes) -> answers.Headers:
    name = answers.JSON[0]
    return [*(row for row in headers if row[0] != name), (name, media_type)]


async def _listed(
    told: Told, body: bytes, call: Call, outcome: Outcome, ask: Ask, settings: Settings
) -> bytes:
    """Others' things lie in the same account: pages are read until there are enough, all together
    within the size and the time of one answer."""
    size, places = len(body), (told.place.deployment,)
    try:
        async with asyncio.timeout(settings.total_timeout_ms / 1000):
            while target := told.page(body):
                reply = await ask(replace(call, target=target), places, outcome)
                try:
                    body = await reply.whole(size)
                finally:
                    reply.answer.close()
                size += len(body)
    except TimeoutError:
        raise UpstreamTimeout(model=told.place.model.id, phase="all pages of the list") from None
    return told.listed()


async def _poured(reply: Reply, exchange: Exchange) -> None:
    """As it comes, no faster than the client takes it; broken off, its connection ends too."""
    exchange.fail = _nothing
    send = exchange.chunk

    def step(piece: bytes) -> Waits:
        room = send(piece)
        return None if room is None else partial(_wait, room)

    await reply.pour(step)
    await exchange.end(b"")


def _nothing(problem: OpsError) -> bytes | None:
    """There is no place for an error in the middle of a file."""
    return None


async def _wait(room: Room) -> None:
    if room is not None:
        await room


def _book(
    rid: str, reply: Reply, body: bytes, call: Call, ticket: Ticket, settler: Settler
) -> None:
    """What a batch has used, under an id of its own: the ledger has it once, however often and by
    whomever it is asked for."""
    usage, task = reply.adapter.usage(body), asyncio.current_task()
    if usage is None or task is None or reply.deployment.own is None:
        return
    spent = Outcome("settled", "batch", usage, reply.deployment)
    settler.begin(of_batch := replace(ticket, rid=rid), call, spent, task)
    settler.finish(of_batch, spent, time.perf_counter_ns())
