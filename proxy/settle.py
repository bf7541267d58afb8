"""Settle: usage times price, the rest of the hold given back. Never raises into an answer, never
makes a client wait, cannot be cancelled by one.

The journal is written first; whatever happens to Redis, the settlement is sent again until the
ledger is known to have it.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial

import orjson

from proxy.costs.charge import BYOK, is_own, total_ucr
from proxy.costs.hold import more_ucr
from proxy.costs.price import tokens_cached, tokens_in_and_out
from proxy.costs.pricing import unpriced
from proxy.errors import ClientGone, NotReady
from proxy.machine.again import send_again
from proxy.machine.heir import FIRST_ID, Heir
from proxy.machine.journal import Admitted, Journal, JournalError, Used
from proxy.machine.keep import Keeper, Running, so_far
from proxy.metrics import Metrics
from proxy.redis.pipe import RedisDown, Reply
from proxy.redis.replies import Renewal
from proxy.redis.shards import SendAgain, SettleCall, Shards
from proxy.types import Call, Outcome, Ticket

log = logging.getLogger("opscenter.proxy.settle")

CONFIRM_POLL_S = 0.25
REDRIVE_AFTER_S = 3.0  # what the ledger has not confirmed by then is settled again
TOLD_MAX = 1_000  # pairs of a model and a class
LOOKED_AT_ONCE = 5_000  # of those that were sent first


class Settler:
    """Requests from their hold to their settlement, which is repeated until the ledger has it."""

    def __init__(
        self, shards: Shards, metrics: Metrics, journal: Journal, counts_cached: bool = True
    ) -> None:
        """`counts_cached`: whether limits of tokens count those that the provider had cached."""
        self._shards = shards
        self._metrics = metrics
        self._journal = journal
        self._counts_cached = counts_cached
        self._sending: set[asyncio.Future[Reply]] = set()
        self.keeper = Keeper(shards, metrics, journal)
        self._heir = Heir(shards, journal, self._send_again)
        self._told: set[tuple[str, str]] = set()  # what was used and has no rate
        self._sent_at: dict[str, float] = {}  # settled and not confirmed; oldest first

    @property
    def running(self) -> int:
        """Requests that hold something just now."""
        return len(self.keeper.running)

    @property
    def ready(self) -> bool:
        return not self._journal.broken and not self._journal.full

    # a request's life ------------------------------------------------------------

    def begin(
        self, ticket: Ticket, call: Call, outcome: Outcome, task: "asyncio.Task[object]"
    ) -> None:
        """Before the provider is called: this request is remembered from now on, its hold kept."""
        try:
            self._journal.admitted(ticket.rid, _admitted(ticket))
        except JournalError as problem:
            log.error("%s: nothing is admitted until it can", problem)
            raise NotReady from None
        finally:
            self.keeper.running[ticket.rid] = Running(ticket, call, outcome, task)

    def finish(self, ticket: Ticket, outcome: Outcome, started_ns: int) -> int:
        """Hands the request to the ledger; returns what it cost."""
        rid, tokens = ticket.rid, outcome.usage.tokens
        self.keeper.running.pop(rid, None)
        settled, own = outcome.kind == "settled", is_own(outcome)
        cost = total_ucr(ticket, outcome) if settled else 0
        into, out = tokens_in_and_out(tokens)
        used = Used(
            outcome.kind,
            cost,
            ticket.held_ucr + outcome.extended_ucr,
            _event(ticket, outcome, started_ns, own),
            int(settled or outcome.counts),
            into + out - self._left_out(tokens),
        )
        try:
            self._journal.used(rid, used)
        except JournalError as problem:
            log.error("%s: request %s is remembered in memory alone", problem, rid)
        metrics, cells = self._metrics, self._metrics.cells
        cells[metrics.charged] += cost
        cells[metrics.tokens] += into
        cells[metrics.tokens + 1] += out
        if not own and (missing := unpriced(tokens, ticket.price)):
            self._tell_unpriced(ticket.model.id, missing)
        known = self._journal.entries.get(rid)
        self._send(rid, known.admitted if known else _admitted(ticket), used)
        return cost

    def release(self, ticket: Ticket) -> None:
        """Gives back a hold that was taken for a client who had left."""
        outcome = Outcome(reason=ClientGone.code, counts=ClientGone.counts)
        self.finish(ticket, outcome, time.perf_counter_ns())

    async def extend(self, ticket: Ticket, call: Call, outcome: Outcome, tokens: int) -> bool:
        """Holds a stream's next slice; False where the credits do not carry it."""
        extra = more_ucr(ticket, tokens)
        row = Renewal(ticket.rid, ticket.standing.owners, so_far(ticket, call, outcome), extra)
        try:
            [answer] = await self._shards.renew(ticket.shard, [row])
        except RedisDown:
            self._metrics.add(self._metrics.redis_failures)
            raise NotReady from None
        if answer == "GONE":
            raise NotReady  # what was held is all that this stream may use
        if answer == "REVOKED":
            self.keeper.cut(ticket.rid)
        elif answer == "OK":
            outcome.extended_ucr += extra
        return answer != "FUNDS"

    async def drain(self, seconds: float) -> None:
        """Lets what is on its way arrive."""
        if self._sending:
            await asyncio.wait(list(self._sending), timeout=seconds)

    # loops ---------------------------------------------------------------------------

    async def confirm(self, ready: Callable[[], bool]) -> None:
        """Takes over from dead workers, forgets what the ledger has, repeats what it has not."""
        last = FIRST_ID
        while True:
            if ready():
                await self._heir.step()
                last = await self._hear(last)
                await self._redrive()
            await asyncio.sleep(CONFIRM_POLL_S)

    async def _hear(self, last: bytes) -> bytes:
        try:
            told = await self._shards.persisted(self._journal.instance, last)
        except RedisDown:
            return FIRST_ID  # another server may count from the beginning
        for rid in self._journal.confirmed(told.truths, told.orphans):
            self._sent_at.pop(rid, None)
        return told.last

    async def _redrive(self) -> None:
        with contextlib.suppress(JournalError):  # what is settled needs no room
            self._journal.try_again()
        before = time.monotonic() - REDRIVE_AFTER_S
        oldest = list(self._sent_at.items())[:LOOKED_AT_ONCE]
        late = [rid for rid, at in oldest if at < before]
        for rid in late:
            if rid not in self._journal.entries:  # nothing to send again
                self._sent_at.pop(rid, None)
        with contextlib.suppress(RedisDown):
            await send_again(self._shards, self._journal, self._send_again, late)

    def _send_again(self, rid: str) -> None:
        self._sent_at.pop(rid, None)  # to the end
        entry = self._journal.entries.get(rid)
        if entry is not None and entry.used is not None:
            self._send(rid, entry.admitted, entry.used)

    # sending ------------------------------------------------------------------------

    def _send(self, rid: str, admitted: Admitted, used: Used) -> None:
        call = self._shards.settle(
            admitted.shard,
            rid,
            admitted.owners,
            used.kind.encode(),
            used.cost,
            admitted.pool.encode(),
            admitted.budgets.encode(),
            used.held,
            used.event,
            used.calls,
            used.tokens,
        )
        self._sent_at[rid] = time.monotonic()
        try:
            reply = call.begin()
        except RedisDown:
            self._metrics.add(self._metrics.redis_failures)  # it is driven again later
            return
        self._sending.add(reply)
        reply.add_done_callback(partial(self._settled, call))

    def _settled(self, call: SettleCall, reply: "asyncio.Future[Reply]") -> None:
        """No task of its own: there is one of these for each request."""
        self._sending.discard(reply)
        try:
            result = call.read(reply)
        except SendAgain:
            again = asyncio.ensure_future(call.send_patiently())
            self._sending.add(again)
            again.add_done_callback(partial(self._settled, call))
        except RedisDown:
            self._metrics.add(self._metrics.redis_failures)
        else:
            self._metrics.add(self._metrics.settled + ("ok", "late", "again").index(result))

    def counted(self, outcome: Outcome) -> int:
        """Its tokens, as limits count them."""
        tokens = outcome.usage.tokens
        return sum(tokens_in_and_out(tokens)) - self._left_out(tokens)

    def _left_out(self, tokens: Mapping[str, int]) -> int:
        return 0 if self._counts_cached else tokens_cached(tokens)

    def _tell_unpriced(self, model: str, missing: list[str]) -> None:
        """Once for each model and class: an answer was charged by a stand-in, or not for this."""
        self._metrics.add(self._metrics.unpriced, len(missing))
        for name in missing:
            if (model, name) not in self._told and len(self._told) < TOLD_MAX:
                self._told.add((model, name))
                log.warning("%s was used with %s, which its price has no rate for", model, name)


def _admitted(ticket: Ticket) -> Admitted:
    standing = ticket.standing
    return Admitted(
        ticket.shard,
        standing.owners_text,
        ticket.payment.pool,
        ticket.payment.budgets,
        ticket.held_ucr,
        ticket.context,
    )


def _event(ticket: Ticket, outcome: Outcome, started_ns: int, own: bool) -> bytes:
    """All that the ledger books of a request: its context, and how it went."""
    deployment, usage = outcome.deployment, outcome.usage
    went = {
        "p": deployment.provider if deployment else "",
        "d": deployment.id if deployment else 0,
        "n": outcome.attempts,
        "t": dict(usage.tokens),
        "s": usage.source,
        "r": outcome.reason,
        "ms": (time.perf_counter_ns() - started_ns) // 1_000_000,
    }
    if own:
        went["b"] = BYOK
    if usage.tokenizer:
        went["w"] = usage.tokenizer
    return ticket.context[:-1] + b"," + orjson.dumps(went)[1:]
