"""The door's routes: which path is served by what. Knows no socket and no framing."""

from collections.abc import Callable
from urllib.parse import unquote

import orjson

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
from proxy.serve.request import Request
from proxy.serve.turn import Turn

CHAT = frozenset({"/v1/chat/completions", "/api/v1/llm/chat/completions"})
MODELS, CATALOGUE, CATEGORIES = "/v1/models", "/api/v1/llm/models", "/api/v1/llm/models/categorized"
MODEL = "/v1/models/"
HEALTH = frozenset({"/healthz", "/readyz"})
JSON = ((b"content-type", b"application/json"),)


class Door:
    """What one worker serves."""

    def __init__(self, flow: Flow, is_ready: Callable[[], bool]) -> None:
        self.flow = flow
        self._is_ready = is_ready

    def check(self, request: Request) -> None:
        """What a head alone tells, so that a body need not come for nothing."""
        path, headers = request.path, request.headers
        if path in CHAT:
            _allow(request, b"POST")
        elif path in (MODELS, CATALOGUE, CATEGORIES) or path.startswith(MODEL) or path in HEALTH:
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
                await self.flow.chat(request.path, request.headers, request.body, turn)
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
        else:
            await self._models(request, turn)

    async def _models(self, request: Request, turn: Turn) -> None:
        path, flow = request.path, self.flow
        allowed = None
        if path != CATALOGUE or not flow.settings.public_catalogue:
            caller = await flow.admission.identify(request.headers.get(b"authorization"))
            allowed = (await flow.admission.check(caller)).key.models
        snapshot = flow.current.in_force()
        if path in (MODELS, CATALOGUE):
            found = listing(snapshot, allowed)
        elif path == CATEGORIES:
            found = {"byok": listing(snapshot, frozenset()), "platform": listing(snapshot, allowed)}
        else:
            found = one(unquote(path.removeprefix(MODEL)), snapshot, allowed)
        await turn.answer(200, JSON, orjson.dumps(found))


def _allow(request: Request, allowed: bytes) -> None:
    method = request.method
    if method != allowed and not (method == b"HEAD" and allowed == b"GET"):
        raise MethodNotAllowed(method=method.decode(), allowed=allowed.decode())
