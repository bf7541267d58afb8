"""The door's server side: ASGI in, the flow's plain values out. The only file that knows ASGI."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

import orjson

from proxy import answers
from proxy.errors import (
    BodyCut,
    BodyEncoded,
    BodyTooLarge,
    MethodNotAllowed,
    NotReady,
    OpsError,
    RouteNotFound,
)
from proxy.flow import Flow
from proxy.ids import request_id
from proxy.models import listing, one

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CHAT = frozenset({"/v1/chat/completions", "/api/v1/llm/chat/completions"})
MODELS, CATALOGUE, CATEGORIES = "/v1/models", "/api/v1/llm/models", "/api/v1/llm/models/categorized"
MODEL = "/v1/models/"
JSON = [(b"content-type", b"application/json")]


class Door:
    """The ASGI application of one worker."""

    def __init__(self, flow: Flow, is_ready: Callable[[], bool]) -> None:
        self.flow = flow
        self._is_ready = is_ready

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"  # lifespan and websockets are switched off
        down = Down(send)
        metrics = self.flow.metrics
        metrics.add(metrics.running)
        try:
            await self._route(scope, receive, down)
        except OpsError as problem:
            metrics.error(problem.code)
            rid = request_id()
            ids = [(b"x-ops-request-id", rid.encode()), (b"x-request-id", rid.encode())]
            headers = [*answers.error_headers(problem), *ids]
            await down.answer(problem.status, headers, answers.error_body(problem, rid))
        finally:
            metrics.add(metrics.running, -1)

    async def _route(self, scope: Message, receive: Receive, down: "Down") -> None:
        path, method = scope["path"], scope["method"]
        if path in CHAT:
            _allow(method, "POST")
            found = _headers(scope)
            body = await self._body(found, receive)
            await self._watched(path, found, body, receive, down)
        elif path in (MODELS, CATALOGUE, CATEGORIES) or path.startswith(MODEL):
            _allow(method, "GET")
            await self._models(scope, down)
        elif path in ("/healthz", "/readyz"):
            _allow(method, "GET")
            if path == "/readyz" and not self._is_ready():
                raise NotReady
            await down.answer(200, JSON, b'{"status":"ok"}')
        else:
            raise RouteNotFound

    async def _watched(
        self, path: str, headers: dict[bytes, bytes], body: bytes, receive: Receive, down: "Down"
    ) -> None:
        """Runs the flow and ends it when the client leaves."""
        task = asyncio.current_task()
        watcher = asyncio.create_task(_until_gone(receive, task))
        try:
            await self.flow.chat(path, headers, body, down)
        finally:
            watcher.cancel()

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        limit = self.flow.settings.body_max_bytes
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise BodyEncoded
        length = headers.get(b"content-length")
        if length is not None and int(length) > limit:
            raise BodyTooLarge(limit=limit)
        pieces, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise BodyCut
            piece = message.get("body", b"")
            size += len(piece)
            if size > limit:
                raise BodyTooLarge(limit=limit)
            pieces.append(piece)
            if not message.get("more_body"):
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _models(self, scope: Message, down: "Down") -> None:
        path, flow = scope["path"], self.flow
        allowed = None
        if path != CATALOGUE or not flow.settings.public_catalogue:
            caller = await flow.admission.identify(_headers(scope).get(b"authorization"))
            allowed = (await flow.admission.check(caller)).key.models
        snapshot = flow.current.in_force()
        if path in (MODELS, CATALOGUE):
            found = listing(snapshot, allowed)
        elif path == CATEGORIES:
            found = {"byok": listing(snapshot, frozenset()), "platform": listing(snapshot, allowed)}
        else:
            found = one(unquote(path.removeprefix(MODEL)), snapshot, allowed)
        await down.answer(200, JSON, orjson.dumps(found))


class Down:
    """ASGI's `send` as the flow's downstream."""

    __slots__ = ("_send",)

    def __init__(self, send: Send) -> None:
        self._send = send

    async def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        headers = [*headers, (b"content-length", b"%d" % len(body))]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def chunk(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive, task: "asyncio.Task[Any] | None") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    if task is not None:
        task.cancel()


def _headers(scope: Message) -> dict[bytes, bytes]:
    return dict(scope["headers"])


def _allow(method: str, allowed: str) -> None:
    if method != allowed and not (method == "HEAD" and allowed == "GET"):
        raise MethodNotAllowed(method=method[:20], allowed=allowed)
