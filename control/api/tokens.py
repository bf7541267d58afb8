"""Tokens (JWT) for the door and for this API: made for a password, a session or an API key."""

import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import SecretStr, model_validator

from control import sql
from control.access import new_session_token, session_digest
from control.api.auth import Login, person_of
from control.api.identities import linked_person
from control.api.shapes import Email, Field, Input, Output, PlatformAdmin
from control.api.write import Act, Change, Done, audit, publish, write
from control.auth import bearer, gate, is_token
from control.database import ACQUIRE_TIMEOUT_S, Connection
from control.errors import CredentialInvalid, Invalid, SetupMissing, Suspended
from control.passwords import LENGTH_MAX
from control.state import LOCAL, State, state_of
from control.token_keys import is_ours
from plugins.access import Access, Caller, public
from proxy.who import keys
from proxy.who.callers import mark
from proxy.who.keys import ALPHABET

router = APIRouter(tags=["auth"])

SIGN_IN_LENGTH = 20  # letters of its id
ANYBODY = Access("viewer")


class TokenWanted(Input):
    """With e-mail and password, or with neither: then `Authorization` says who."""

    email: Email | None = None
    password: Annotated[SecretStr, Field(min_length=1, max_length=LENGTH_MAX)] | None = None
    organisation: UUID | None = None

    @model_validator(mode="after")
    def _both(self) -> "TokenWanted":
        if (self.email is None) != (self.password is None):
            raise ValueError("send both e-mail and password, or neither")
        return self


class TokenMade(Output):
    token: str
    token_type: str = "Bearer"  # noqa: S105 - a word of the protocol
    expires_in: int  # seconds
    expires_at: datetime
    organisation: UUID


class TokenKey(Output):
    """A public half, as a JSON Web Key."""

    kty: str
    crv: str
    alg: str
    use: str
    kid: str
    x: str


class TokenKeySet(Output):
    keys: list[TokenKey]


class TokenKeyMade(Output):
    kid: str


@router.get("/.well-known/jwks.json", dependencies=[public()])
async def token_keys(request: Request) -> TokenKeySet:
    """The public halves by which everybody can check this Ops-Center's tokens."""
    found = await state_of(request).tokens.public()
    return TokenKeySet(keys=[TokenKey.model_validate(one) for one in found])


@router.post("/api/v1/admin/token-keys/rotate", tags=["token_keys"], response_model=TokenKeyMade)
async def rotate_token_keys(request: Request, caller: PlatformAdmin) -> Response:
    """A new pair signs tokens as soon as every proxy knows it; tokens of the old one stay good
    until they end."""
    state = state_of(request)

    async def effect(conn: Connection) -> Done:
        made = TokenKeyMade(kid=await state.tokens.rotate(conn))
        return Done(made, changes=[Change("snapshot")])

    return await write(request, caller, Act("token_key.rotate", "token_key"), effect)


@router.post("/api/v1/auth/token", dependencies=[public()], response_model=TokenMade)
async def make_token(request: Request, given: TokenWanted | None = None) -> TokenMade:
    """Changes a password, a session, an API key or a token of the company's identity provider for
    a token that the door and this API take as `Authorization: Bearer`. One made with an API key
    may what the key may, and ends with it."""
    given = given or TokenWanted()
    if given.email is not None and given.password is not None:
        login = Login(email=given.email, password=given.password)
        return await _for_person(request, given, await person_of(request, login))
    if request.scope.get(LOCAL):
        return await _for_person(request, given, (await gate(request, ANYBODY)).person)
    text = bearer(request)
    if is_token(text):
        return await _exchanged(request, given, text)
    caller = await gate(request, ANYBODY)
    key = keys.parse(text)
    if key is not None:
        return await _for_key(request, given, caller, key)
    return await _for_person(request, given, caller.person, session_digest(text))


# With an API key: its own record is what the token stands for --------------------------


