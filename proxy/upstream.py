"""Upstream: the next deployment until one gives a first byte; never a second try after that.

Foreign failures become errors of ours here, each with the words of the adapter it came from.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from proxy.dialects.clients import counted
from proxy.errors import (
    OpsError,
    OwnKeyRefused,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamKeyRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from proxy.metrics import Metrics
from proxy.providers.base import Adapter
from proxy.providers.catalog import ADAPTERS
from proxy.providers.echo import EchoAnswer
from proxy.providers.here import AnswerFromHere
from proxy.reach.http1 import Broken, Client, Exhausted, TooLate, Unreachable
from proxy.reach.incoming import Answer as FromNetwork
from proxy.reach.incoming import Step
from proxy.settings import Settings
from proxy.translate import COUNTED_HERE, body_of, is_native
from proxy.types import Call, Deployment, Outcome

KEY_STATUSES = frozenset({401, 402, 403})  # not this key, not any more, or not for this
RETRIED = frozenset({408, 429, 498, 500, 502, 503, 504, 529})
ERROR_BODY_MAX = 64 * 1024
AWAY = (Broken, Unreachable, TooLate)
STREAMS = (b"text/event-stream", b"application/x-ndjson", b"audio/", b"application/octet-stream")
BODILESS = frozenset({204, 205})  # after such a head nothing may follow
PASSED_HEADERS = frozenset({b"retry-after", b"retry-after-ms"})


class Answer(Protocol):
    """What a provider answers, from the network or from inside: a head, then pieces."""

    status: int

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]: ...

    async def read(self) -> bytes | None:
        """The next piece as it came, None at the end."""

    def close(self) -> None:
        """Stops the provider; safe at any time."""


@dataclass(slots=True)
class Reply:
    """An answer with its deployment, and how long we have waited for it."""

    answer: Answer
    adapter: Adapter
    deployment: Deployment
    settings: Settings
    waited_ns: int
    is_native: bool = True  # it is in the dialect of its client
    content_type: bytes = field(init=False)
    is_compressed: bool = field(init=False)

    def __post_init__(self) -> None:
        headers = self.answer.headers
        named = dict(headers)
        # of what is told twice the first counts
        first = named if len(named) == len(headers) else dict(reversed(headers))
        self.content_type = first.get(b"content-type", b"application/json")
        self.is_compressed = named.get(b"content-encoding", b"identity") != b"identity"

    @property
    def is_events(self) -> bool:
        return self.content_type.startswith(b"text/event-stream")

    @property
    def is_text(self) -> bool:
        """Whether its client reads events, whatever the provider's stream is of."""
        return self.is_events or not self.is_native

    @property
    def is_stream(self) -> bool:
        """Also of lines, and of sound."""
        return self.content_type.startswith(STREAMS)

    async def pour(self, step: Step) -> None:
        """Each piece to `step` as it comes; what that has to wait for comes before the next."""
        answer = self.answer
        try:
            if isinstance(answer, FromNetwork):
                return await answer.pour(step)
            while (piece := await answer.read()) is not None:
                if (waits := step(piece)) is not None:
                    await waits()
        except AWAY as problem:
            raise _ours(problem, self.deployment) from None

    async def whole(self, before: int = 0) -> bytes:
        """`before`: bytes of other answers that are kept with it."""
        return await self._read_all(self.settings.answer_max_bytes, before)

    async def error(self) -> OpsError:
        """What an answer that is no success means."""
        problem = self.problem(await self._read_all(ERROR_BODY_MAX))
        passed = [
            (n.decode(), v.decode("latin-1")) for n, v in self.answer.headers if n in PASSED_HEADERS
        ]
        told = dict(problem.headers)  # some tell in the body how long to wait
        problem.headers += tuple(row for row in passed if row[0] not in told)
        return problem

    def problem(self, body: bytes) -> OpsError:
        """The error that such a body tells of."""
        status = self.answer.status
        found = self.adapter.error(self.deployment, status, body)
        return _of_own(found, self.deployment, status)

    async def _read_all(self, limit: int, before: int = 0) -> bytes:
        pieces, size, started = [], before, time.perf_counter_ns()
        try:
            while (piece := await self.answer.read()) is not None:
                pieces.append(piece)
                size += len(piece)
                if size > limit:
                    why = f"the answer is larger than {limit} bytes"
                    raise UpstreamBroken(model=self.deployment.model, why=why)
        except AWAY as problem:
            raise _ours(problem, self.deployment) from None
        finally:
            self.waited_ns += time.perf_counter_ns() - started
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Upstream:
    def __init__(self, client: Client, settings: Settings, metrics: Metrics) -> None:
        self._client = client
        self._settings = settings
        self._metrics = metrics

    async def first(self, call: Call, deployments: Sequence[Deployment], outcome: Outcome) -> Reply:
        """The first deployment that takes the call; the last one's failure if none does."""
        assert deployments
        waited_ns = 0
        for nth, deployment in enumerate(deployments, 1):
            outcome.attempts += 1
            outcome.deployment = deployment
            self._metrics.add(self._metrics.attempts)
            started = time.perf_counter_ns()
            try:
                reply = await self._try(call, deployment, outcome)
            except (UpstreamUnreachable, UpstreamTimeout, UpstreamBroken, UpstreamBusy):
                waited_ns += time.perf_counter_ns() - started
                if nth == len(deployments):
                    raise
                continue
            waited_ns += time.perf_counter_ns() - started
            reply.waited_ns = waited_ns
            if reply.is_compressed:
                reply.answer.close()
                why = "it is compressed although that was not asked for"
                raise UpstreamBroken(model=deployment.model, why=why)
            if reply.answer.status < 300 and (
                reply.answer.status not in BODILESS or call.method == b"DELETE"
            ):
                self._metrics.first_byte(waited_ns // 1000)
                return reply
            problem: OpsError | None = None
            try:
                if reply.answer.status not in RETRIED or nth == len(deployments):
                    problem = await reply.error()
                    if nth == len(deployments) or not _stands_in(problem, deployment):
                        raise problem
            finally:
                problem = None  # it knows this frame, which would know it
                reply.answer.close()
        raise AssertionError("the last deployment returns or raises")

    async def _try(self, call: Call, deployment: Deployment, outcome: Outcome) -> Reply:
        adapter, native = ADAPTERS[deployment.adapter], is_native(deployment, call)
        answer: Answer
        if not native and call.dialect == COUNTED_HERE:
            return Reply(
                AnswerFromHere(counted(call.fields)), adapter, deployment, self._settings, 0
            )
        body = body_of(deployment, call)
        if deployment.base_url.startswith("echo:"):
            answer = EchoAnswer(body, call.rid, self._settings.echo_delay_ms)
            return Reply(answer, adapter, deployment, self._settings, 0, native)
        url = adapter.url(deployment, call)
        public = deployment.own is not None and not self._settings.byok_private
        try:
            answer = await self._client.post(
                url, adapter.headers(deployment, call), body, outcome, public, call.method
            )
        except Exhausted:
            raise UpstreamBusy(
                model=deployment.model,
                limit=self._settings.upstream_connections,
                waiting=self._client.waiting(url, public),
            ) from None
        except AWAY as problem:
            raise _ours(problem, deployment) from None
        return Reply(answer, adapter, deployment, self._settings, 0, native)


def _ours(problem: Exception, deployment: Deployment) -> OpsError:
    if isinstance(problem, TooLate):
        return _of_own(UpstreamTimeout(model=deployment.model, phase=str(problem)), deployment)
    if isinstance(problem, Unreachable):
        why = str(problem)
        return _of_own(UpstreamUnreachable(model=deployment.model, why=why), deployment)
    return _of_own(UpstreamBroken(model=deployment.model, why=str(problem)), deployment)


def _of_own(problem: OpsError, deployment: Deployment, status: int = 0) -> OpsError:
    """A failure with a key of the caller's own names it."""
    own = deployment.own
    if own is None:
        return problem
    if status in KEY_STATUSES or isinstance(problem, UpstreamKeyRefused):
        return OwnKeyRefused(name=own.name, status=status)
    problem.note = f"It was called with {own.name}, a key that was entered here for it."
    return problem


def _stands_in(problem: OpsError, deployment: Deployment) -> bool:
    """Whether the next deployment is tried although this key was refused: its owner says so."""
    return (
        isinstance(problem, OwnKeyRefused)
        and deployment.own is not None
        and deployment.own.fallback
    )
