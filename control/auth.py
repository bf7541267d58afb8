"""Who calls, and may he: bearer sessions, API keys, the unix socket; one ladder of roles.

Decides for every route through one gate, by what the matched route declares, never by its URL.
"""

import hmac
from ipaddress import ip_network
from uuid import UUID

import asyncpg
from starlette.requests import HTTPConnection

from control import cookies, scopes, sql
from control.access import session_digest
from control.edge import address
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
from control.rates import RATES, TOLD
from control.state import LOCAL, State, state_of
from plugins.access import ROLES, Access, Caller
from proxy.errors import AddressNotAllowed, CallerError, KeyBlocked, RouteNotAllowed
from proxy.types import Names
from proxy.who import keys, tokens
from proxy.who.callers import mark
from proxy.who.rules import is_within

__all__ = ["ROLES", "Access", "Caller", "gate", "rank", "require_above", "scope"]

ORGANISATION_HEADER = "x-ops-organisation"
SERVICE_HEADER = "x-service-key"  # goes before Authorization, as at the door
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
    row, caller = await _known(connection, state)
    if row["status"] == "suspended":
        raise Suspended
    if access.platform and not row["platform"]:
        raise PlatformOnly(needed=access.role)
    if rank(row["role"]) < rank(access.role):
        raise RoleMissing(needed=access.role, held=row["role"])
    return caller


async def _known(connection: HTTPConnection, state: State) -> tuple[asyncpg.Record, Caller]:
    """Whoever shows nothing that is good counts on his address, others on themselves."""
    rates, told = connection.scope[RATES], connection.scope[TOLD]
    try:
        row, actor = await _membership(connection, state)
    except CallerError as problem:
        if not isinstance(problem, NotSignedIn):  # that one is counted already
            told[:] = rates.of_address(address(connection, state.settings))
        raise
    across = row["platform"] and row["role"] in ACROSS
    caller = Caller(actor, row["role"], row["organisation"], row["person"], across)
    told[:] = rates.of_caller(caller)
    return row, caller


async def _local(state: State) -> Caller:
    """Only the owner of this home can open the socket, so he is administrator."""
    row = await state.pool.fetchrow(sql.load()["local_caller"])
    if row is None:
        return Caller("local", "admin", None, None, True)
    return Caller("local", "admin", row["organisation"], row["person"], True)


async def _membership(connection: HTTPConnection, state: State) -> tuple[asyncpg.Record, str]:
    token = bearer(connection)
    if is_token(token):
        return await _by_token(connection, state, token)
    key = keys.parse(token)
    if key is not None:
        row = await _by_key(state, key)
        _require_allowed(connection, state, row)
        return row, f"key:{key.kid}"
    row = await _by_session(connection, state, token)
    return row, f"person:{row['person']}"


def bearer(connection: HTTPConnection) -> str:
    """What the request shows; a browser's cookie only where it shows nothing else."""
    service = connection.headers.get(SERVICE_HEADER)
    sent = connection.headers.get("authorization") if service is None else f"Bearer {service}"
    if sent is None:
        kept = cookies.session_of(connection)
        sent = "" if kept is None else f"Bearer {kept}"
    kind, _, token = sent.partition(" ")
    token = token.strip()
    if kind.lower() != "bearer" or not token:
        raise NotSignedIn
    longest = tokens.FOREIGN_LENGTH_MAX if is_token(token) else TOKEN_MAX
    if len(token) > longest or not token.isascii():
        raise CredentialInvalid
    return token


def is_token(text: str) -> bool:
    """A JWT, as opposed to a session or an API key."""
    return text.startswith(tokens.BEGINS)


async def _by_token(
    connection: HTTPConnection, state: State, text: str
) -> tuple[asyncpg.Record, str]:
    """A token stands for a sign-in or for an API key, and is good only while that is."""
    token, query = await state.tokens.check(text), sql.load()
    of_key = len(token.record) == keys.KID_LENGTH
    row = await state.pool.fetchrow(
        query["key_caller" if of_key else "sign_in_caller"], token.record
    )
    wanted = _wanted_organisation(connection)
    if row is None or str(row["organisation"]) != token.organisation:
        raise CredentialInvalid
    if wanted not in (None, row["organisation"]):
        raise CredentialInvalid
    if not of_key:
        return row, f"person:{row['person']}"
    secrets = [row["digest"]] + ([row["old_digest"]] if row["old_is_good"] else [])
    if token.secret not in [mark(one) for one in secrets]:
        raise CredentialInvalid
    _require_allowed(connection, state, row)
    return row, f"key:{token.record}"


async def _by_key(state: State, key: keys.Key) -> asyncpg.Record:
    row = await state.pool.fetchrow(sql.load()["key_caller"], key.kid)
    new = (row["digest"], row["pepper"]) if row is not None else (None, None)
    old = (row["old_digest"], row["old_pepper"]) if row is not None else (None, None)
    is_new, is_old = _is_digest(state, key, *new), _is_digest(state, key, *old)
    if row is None or not (is_new or (is_old and row["old_is_good"])):
        raise CredentialInvalid
    return row


def _is_digest(state: State, key: keys.Key, digest: bytes | None, pepper: int | None) -> bool:
    """Takes its time also where there is nothing to compare with."""
    known = pepper if pepper in state.keys.peppers else None
    found = state.keys.digest(key.text, state.keys.pepper_version if known is None else known)
    same = hmac.compare_digest(found, digest or _NO_DIGEST)
    return same and known is not None


def _require_allowed(connection: HTTPConnection, state: State, row: asyncpg.Record) -> None:
    """The limits of a key hold here as at the door, and its scopes."""
    if row["key_status"] == "blocked":
        raise KeyBlocked
    addresses, routes = row["addresses"], row["routes"]
    client = address(connection, state.settings)
    if addresses is not None and not is_within(client, map(ip_network, addresses)):
        raise AddressNotAllowed(address=client)
    path = connection.url.path
    if routes is not None and path not in Names.of(routes):
        raise RouteNotAllowed(path=path[:200])
    scopes.require(connection, row["scopes"])


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