async def _for_key(
    request: Request, given: TokenWanted, caller: Caller, key: keys.Key
) -> TokenMade:
    state = state_of(request)
    if given.organisation not in (None, caller.organisation):
        raise CredentialInvalid
    async with state.pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as conn, conn.transaction():
        row = await conn.fetchrow(sql.load()["key_caller"], key.kid)
        if row is None:
            raise CredentialInvalid
        digest, pepper = row["digest"], row["pepper"]
        if pepper not in state.keys.peppers or state.keys.digest(key.text, pepper) != digest:
            digest = row["old_digest"]
        await audit(conn, caller.actor, Act("token", f"key:{key.kid}", caller.organisation))
        place = {"organisation": row["organisation"], "person": row["person"], "shard": key.shard}
        return await _made(conn, state, place, key.kid, mark(digest), state.tokens.life_s)


# With a token of the company's identity provider -----------------------------------------


async def _exchanged(request: Request, given: TokenWanted, text: str) -> TokenMade:
    """Once ended, the same token of the provider begins no further session."""
    state, query, now_s = state_of(request), sql.load(), time.time()
    if not state.idp.is_set or is_ours(text):
        raise Invalid(
            why="A token is not renewed with a token. Send a session, an API key, or e-mail and "
            "password."
        )
    named = state.idp.named(text, now_s)
    if named.organisation is not None and given.organisation not in (None, named.organisation):
        raise CredentialInvalid
    given = given.model_copy(update={"organisation": named.organisation or given.organisation})
    person = await linked_person(state, named)
    session, left_s = _session_of(text), max(int(named.ends - now_s), 1)
    await state.pool.execute(query["session_of_token"], session, person, left_s)
    return await _for_person(request, given, person, session)


def _session_of(text: str) -> bytes:
    """By what is signed: a signature can be written in several ways. The line break keeps it from
    being anything that could be shown as a session's own token."""
    return session_digest(f"idp\n{text.rpartition('.')[0]}")


# For a person: the token stands for a sign-in --------------------------------------------


async def _for_person(
    request: Request, given: TokenWanted, person: UUID | None, session: bytes | None = None
) -> TokenMade:
    """Within the person's session, or with one of its own that ends with the token."""
    state, query = state_of(request), sql.load()
    async with state.pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as conn, conn.transaction():
        place = await conn.fetchrow(query["token_place"], person, given.organisation)
        if place is None:
            raise SetupMissing if person is None else CredentialInvalid
        if place["status"] == "suspended":
            raise Suspended
        actor, where = f"person:{person}", place["organisation"]
        await audit(conn, actor, Act("token", actor, where))
        if session is None:
            session = session_digest(new_session_token())
            row = (session, person, state.tokens.life_s)
            expires_at = await conn.fetchval(query["session_add_for"], *row)
        else:
            expires_at = await conn.fetchval(query["session_expires"], session)
        if expires_at is None:
            raise CredentialInvalid
        await conn.execute(query["organisation_share"], where)
        id = await conn.fetchval(query["sign_in_known"], session, where, expires_at)
        if id is None:
            wanted = (_new_id(), session, where, person, expires_at)
            id = await conn.fetchval(query["sign_in_add"], *wanted)
        life_s = min(state.tokens.life_s, int((expires_at - datetime.now(UTC)).total_seconds()) + 1)
        made = await _made(conn, state, dict(place), id, "", max(life_s, 1))
    await publish(state, [Change("sign_in", id)])
    return made


def _new_id() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(SIGN_IN_LENGTH))


async def _made(
    conn: Connection,
    state: State,
    place: Mapping[str, Any],
    record: str,
    secret: str,
    life_s: int,
) -> TokenMade:
    claims = {
        "sub": str(place["person"]),
        "org": str(place["organisation"]),
        "shard": place["shard"],
        "rec": record,
        "jti": secrets.token_hex(8),
        **({"sec": secret} if secret else {}),
    }
    return TokenMade(
        token=await state.tokens.sign(conn, claims, life_s),
        expires_in=life_s,
        expires_at=datetime.now(UTC) + timedelta(seconds=life_s),
        organisation=place["organisation"],
    )
