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
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from proxy.errors import TokenExpired, TokenInvalid
from proxy.types import Issuer, Issuers, Token, TokenKey
from proxy.who.keys import SHARDS

BEGINS = "eyJ"  # every JWT: `{"` in base64
LENGTH_MAX, FOREIGN_LENGTH_MAX = 4096, 16_384  # characters; others' list groups
RSA_BITS = range(2048, 8193)
LEEWAY_S = 30  # that clocks may differ
LIFE_MAX_S = 24 * 3600  # a token that says it lives longer was not made here
ALGORITHM = "EdDSA"
UNKNOWN_KEY = "the key that signed it is not in use"
FOREIGN_KINDS = ("jwt", "at+jwt", "application/at+jwt")  # never those of logouts or proofs
FORBIDDEN = ("crit", "jwk", "jku", "x5u", "x5c", "b64")  # keys come from the issuer, not from here

_piece = re.compile(r"[A-Za-z0-9_-]+").fullmatch
_record = re.compile(r"[0-9A-Za-z]{10,20}").fullmatch


@lru_cache(maxsize=8)
def issuers_of(published: bytes) -> Issuers:
    """What the snapshot says of issuers; equal bytes are the same object."""
    return {row["name"]: _issuer(row) for row in orjson.loads(published)}


def verify(text: str, issuers: Issuers, now_s: float) -> Token:
    """Whose token of ours this is; TokenInvalid says why it is none, TokenExpired that it was."""
    return token_of(*genuine(text, issuers, now_s))


def genuine(text: str, issuers: Issuers, now_s: float) -> tuple[Issuer, dict[str, Any]]:
    """Who signed this token, and what it says: all that can be checked without knowing anybody."""
    others = any(issuer.foreign for issuer in issuers.values())
    most = FOREIGN_LENGTH_MAX if others else LENGTH_MAX
    if len(text) > most:
        raise TokenInvalid(why=f"it is longer than {most} characters")
    pieces = text.split(".")
    if len(pieces) != 3 or not all(_piece(piece) for piece in pieces):
        raise TokenInvalid(why="it has not the form of one")
    head, claims = _object(pieces[0]), _object(pieces[1])
    issuer = _issuer_of(claims, issuers)
    _check_signature(head, issuer, pieces)
    _check_times(claims, now_s, issuer)
    audience = claims.get("aud")
    listed = issuer.foreign and isinstance(audience, list) and issuer.audience in audience
    if audience != issuer.audience and not listed:
        raise TokenInvalid(why="it was made for another audience")
    if "cnf" in claims:  # whoever only shows it may have stolen it
        raise TokenInvalid(why="it is bound to a key of its owner, which cannot be proved here")
    return issuer, claims


def issuer_named(text: str) -> object:
    """Whom a token names as its issuer, true or not."""
    return _object(text[:FOREIGN_LENGTH_MAX].partition(".")[2].partition(".")[0]).get("iss")


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
    kind = head.get("typ")
    if kind != "JWT" and not (issuer.foreign and _is_foreign_kind(kind)):
        raise TokenInvalid(why="it is another kind of token")
    kid = head.get("kid")
    key = issuer.keys.get(kid) if isinstance(kid, str) else None
    if key is None:
        raise TokenInvalid(why=UNKNOWN_KEY)
    if head.get("alg") != algorithm_of(key) or any(name in head for name in FORBIDDEN):
        raise TokenInvalid(why="it is signed in a way that its issuer does not use")
    try:
        _verify(key, _decoded(pieces[2]), f"{pieces[0]}.{pieces[1]}".encode())
    except (InvalidSignature, ValueError):
        raise TokenInvalid(why="its signature is wrong") from None


def _is_foreign_kind(kind: object) -> bool:
    return kind is None or (isinstance(kind, str) and kind.lower() in FOREIGN_KINDS)


def algorithm_of(key: TokenKey) -> str:
    """The only one that is looked at for a key of this kind."""
    if isinstance(key, Ed25519PublicKey):
        return ALGORITHM
    return "RS256" if isinstance(key, rsa.RSAPublicKey) else "ES256"


def _verify(key: TokenKey, signature: bytes, data: bytes) -> None:
    if isinstance(key, Ed25519PublicKey):
        key.verify(signature, data)
    elif isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, data, padding.PKCS1v15(), SHA256())
    else:
        if len(signature) != 64:
            raise InvalidSignature
        r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(SHA256()))


def _check_times(claims: dict[str, Any], now_s: float, issuer: Issuer) -> None:
    ends, begins = _moment(claims, "exp"), _begins(claims, now_s, issuer)
    if begins > now_s + LEEWAY_S or not 0 < ends - begins <= LIFE_MAX_S:
        raise TokenInvalid(why="its times cannot be, or a clock is wrong")
    if ends + LEEWAY_S <= now_s:
        raise TokenExpired


def _begins(claims: dict[str, Any], now_s: float, issuer: Issuer) -> int:
    """Others say when a token begins, when it was made, both or neither."""
    if not issuer.foreign:
        return _moment(claims, "nbf")
    told = [_moment(claims, name) for name in ("nbf", "iat") if name in claims]
    return max(told, default=int(now_s))


def _moment(claims: dict[str, Any], name: str) -> int:
    value = claims.get(name)
    if type(value) is not int or not 0 <= value < 2**40:
        raise TokenInvalid(why=f"its {name} is no moment")
    return value


def token_of(issuer: Issuer, claims: dict[str, Any]) -> Token:
    """What a genuine token of ours says; another issuer's claims mean nothing here."""
    if issuer.foreign:
        raise TokenInvalid(why="it has to be changed for one of ours")
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
    keys = {one["kid"]: key_of(one) for one in row["keys"]}
    return Issuer(row["name"], row["audience"], keys, row.get("foreign", False))


def key_of(jwk: dict[str, Any]) -> TokenKey:
    """A public half; ValueError, KeyError or TypeError where tokens are not signed by such."""
    kind = (jwk["kty"], jwk.get("crv"))
    if kind == ("OKP", "Ed25519"):
        return Ed25519PublicKey.from_public_bytes(_decoded(jwk["x"]))
    if kind == ("EC", "P-256"):
        x, y = _number(jwk["x"]), _number(jwk["y"])
        return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    if kind == ("RSA", None):
        number = _number(jwk["n"])
        if number.bit_length() in RSA_BITS:
            return rsa.RSAPublicNumbers(_number(jwk["e"]), number).public_key()
    raise ValueError("a key of a kind that tokens are not signed with")


def _number(text: str) -> int:
    return int.from_bytes(_decoded(text))
