"""Who calls, and may he: bearer sessions, API keys, the unix socket; one ladder of roles.

Decides for every route through one gate, by what the matched route declares, never by its URL.
"""

import hmac
from uuid import UUID

import asyncpg
from starlette.requests import HTTPConnection

from control import sql
from control.access import session_digest
from control.errors import (
    CredentialInvalid,
    GrantTooHigh,
    Invalid,
    NotSignedIn,
    PlatformOnly,
    RoleMissing,
    SetupMissing,
    Suspended,
)
from control.state import LOCAL, State, state_of
from plugins.access import ROLES, Access, Caller
from proxy import keys

__all__ = ["ROLES", "Access", "Caller", "gate", "rank", "require_above", "scope"]

ORGANISATION_HEADER = "x-ops-organisation"
TOKEN_MAX = 200  # characters; more was never a token of ours
ACROSS = ("moderator", "admin")  # platform roles that hold in every organisation
_NO_DIGEST = bytes(32)


def rank(role: str) -> int:
    """Higher may more; a role that is none may nothing."""
    return ROLES.index(role) if role in ROLES else -1


# The gate -----------------------------------------------------------------------


async def gate(connection: HTTPConnection, access: Access) -> Caller:
    """The caller of a route that declares `access`, or the reason why not."""
    state = state_of(connection)
    if connection.scope.get(LOCAL):
        return await _local(state)
    row, actor = await _membership(connection, state)
    if row["status"] == "suspended":
        raise Suspended
    if access.platform and not row["platform"]:
        raise PlatformOnly(needed=access.role)
    if rank(row["role"]) < rank(access.role):
        raise RoleMissing(needed=access.role, held=row["role"])
    across = row["platform"] and row["role"] in ACROSS
    return Caller(actor, row["role"], row["organisation"], row["person"], across)


async def _local(state: State) -> Caller:
    """Only the owner of this home can open the socket, so he is administrator."""
    row = await state.pool.fetchrow(sql.load()["local_caller"])
    if row is None:
        return Caller("local", "admin", None, None, True)
    return Caller("local", "admin", row["organisation"], row["person"], True)


async def _membership(connection: HTTPConnection, state: State) -> tuple[asyncpg.Record, str]:
    token = bearer(connection)
    key = keys.parse(token)
    if key is not None:
        return await _by_key(state, key), f"key:{key.kid}"
    row = await _by_session(connection, state, token)
    return row, f"person:{row['person']}"


def bearer(connection: HTTPConnection) -> str:
    kind, _, token = connection.headers.get("authorization", "").partition(" ")
    token = token.strip()
    if kind.lower() != "bearer" or not token:
        raise NotSignedIn
    if len(token) > TOKEN_MAX or not token.isascii():
        raise CredentialInvalid
    return token


async def _by_key(state: State, key: keys.Key) -> asyncpg.Record:
    row = await state.pool.fetchrow(sql.load()["key_caller"], key.kid)
    known = row is not None and row["pepper"] in state.keys.peppers
    pepper = row["pepper"] if row is not None and known else state.keys.pepper_version
    stored = row["digest"] if row is not None and known else _NO_DIGEST
    if not hmac.compare_digest(state.keys.digest(key.text, pepper), stored) or row is None:
        raise CredentialInvalid
    return row


async def _by_session(connection: HTTPConnection, state: State, token: str) -> asyncpg.Record:
    digest, query = session_digest(token), sql.load()
    idle = state.settings.session_idle_minutes
    wanted = _wanted_organisation(connection)
    row = await state.pool.fetchrow(query["session_caller"], digest, idle, wanted)
    if row is None:
        raise CredentialInvalid
    if row["stale"]:
        await state.pool.execute(query["session_seen"], digest)
    return row


def _wanted_organisation(connection: HTTPConnection) -> UUID | None:
    text = connection.headers.get(ORGANISATION_HEADER)
    if text is None:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise Invalid(
            why="X-Ops-Organisation is no organisation's id. Take one from /api/v1/auth/me."
        ) from None


# What a caller may touch -----------------------------------------------------------


def scope(caller: Caller) -> UUID | None:
    """The organisation that all of a caller's queries are bound to; None: every one."""
    return None if caller.platform else caller.organisation


def home(caller: Caller) -> UUID:
    """The organisation that the caller acts in."""
    if caller.organisation is None:
        raise SetupMissing
    return caller.organisation


def require_above(caller: Caller, role: str) -> None:
    """An administrator may act on everybody, others only on those below them."""
    if caller.role != "admin" and rank(caller.role) <= rank(role):
        raise GrantTooHigh(why=f"a {caller.role} acts on those below, and this one is {role}")


def require_grantable(caller: Caller, role: str) -> None:
    """Nobody gives a role that he does not hold; a moderator only those below his own."""
    require_above(caller, role)
