"""Tokens (JWT) as text: the one function that decides whether one is genuine. Pure.

The algorithm belongs to the key that an issuer published, never to what the token says of itself;
whom a token names is looked up elsewhere.
"""

import re
from base64 import urlsafe_b64decode
from functools import lru_cache
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from proxy.errors import TokenExpired, TokenInvalid
from proxy.keys import SHARDS
from proxy.types import Issuer, Issuers, Token

BEGINS = "eyJ"  # every JWT: `{"` in base64
LENGTH_MAX = 4096  # characters
LEEWAY_S = 30  # that clocks may differ
LIFE_MAX_S = 24 * 3600  # a token that says it lives longer was not made here
ALGORITHM = "EdDSA"
FORBIDDEN = ("crit", "jwk", "jku", "x5u", "x5c", "b64")  # keys come from the issuer, not from here

_piece = re.compile(r"[A-Za-z0-9_-]+").fullmatch
_record = re.compile(r"[0-9A-Za-z]{10,20}").fullmatch


@lru_cache(maxsize=4)
def issuers_of(published: bytes) -> Issuers:
    """What the snapshot says of issuers; equal bytes are the same object."""
    return {row["name"]: _issuer(row) for row in orjson.loads(published)}


def verify(text: str, issuers: Issuers, now_s: float) -> Token:
    """Whose token this is; TokenInvalid says why it is none, TokenExpired that it was one."""
    if len(text) > LENGTH_MAX:
        raise TokenInvalid(why=f"it is longer than {LENGTH_MAX} characters")
    pieces = text.split(".")
    if len(pieces) != 3 or not all(_piece(piece) for piece in pieces):
        raise TokenInvalid(why="it has not the form of one")
    head, claims = _object(pieces[0]), _object(pieces[1])
    issuer = _issuer_of(claims, issuers)
    _check_signature(head, issuer, pieces)
    _check_times(claims, now_s)
    if claims.get("aud") != issuer.audience:
        raise TokenInvalid(why="it was made for another audience")
    return _token(issuer, claims)


def _object(piece: str) -> dict[str, Any]:
    try:
        value = orjson.loads(_decoded(piece))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise TokenInvalid(why="it has not the form of one")
    return value


def _decoded(piece: str) -> bytes:
    return urlsafe_b64decode(piece + "=" * (-len(piece) % 4))


def _issuer_of(claims: dict[str, Any], issuers: Issuers) -> Issuer:
    name = claims.get("iss")
    issuer = issuers.get(name) if isinstance(name, str) else None
    if issuer is None:
        raise TokenInvalid(why="its issuer is not known here")
    return issuer


def _check_signature(head: dict[str, Any], issuer: Issuer, pieces: list[str]) -> None:
    """Nothing is tried with an unknown key; the algorithm is the issuer's, whatever is asked."""
    if head.get("alg") != ALGORITHM or any(name in head for name in FORBIDDEN):
        raise TokenInvalid(why="it is signed in a way that its issuer does not use")
    if head.get("typ") != "JWT":
        raise TokenInvalid(why="it is another kind of token")
    kid = head.get("kid")
    key = issuer.keys.get(kid) if isinstance(kid, str) else None
    if key is None:
        raise TokenInvalid(why="the key that signed it is not in use")
    try:
        key.verify(_decoded(pieces[2]), f"{pieces[0]}.{pieces[1]}".encode())
    except (InvalidSignature, ValueError):
        raise TokenInvalid(why="its signature is wrong") from None


def _check_times(claims: dict[str, Any], now_s: float) -> None:
    ends, begins = _moment(claims, "exp"), _moment(claims, "nbf")
    if begins > now_s + LEEWAY_S or not 0 < ends - begins <= LIFE_MAX_S:
        raise TokenInvalid(why="its times cannot be, or a clock is wrong")
    if ends + LEEWAY_S <= now_s:
        raise TokenExpired


def _moment(claims: dict[str, Any], name: str) -> int:
    value = claims.get(name)
    if type(value) is not int or not 0 < value < 2**40:
        raise TokenInvalid(why=f"its {name} is no moment")
    return value


def _token(issuer: Issuer, claims: dict[str, Any]) -> Token:
    shard, record = claims.get("shard"), claims.get("rec")
    organisation, person = claims.get("org", ""), claims.get("sub", "")
    texts = (organisation, person, claims.get("sec", ""))
    if type(shard) is not int or not 0 <= shard < SHARDS or not isinstance(record, str):
        raise TokenInvalid(why="it names nobody")
    if not _record(record) or not all(isinstance(text, str) for text in texts):
        raise TokenInvalid(why="it names nobody")
    until_ms = (claims["exp"] + LEEWAY_S) * 1000
    return Token(issuer, shard, record, organisation, person, texts[2], until_ms)


def _issuer(row: dict[str, Any]) -> Issuer:
    keys = {one["kid"]: _key(one) for one in row["keys"]}
    return Issuer(row["name"], row["audience"], keys)


def _key(jwk: dict[str, str]) -> Ed25519PublicKey:
    if (jwk["kty"], jwk["crv"]) != ("OKP", "Ed25519"):
        raise ValueError("a key of a kind that tokens are not signed with")
    return Ed25519PublicKey.from_public_bytes(_decoded(jwk["x"]))
