"""Which routes of a plugin may be served: checked against the core's, run behind the fence."""

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from control.hosting.fence import Fence, PluginError
from plugins.access import AccessError, access_of
from proxy.errors import OpsError

HANDLER_S = 30.0  # one request to a route of a plugin
ROUTES_MAX = 200  # of one plugin
PREFIX = "/api/v1/"
DOOR_PREFIX = "/api/v1/llm/"  # the data plane's: such a route would never be reached

Address = tuple[str, str]  # method, path


class Misfit(Exception):
    """What a hook returned is not what it promises."""


class PluginUnavailable(OpsError):
    """The plugin {name} cannot answer just now. Try again later; an administrator sees the reason
    at /api/v1/admin/plugins."""

    status = 503
    code = "plugin_unavailable"
    retry_after_s = 30


def addresses_of(routers: Iterable[APIRouter], owner: str) -> dict[Address, str]:
    """Who answers where, for plain routers; what includes other routers is not looked into."""
    return {
        (method, route.path): owner
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }


def check(router: APIRouter, taken: Mapping[Address, str]) -> frozenset[Address]:
    """The addresses of a plugin's routes; raises unless each may be served."""
    if len(router.routes) > ROUTES_MAX:
        raise Misfit(f"It brings {len(router.routes)} routes; at most {ROUTES_MAX} are taken.")
    if router.on_startup or router.on_shutdown:
        raise Misfit("Its router has start or stop handlers; use the hooks start and stop.")
    addresses: set[Address] = set()
    for route in router.routes:
        addresses |= _checked(route, {**dict.fromkeys(addresses, "another of its own"), **taken})
    return frozenset(addresses)


def _checked(route: BaseRoute, taken: Mapping[Address, str]) -> set[Address]:
    if not isinstance(route, APIRoute) or type(route) is not APIRoute:
        raise Misfit(
            f"{route!r} is no plain HTTP route. Put every route on the one router that the hook "
            "returns; mounts, websockets, routers in routers and own classes are not taken."
        )
    if not route.path.startswith(PREFIX) or route.path.startswith(DOOR_PREFIX):
        raise Misfit(
            f"The route {route.path} lies outside {PREFIX} or inside {DOOR_PREFIX}, which is the "
            f"LLM door's. Move it below {PREFIX}."
        )
    try:
        access_of(route)
    except AccessError as problem:
        raise Misfit(str(problem)) from None
    if inspect.isgeneratorfunction(route.endpoint) or inspect.isasyncgenfunction(route.endpoint):
        raise Misfit(f"The route {route.path} yields its answer; return a StreamingResponse.")
    mine = {(method, route.path) for method in route.methods or ()}
    refuse_shadows(mine, taken)
    return mine


def refuse_shadows(addresses: Iterable[Address], taken: Mapping[Address, str]) -> None:
    """Raises when one of the addresses could be answered by somebody else."""
    for method, path in addresses:
        _refuse_shadow(method, path, taken)


def _refuse_shadow(method: str, path: str, taken: Mapping[Address, str]) -> None:
    for (other_method, other), owner in taken.items():
        if method == other_method and overlap(path, other):
            raise Misfit(
                f"The route {method} {path} shadows {other}, which is {owner}. Give it a path of "
                "its own."
            )


def overlap(one: str, other: str) -> bool:
    """Whether there is a path that both templates match."""
    ours, theirs = one.strip("/").split("/"), other.strip("/").split("/")
    for mine, its in zip(ours, theirs, strict=False):
        if _takes_rest(mine) or _takes_rest(its):
            return True
        if mine != its and "{" not in mine and "{" not in its:
            return False
    return len(ours) == len(theirs)


def _takes_rest(segment: str) -> bool:
    return ":path}" in segment


# Serving --------------------------------------------------------------------------


class Underway:
    """The handlers of one life that have not returned; it is stopped when they have."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    def __enter__(self) -> None:
        self._count += 1
        self._none.clear()

    def __exit__(self, *error: object) -> None:
        self._count -= 1
        if not self._count:
            self._none.set()

    async def over(self, within_s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._none.wait(), within_s)


# All that a route was made with stands in attributes of the same names.
_MADE_WITH = tuple(
    name
    for name in inspect.signature(APIRoute).parameters
    if name not in ("path", "endpoint", "form_limits")
)


def fenced(router: APIRouter, fence: Fence, underway: Underway) -> APIRouter:
    """The same routes, whose handlers run behind the fence. What the plugin made stays as it is."""
    served: list[BaseRoute] = []
    for route in router.routes:
        assert isinstance(route, APIRoute)
        given = {name: getattr(route, name) for name in _MADE_WITH}
        handler = _behind(fence, underway, route.path, route.endpoint)
        served.append(APIRoute(route.path, handler, **given))
    return APIRouter(routes=served)


def _behind(
    fence: Fence, underway: Underway, path: str, endpoint: Callable[..., object]
) -> Callable[..., object]:
    @functools.wraps(endpoint)  # FastAPI reads its parameters from the original
    async def handler(*given: object, **named: object) -> object:
        try:
            with underway:
                return await fence.call(path, HANDLER_S, lambda: endpoint(*given, **named))
        except PluginError as problem:
            # What the plugin raised is for its administrator, not for every caller.
            raise PluginUnavailable(name=fence.name) from problem

    return handler
