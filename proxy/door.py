"""The door's routes: which path is served by what. Knows no socket and no framing."""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final
from urllib.parse import unquote

import orjson

from proxy import errors, route
from proxy.bounds import limits
from proxy.costs import quote
from proxy.costs.hold import allowed
from proxy.errors import (
    BodyEncoded,
    BodyTooLarge,
    FieldInvalid,
    MethodNotAllowed,
    NotReady,
    OpsError,
    RouteNotFound,
)
from proxy.fields import model_of
from proxy.flow import Flow
from proxy.kept.wish import read as wish_of
from proxy.models import anthropics_one, listing, one, page
from proxy.request import credential, end_user_of, job_of, read_object
from proxy.request import read as call_of
from proxy.serve.request import Request
from proxy.serve.turn import Turn
from proxy.served import BY_PATH, KEPT_BY_PATH, SERVED, Served
from proxy.types import Caller, Model, Snapshot
from proxy.who.rules import ADDRESSES_KEPT, client_of, forbidden, is_within

MODELS, CATALOGUE, CATEGORIES = "/v1/models", "/api/v1/llm/models", "/api/v1/llm/models/categorized"
LIMITS = "/v1/me/limits"
ESTIMATES = ("/v1/estimate", "/api/v1/llm/estimate")
RECKONED = "it only reckons; nothing is sent"
JSON = ((b"content-type", b"application/json"),)
TEXT = ((b"content-type", b"text/plain; charset=utf-8"),)

