"""What stands before every request of the control API: which host, how large, how JSON is written.

Knows no route and no caller; adds the request id and the security headers to every answer.
"""

import json
import logging
from collections.abc import Iterable
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control import cookies
from control.errors import HostUnknown
from control.rates import RATES, TOLD, UNCOUNTED, Rates
from control.settings import ControlSettings
from control.state import LOCAL, Counters
from proxy.errors import BodyCut, BodyEncoded, BodyInvalid, BodyTooDeep, BodyTooLarge, OpsError
from proxy.ids import request_id
from proxy.who.rules import client_of, is_within

log = logging.getLogger("opscenter.control.edge")

REQUEST_ID: Final = "opscenter.request_id"  # in an ASGI scope
JSON_DEPTH_MAX: Final = 64
CREDENTIALS: Final = frozenset({"authorization", "x-service-key"})
HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def rendered(error: OpsError, request: str) -> Response:
    """An error as every client of Ops-Center knows it."""
    return JSONResponse({"error": error.shape(request)}, error.status, dict(error.fields()))


def address(connection: HTTPConnection, settings: ControlSettings) -> str:
    """The client's address: what a trusted proxy says, else who is at the other end."""
    peer = connection.client.host if connection.client else "local"
    forwarded = ",".join(connection.headers.getlist("x-forwarded-for"))
    return client_of(peer, forwarded, lambda one: is_within(one, settings.proxies))


def _shows(connection: HTTPConnection) -> bool:
    """Something that may say who he is."""
    return not CREDENTIALS.isdisjoint(connection.headers) or cookies.NAME in connection.cookies


class Edge:
    """The outermost application; one per process, whatever is swapped behind it."""

    def __init__(self, app: ASGIApp, settings: ControlSettings, counters: Counters) -> None:
        self._app = app
        self._hosts = settings.hosts
        self._body_max = settings.control_body_max_bytes
        self._counters = counters
        self._settings = settings
        self._rates = Rates(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise AssertionError(f"uvicorn was told to serve HTTP only, not {scope['type']}")
        scope[REQUEST_ID] = request_id()
        scope[RATES], scope[TOLD] = self._rates, []
        answer = _Answer(send, scope, self._counters)
        self._counters.running += 1
        try:
            await self._serve(scope, receive, answer)
        except OpsError as error:
            await answer.instead(rendered(error, scope[REQUEST_ID]), scope, receive)
        except Exception:
            log.exception("request %s failed", scope[REQUEST_ID])
            await answer.instead(rendered(OpsError(), scope[REQUEST_ID]), scope, receive)
        finally:
            self._counters.running -= 1

    async def _serve(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        headers = Headers(scope=scope)
        if not scope.get(LOCAL) and _host_name(headers.get("host", "")) not in self._hosts:
            raise HostUnknown
        self._count(scope)
        body = await self._body(headers, receive)
        if _is_json(headers) and body:
            check_json(body)
        await self._app(scope, _Replay(body, receive), answer)

    def _count(self, scope: Scope) -> None:
        """Whoever shows nothing counts on his address; others are counted when they are known."""
        connection = HTTPConnection(scope)
        if not scope.get(LOCAL) and scope["path"] not in UNCOUNTED and not _shows(connection):
            scope[TOLD] += self._rates.of_address(address(connection, self._settings))

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """Whole, because it is small, is hashed for repetitions and is checked before use."""
        if headers.get("content-encoding", "identity") != "identity":
            raise BodyEncoded
        announced = headers.get("content-length", "0")
        if announced.isdigit() and int(announced[:18]) > self._body_max:
            raise BodyTooLarge(limit=self._body_max)
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise BodyCut
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._body_max:
                raise BodyTooLarge(limit=self._body_max)
            if not message.get("more_body"):
                return b"".join(parts)


class _Replay:
    """Gives the body that was read once, then what the connection has to say."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class _Answer:
    """Sends, and notes whether the head is out already."""

    def __init__(self, send: Send, scope: Scope, counters: Counters) -> None:
        self._send = send
        self._request = scope[REQUEST_ID]
        self._told = scope[TOLD]
        self._counters = counters
        self._begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            self._counters.answered(message["status"])
            headers = MutableHeaders(scope=message)
            headers["x-ops-request-id"] = self._request
            for name, value in self._told:
                headers[name] = value
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)

    async def instead(self, response: Response, scope: Scope, receive: Receive) -> None:
        if not self._begun:
            await response(scope, receive, self)


# JSON ---------------------------------------------------------------------------


def check_json(body: bytes) -> None:
    """Refuses what readers understand differently: doubled names, NaN, deep nesting."""
    try:
        value = json.loads(body, object_pairs_hook=_once, parse_constant=_no_constant)
    except RecursionError:
        raise BodyTooDeep(limit=JSON_DEPTH_MAX) from None
    except (ValueError, UnicodeDecodeError) as problem:
        raise BodyInvalid(why=str(problem)[:200]) from None
    if _deeper(value, JSON_DEPTH_MAX):
        raise BodyTooDeep(limit=JSON_DEPTH_MAX)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return made


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no number in JSON")


def _deeper(value: object, levels: int) -> bool:
    below: list[object] = [value]
    for _ in range(levels):
        below = [child for one in below for child in _children(one)]
        if not below:
            return False
    return True


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _is_json(headers: Headers) -> bool:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def _host_name(host: str) -> str:
    """Without the port; an IPv6 address keeps its brackets."""
    host = host.strip().lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].removesuffix(".")
