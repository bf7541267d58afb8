"""What signs tokens: private halves derived from the root key, public ones published.

A private half is made when it is needed and never stored. Two pairs at most are accepted: the one
that signs, and the one before it until the last of its tokens has ended.
"""

import hashlib
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from control import sql
from control.database import ACQUIRE_TIMEOUT_S, Connection, Pool
from control.errors import TokenKeyLost
from control.secrets import Secrets
from control.settings import OUR_ISSUER
from proxy.errors import TokenInvalid
from proxy.types import Issuers, Token
from proxy.who.tokens import ALGORITHM, LEEWAY_S, issuer_named, issuers_of, verify

ISSUER = AUDIENCE = OUR_ISSUER
KNOWN_BEFORE_S = 30  # a new key is published for so long before it signs


@dataclass(frozen=True, slots=True, repr=False)
class TokenKeys:
    """Signs and checks tokens of this installation."""

    pool: Pool
    secrets: Secrets
    life_s: int  # of a token

    async def prepare(self) -> None:
        """The first start makes the first pair; the first one with another root key a further."""
        query = sql.load()
        async with self.pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as conn, conn.transaction():
            await conn.execute(query["token_key_lock"])
            newest = await conn.fetchrow(query["token_key_newest"])
            if newest is None:
                await self._add(conn, 1, 0)
            elif self._private(newest) is None:
                await conn.execute(query["token_key_retire"], newest["version"] + 1, 0)
                await self._add(conn, newest["version"] + 1, 0)

    async def rotate(self, conn: Connection) -> str:
        """A new pair, which signs when every proxy knows it; its id."""
        query = sql.load()
        await conn.execute(query["token_key_lock"])
        await conn.execute(query["token_key_prune"])
        newest = await conn.fetchrow(query["token_key_newest"])
        version = newest["version"] + 1 if newest else 1
        retired_s = KNOWN_BEFORE_S + self.life_s + LEEWAY_S
        await conn.execute(query["token_key_retire"], version, retired_s)
        return await self._add(conn, version, KNOWN_BEFORE_S)

    async def renew(self, conn: Connection) -> None:
        """A new pair where the newest is a former root key's."""
        newest = await conn.fetchrow(sql.load()["token_key_newest"])
        pair = newest and _public(self._pairs(newest["version"])[0])
        if newest is None or pair != bytes(newest["public"]):
            await self.rotate(conn)

    async def sign(self, conn: Connection, claims: Mapping[str, object], life_s: int) -> str:
        """The whole token; the claims say who, this adds when and from whom."""
        rows = await conn.fetch(sql.load()["token_key_list"])
        pairs = [(row, private) for row in rows if row["signs"] and (private := self._private(row))]
        if not pairs:
            raise TokenKeyLost
        row, private = pairs[0]
        now = int(time.time())
        times = {"iat": now, "nbf": now, "exp": now + life_s}
        head = {"alg": ALGORITHM, "typ": "JWT", "kid": _kid(row["version"], row["public"])}
        said = {"iss": ISSUER, "aud": AUDIENCE, **claims, **times}
        signed = f"{_encoded(orjson.dumps(head))}.{_encoded(orjson.dumps(said))}"
        signature = private.sign(signed.encode())
        return f"{signed}.{_encoded(signature)}"

    async def check(self, text: str) -> Token:
        """By the same function as at the door."""
        return verify(text, await self._issuers(), time.time())

    async def public(self) -> list[dict[str, str]]:
        """As a set of JSON Web Keys."""
        keys: list[dict[str, str]] = published(await self._rows())["keys"]
        return keys

    async def _issuers(self) -> Issuers:
        return issuers_of(orjson.dumps([published(await self._rows())]))

    async def _rows(self) -> Sequence[asyncpg.Record]:
        return await self.pool.fetch(sql.load()["token_key_list"])

    async def _add(self, conn: Connection, version: int, wait_s: int) -> str:
        public = _public(self._pairs(version)[0])
        await conn.execute(sql.load()["token_key_add"], version, public, wait_s)
        return _kid(version, public)

    def _private(self, row: asyncpg.Record) -> Ed25519PrivateKey | None:
        """Of a pair that one of our root keys has made."""
        pairs = self._pairs(row["version"])
        return next((one for one in pairs if _public(one) == bytes(row["public"])), None)

    def _pairs(self, version: int) -> list[Ed25519PrivateKey]:
        """By each root key, the newest first."""
        seeds = self.secrets.each(f"token signing v{version}")
        return [Ed25519PrivateKey.from_private_bytes(seed) for seed in seeds]


def is_ours(text: str) -> bool:
    """Whether it says so; nothing is decided by it but which sentence is told."""
    try:
        return issuer_named(text) == ISSUER
    except TokenInvalid:
        return False


def published(rows: Sequence[asyncpg.Record]) -> dict[str, Any]:
    """The issuer as the snapshot tells the proxies."""
    return {"name": ISSUER, "audience": AUDIENCE, "keys": [_jwk(row) for row in rows]}


def _public(private: Ed25519PrivateKey) -> bytes:
    return private.public_key().public_bytes_raw()


def _jwk(row: asyncpg.Record) -> dict[str, str]:
    kind = {"kty": "OKP", "crv": "Ed25519", "alg": ALGORITHM, "use": "sig"}
    return {**kind, "kid": _kid(row["version"], row["public"]), "x": _encoded(row["public"])}


def _kid(version: int, public: bytes) -> str:
    return f"{version}-{hashlib.sha256(public).hexdigest()[:16]}"


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
