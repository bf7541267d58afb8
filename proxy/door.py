"""The door's routes: which path is served by what. Knows no socket and no framing."""

from collections.abc import Callable
from functools import lru_cache
from urllib.parse import unquote

import orjson

from proxy import errors, limits
from proxy.callers import credential
from proxy.errors import (
    BodyEncoded,
    BodyTooLarge,
    MethodNotAllowed,
    NotReady,
    OpsError,
    RouteNotFound,
)
from proxy.flow import Flow
from proxy.models import listing, one
from proxy.request import job_of
from proxy.rules import ADDRESSES_KEPT, client_of, forbidden, is_within
from proxy.serve.request import Request
from proxy.serve.turn import Turn
from proxy.types import Caller

CHAT = frozenset({"/v1/chat/completions", "/api/v1/llm/chat/completions"})
MODELS, CATALOGUE, CATEGORIES = "/v1/models", "/api/v1/llm/models", "/api/v1/llm/models/categorized"
MODEL = "/v1/models/"
LIMITS = "/v1/me/limits"
ERRORS = errors.PAGES
HEALTH = frozenset({"/healthz", "/readyz"})
READ = HEALTH | {MODELS, CATALOGUE, CATEGORIES, LIMITS}
JSON = ((b"content-type", b"application/json"),)
TEXT = ((b"content-type", b"text/plain; charset=utf-8"),)


class Door:
    """What one worker serves."""

    def __init__(self, flow: Flow, is_ready: Callable[[], bool]) -> None:
        self.flow = flow
        self._is_ready = is_ready
        self._proxies = flow.settings.proxies
        self._is_proxy = lru_cache(ADDRESSES_KEPT)(self._is_trusted)

    def check(self, request: Request) -> None:
        """What a head alone tells, so that a body need not come for nothing."""
        path, headers = request.path, request.headers
        if path in CHAT:
            _allow(request, b"POST")
        elif path in READ or path.startswith((MODEL, ERRORS)):
            _allow(request, b"GET")
        else:
            raise RouteNotFound
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise BodyEncoded
        length, limit = headers.get(b"content-length"), self.flow.settings.body_max_bytes
        if length is not None and int(length) > limit:
            raise BodyTooLarge(limit=limit)

    async def serve(self, request: Request, turn: Turn) -> None:
        metrics = self.flow.metrics
        metrics.add(metrics.running)
        try:
            if request.path in CHAT and request.method == b"POST":
                client = self._client(request)
                await self.flow.chat(request.path, request.headers, request.body, turn, client)
            else:
                await self._others(request, turn)
        except OpsError as problem:
            metrics.error(problem.code)
            turn.fail(problem)
        finally:
            metrics.add(metrics.running, -1)

    async def _others(self, request: Request, turn: Turn) -> None:
        self.check(request)
        if request.path in HEALTH:
            if request.path == "/readyz" and not self._is_ready():
                raise NotReady
            await turn.answer(200, JSON, b'{"status":"ok"}')
        elif request.path.startswith(ERRORS):
            await turn.answer(200, TEXT, _explained(request.path.removeprefix(ERRORS)))
        elif request.path == LIMITS:
            await self._limits(request, turn)
        else:
            await self._models(request, turn)

    async def _limits(self, request: Request, turn: Turn) -> None:
        """Every limit that applies to this key, and to the job that X-Job-Id names."""
        admission, headers = self.flow.admission, request.headers
        client = self._client(request)
        caller = await admission.identify(credential(headers), client)
        levels = await admission.levels(caller, job_of(headers), client)
        body = orjson.dumps(limits.listing(levels))
        await turn.answer(200, [*JSON, (b"cache-control", b"no-store")], body)

    async def _caller(self, request: Request) -> Caller:
        """Who asks for what costs nothing, as his key is now."""
        admission, client = self.flow.admission, self._client(request)
        known = await admission.identify(credential(request.headers), client)
        caller = await admission.check(known)
        if problem := forbidden(caller.key, request.path, client, None):
            raise problem
        return caller

    def _client(self, request: Request) -> str:
        """Its address; what it says of itself counts only where a proxy is trusted."""
        if not self._proxies:
            return request.peer
        forwarded = request.headers.get(b"x-forwarded-for", b"").decode("latin-1")
        return client_of(request.peer, forwarded, self._is_proxy)

    def _is_trusted(self, address: str) -> bool:
        return is_within(address, self._proxies)

    async def _models(self, request: Request, turn: Turn) -> None:
        path, flow = request.path, self.flow
        allowed = None
        if path != CATALOGUE or not flow.settings.public_catalogue:
            allowed = (await self._caller(request)).key.models
        snapshot = flow.current.in_force()
        if path in (MODELS, CATALOGUE):
            found = listing(snapshot, allowed)
        elif path == CATEGORIES:
            found = {"byok": listing(snapshot, frozenset()), "platform": listing(snapshot, allowed)}
        else:
            found = one(unquote(path.removeprefix(MODEL)), snapshot, allowed)
        await turn.answer(200, JSON, orjson.dumps(found))


def _explained(code: str) -> bytes:
    page = errors.explained(code)
    if page is None:
        raise RouteNotFound
    return page.encode()


def _allow(request: Request, allowed: bytes) -> None:
    method = request.method
    if method != allowed and not (method == b"HEAD" and allowed == b"GET"):
        raise MethodNotAllowed(method=method.decode(), allowed=allowed.decode())
