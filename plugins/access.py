"""How a route says who may call it. Only marks; who serves the application decides.

    @router.get("/api/v1/hello", dependencies=[needs("viewer")])
    @router.get("/api/v1/me")
    async def me(caller: Annotated[Caller, needs("viewer")]) -> ...: ...
    @router.get("/api/v1/version", dependencies=[public()])

The server puts its gate at `app.state.gate`: an async function of (connection, access) that returns
the `Caller` or raises. Without a gate every route but the public ones refuses to answer.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from fastapi import Depends
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection

# Each role may do what those before it may.
ROLES = ("viewer", "analyst", "developer", "moderator", "admin")


class AccessError(ValueError):
    """A route declares no access, or one that does not exist; the message says the cure."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as the gate found him."""

    actor: str  # person:<id>, key:<kid>, local
    role: str  # one of ROLES, in `organisation`
    organisation: UUID | None  # None: the administrator of this machine
    person: UUID | None
    platform: bool  # his role holds across organisations


@dataclass(frozen=True, slots=True)
class Access:
    """What a route asks of its caller. FastAPI calls it as a dependency, and it asks the gate."""

    role: str  # one of ROLES; "" for public
    platform: bool = False  # the role must be held in the platform's own organisation

    async def __call__(self, connection: HTTPConnection) -> Caller | None:
        if not self.role:
            return None
        gate: Gate | None = getattr(connection.app.state, "gate", None)
        if gate is None:
            raise AccessError(
                "The application has no gate, so nobody can be let in; set app.state.gate."
            )
        return await gate(connection, self)


Gate = Callable[[HTTPConnection, Access], Awaitable[Caller]]


# FastAPI types what `Depends` returns as Any, so that it fits every parameter.
def needs(role: str, *, platform: bool = False) -> Any:
    """A dependency: the route is for callers who hold at least this role."""
    if role not in ROLES:
        raise AccessError(f"There is no role {role!r}; take one of {', '.join(ROLES)}.")
    return Depends(Access(role, platform))


def public() -> Any:
    """A dependency: the route is for everybody, also for those who did not sign in."""
    return Depends(Access(""))


def access_of(route: APIRoute) -> Access:
    """What the route declares, at its router, in its decorator or in its signature."""
    declared = {one.call for one in route.dependant.dependencies if isinstance(one.call, Access)}
    if not declared:
        raise AccessError(
            f"The route {route.path} declares neither a role nor that it is public; "
            'give it dependencies=[needs("viewer")] or dependencies=[public()].'
        )
    if len(declared) > 1 and Access("") in declared:
        raise AccessError(
            f"The route {route.path} is declared public and needs a role; choose one."
        )
    # Each of several is asked; the highest is what the route is known by.
    return max(declared, key=lambda one: (one.platform, ROLES.index(one.role) if one.role else -1))