Serve = Callable[["Door", Request, Turn], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Route:
    """What is served at a path, or at all that begin with it: below admission with its meter, or
    by the door alone, and then it says why it costs nothing."""

    path: str  # one that ends with / stands for all that begin so
    methods: tuple[bytes, ...]
    served: Served | None = None
    serve: Serve | None = None
    free: str = ""

    @property
    def kept(self) -> bool:
        """What a provider keeps, and no call of a model."""
        return self.path in KEPT_BY_PATH

    def __post_init__(self) -> None:
        metered, alone = self.served is not None, self.serve is not None and bool(self.free)
        if metered == alone:
            raise ValueError(f"{self.path} needs a meter, or has to say why it costs nothing")


class Door:
    """What one worker serves."""

    def __init__(self, flow: Flow, is_ready: Callable[[], bool]) -> None:
        self.flow = flow
        self._is_ready = is_ready
        self._proxies = flow.settings.proxies
        self._catalogue = (0, b"")  # of which snapshot, and its public list
        self._is_proxy = lru_cache(ADDRESSES_KEPT)(self._is_trusted)

    def check(self, request: Request) -> None:
        """What a head alone tells, so that a body need not come for nothing."""
        headers = request.headers
        _allow(request, route_of(request.path).methods)
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise BodyEncoded
        length, limit = headers.get(b"content-length"), self.flow.settings.body_max_bytes
        if length is not None and int(length) > limit:
            raise BodyTooLarge(limit=limit)

    async def serve(self, request: Request, turn: Turn) -> None:
        metrics = self.flow.metrics
        metrics.add(metrics.running)
        try:
            served = BY_PATH.get(request.path)
            if served is not None and request.method == b"POST":
                client, headers = self._client(request), request.headers
                await self.flow.serve(served, request.path, headers, request.body, turn, client)
            else:
                self.check(request)
                await self._beside(route_of(request.path), request, turn)
        except OpsError as problem:
            metrics.error(problem.code)
            turn.fail(problem)
        finally:
            metrics.add(metrics.running, -1)

    async def _beside(self, route: Route, request: Request, turn: Turn) -> None:
        """What is no call of a model: the door's own, and what providers keep."""
        if route.serve is not None:
            return await route.serve(self, request, turn)
        served, path, body, headers = route.served, request.path, request.body, request.headers
        assert served is not None
        told = (request.method, path, request.query, headers, body, self.flow.settings)
        wish, client = partial(wish_of, served, *told), self._client(request)
        await self.flow.serve(served, path, headers, body, turn, client, wish)

    async def _health(self, request: Request, turn: Turn) -> None:
        if request.path == "/readyz" and not self._is_ready():
            raise NotReady
        await turn.answer(200, JSON, b'{"status":"ok"}')

    async def _errors(self, request: Request, turn: Turn) -> None:
        await turn.answer(200, TEXT, _explained(request.path.removeprefix(errors.PAGES)))

    async def _limits(self, request: Request, turn: Turn) -> None:
        """Every limit that applies to this key, to the job that X-Job-Id names and to the end user
        that X-End-User does."""
        admission, headers = self.flow.admission, request.headers
        client = self._client(request)
        caller = await admission.identify(credential(headers), client)
        named = job_of(headers), client, end_user_of(headers)
        levels = await admission.levels(caller, *named)
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

    async def _estimate(self, request: Request, turn: Turn) -> None:
        """What the same body would cost as a call; `kind` names another one than a conversation."""
        caller, settings = await self._caller(request), self.flow.settings
        fields = read_object(request.body, settings)
        model = route.find(model_of(fields), self.flow.current.in_force())
        if problem := forbidden(caller.key, None, self._client(request), model):
            raise problem
        served = _of_kind(fields.get("kind", "chat"))
        if route.goes_by_own(model, caller):
            found = quote.by_own_key(model, served.kind)
        elif "estimated_tokens" in fields:
            price = route.price_of(model)
            found = quote.of_tokens(fields["estimated_tokens"], model, price)
        else:
            read = (served, "", request.path, request.body, settings, request.headers)
            call, price = call_of(*read), route.price_of(model, served.kind)
            call = allowed(call, model, price, settings.slice_tokens)
            found = quote.of_call(call, model, price, settings)
        await turn.answer(200, JSON, orjson.dumps(found))

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
        if path == CATALOGUE and flow.settings.public_catalogue:
            body = self._listed(flow.current.in_force())
        else:
            caller, snapshot = await self._caller(request), flow.current.in_force()
            if path.startswith(MODELS) and b"anthropic-version" in request.headers:
                found = _anthropics_models_of(caller, path, request.query, snapshot)
            else:
                found = _models_of(caller, path, snapshot)
            body = orjson.dumps(found)
        await turn.answer(200, JSON, body)

    def _listed(self, snapshot: Snapshot) -> bytes:
        """What everybody may ask for is written once: of many models it takes a while."""
        version, body = self._catalogue
        if version != snapshot.version or not body:
            body = orjson.dumps(listing(snapshot, None))
            self._catalogue = (snapshot.version, body)
        return body


def _models_of(caller: Caller, path: str, snapshot: Snapshot) -> Mapping[str, Any]:
    """Those that he may use and can have: by keys of his own, or by the platform's."""
    allowed = caller.key.models
    if path in (MODELS, CATALOGUE):
        return listing(snapshot, allowed, lambda model: route.is_served(model, caller))
    if path != CATEGORIES:
        return one(unquote(path.removeprefix(MODELS + "/")), snapshot, allowed)

    def of_platform(model: Model) -> bool:
        return bool(model.deployments) and not route.goes_by_own(model, caller)

    return {
        "byok": listing(snapshot, allowed, lambda model: route.goes_by_own(model, caller)),
        "platform": listing(snapshot, allowed, of_platform),
    }


def _anthropics_models_of(
    caller: Caller, path: str, query: bytes, snapshot: Snapshot
) -> Mapping[str, Any]:
    """The same models, as its clients read them."""
    allowed = caller.key.models
    if path != MODELS:
        return anthropics_one(unquote(path.removeprefix(MODELS + "/")), snapshot, allowed)
    return page(snapshot, allowed, lambda model: route.is_served(model, caller), query)


_ALONE = (
    ("/healthz", Door._health, "it looks at this process alone"),
    ("/readyz", Door._health, "it looks at this process alone"),
    (errors.PAGES, Door._errors, "it explains a code"),
    (LIMITS, Door._limits, "it reads counts"),
    (MODELS, Door._models, "it lists what is known here"),
    (MODELS + "/", Door._models, "it lists what is known here"),
    (CATALOGUE, Door._models, "it lists what is known here"),
    (CATEGORIES, Door._models, "it lists what is known here"),
)
#: Everything that the door serves.
ROUTES: Final[Mapping[str, Route]] = {
    route.path: route
    for route in (
        *(Route(path, one.methods, one) for path, one in [*BY_PATH.items(), *KEPT_BY_PATH.items()]),
        *(Route(path, (b"GET",), serve=serve, free=why) for path, serve, why in _ALONE),
        *(Route(path, (b"POST",), serve=Door._estimate, free=RECKONED) for path in ESTIMATES),
    )
}
_BEGINNINGS: Final = tuple(path for path in ROUTES if path.endswith("/"))


def route_of(path: str) -> Route:
    route = ROUTES.get(path)
    if route is None:
        begins = next((one for one in _BEGINNINGS if path.startswith(one)), "")
        route = ROUTES.get(begins)
    if route is None:
        raise RouteNotFound
    return route


def _of_kind(kind: object) -> Served:
    """How a body of such a call is read, where it is no form."""
    for served in SERVED:
        if served.kind == kind and not served.form and not served.free:
            return served
    kinds = ", ".join(dict.fromkeys(one.kind for one in SERVED if not one.form))
    raise FieldInvalid("kind", name="kind", why=f"it takes one of {kinds}")


def _explained(code: str) -> bytes:
    page = errors.explained(code)
    if page is None:
        raise RouteNotFound
    return page.encode()


def _allow(request: Request, allowed: tuple[bytes, ...]) -> None:
    method = b"GET" if request.method == b"HEAD" else request.method
    if method not in allowed:
        listed = b", ".join(allowed).decode()
        raise MethodNotAllowed(method=request.method.decode(), allowed=listed)
