"""What an API key may do: the scopes that there are, and which one a route asks for. Pure.

A key without scopes may do what its person may; one with scopes that, of these.
"""

from collections.abc import Collection
from typing import Final

from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection

from plugins.access import AccessError
from proxy.errors import ScopeMissing
from proxy.who.rules import LLM

#: Routes' last tag -> area. Of each area there are two scopes: to read (GET) and to write.
AREAS: Final = {
    "models": "models",
    "keys": "keys",
    "usage": "usage",
    "credits": "credits",
    "limits": "limits",
    "jobs": "jobs",
    "users": "people",
    "organisations": "people",
    "services": "people",
    "ledger": "system",
    "plugins": "system",
    "system": "system",
    "token_keys": "system",
}
OPEN: Final = frozenset({"auth", "health", "reference"})  # who one is, and what there is
OF_PLUGINS: Final = "plugins"  # routes that plugins serve
SCOPES: Final = (
    LLM,
    *(
        f"{area}:{verb}"
        for area in dict.fromkeys((*AREAS.values(), OF_PLUGINS))
        for verb in ("read", "write")
    ),
)
_READING: Final = frozenset({"GET", "HEAD"})


def scope_of(route: APIRoute, method: str) -> str | None:
    """The one that a key needs for it; None: every key may."""
    tag = str(route.tags[-1]) if route.tags else ""
    if tag in OPEN:
        return None
    return f"{AREAS.get(tag, OF_PLUGINS)}:{'read' if method in _READING else 'write'}"


def check_tagged(route: APIRoute) -> None:
    """Raises AccessError where a route of ours does not say which scope it asks for."""
    if not route.tags or route.tags[-1] not in OPEN | AREAS.keys():
        raise AccessError(
            f"The route {route.path} has no tag that names a scope; give its router one of "
            f"{', '.join(sorted(OPEN | AREAS.keys()))}."
        )


def require(connection: HTTPConnection, held: Collection[str] | None) -> None:
    """`held` are the scopes of the key that calls; None: it is not limited to any."""
    if held is None:
        return
    needed = scope_of(connection.scope["route"], connection.scope["method"])
    if needed is not None and needed not in held:
        raise ScopeMissing(scope=needed)
