"""A company's own identity provider: its public keys, and whom a token of it names.

Keys are fetched beside the requests, never by one; a provider that is away leaves the last ones in
force for a while. Where they are is a setting: nothing that a token says is ever followed.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from control.errors import IdentityProviderAway
from control.fetch import FetchError, fetch
from control.settings import ControlSettings
from proxy.errors import TokenInvalid
from proxy.reach.dial import trust
from proxy.types import Issuers
from proxy.who.tokens import UNKNOWN_KEY, algorithm_of, genuine, issuer_named, issuers_of, key_of

log = logging.getLogger("opscenter.control.idp")

EVERY_S, AGAIN_S = 300.0, 15.0  # AGAIN: after a failure, or for a key that nobody knows
KEPT_S = 24 * 3600.0  # keys that could not be fetched anew may have been withdrawn
ANSWER_MAX, KEYS_MAX = 256 * 1024, 50  # bytes, keys
KID_MAX, EMAIL_MAX, SUBJECT_MAX = 200, 320, 255  # characters
MEMBERS = ("kid", "kty", "crv", "x", "y", "n", "e")  # of a public key
NOBODY = b"[]"


@dataclass(frozen=True, slots=True)
class Named:
    """What a genuine token says: who, where if it tells that, and when it ends."""

    issuer: str
    subject: str
    email: str
    organisation: UUID | None
    ends: int


class Idp:
    """Empty until the first keys came, and for ever where none is set."""

    def __init__(self, settings: ControlSettings) -> None:
        self._settings = settings
        self._tls = trust(settings.upstream_ca_file)
        self._issuers: Issuers = {}
        self._fetched_at = 0.0
        # as the snapshot tells the proxies; empty: nothing is known yet
        self.published = b"" if self.is_set else NOBODY
        self.is_news = True  # until it is in Redis
        self._unknown_key = asyncio.Event()

    @property
    def is_set(self) -> bool:
        return bool(self._settings.idp_issuer)

    @property
    def keys(self) -> int:
        """How many there are."""
        return sum(len(issuer.keys) for issuer in self._issuers.values())

    @property
    def waits_for_new_keys(self) -> bool:
        """A token was shown that an unknown one has signed."""
        return self._unknown_key.is_set()

    def named(self, text: str, now_s: float) -> Named:
        """What a token says, once it has been found to be genuine."""
        if not self._issuers and issuer_named(text) == self._settings.idp_issuer:
            raise IdentityProviderAway
        try:
            issuer, claims = genuine(text, self._issuers, now_s)
        except TokenInvalid as problem:
            if problem.detail.get("why") == UNKNOWN_KEY:
                self._unknown_key.set()
            raise
        return Named(
            issuer.name,
            _subject(claims),
            self._email(claims),
            self._organisation(claims),
            claims["exp"],
        )

    def _email(self, claims: dict[str, Any]) -> str:
        claim = self._settings.idp_claim
        name = claims.get(claim)
        if not isinstance(name, str) or not _is_email(name):
            raise TokenInvalid(why=f"its `{claim}` is no e-mail")
        if claim == "email" and claims.get("email_verified") is not True:
            raise TokenInvalid(why="its issuer has not verified the e-mail")
        return name.lower()

    def _organisation(self, claims: dict[str, Any]) -> UUID | None:
        claim = self._settings.idp_organisation_claim
        if not claim or claim not in claims:
            return None
        try:
            return UUID(claims[claim])
        except (ValueError, TypeError, AttributeError):
            raise TokenInvalid(why=f"its `{claim}` is no organisation's id") from None

    async def keep(self) -> None:
        """Fetches the keys from time to time, sooner when a token was signed by an unknown one."""
        told = ""
        while self.is_set:
            self._unknown_key.clear()
            problem = await self._refreshed()
            pause_s = AGAIN_S if problem else EVERY_S
            if problem != told:
                log.warning("identity provider: %s", problem or "its keys are there again")
            told = problem
            await asyncio.sleep(AGAIN_S)  # whoever shows unknown keys cannot hurry us
            try:
                await asyncio.wait_for(self._unknown_key.wait(), pause_s - AGAIN_S)
            except TimeoutError:
                continue

    async def _refreshed(self) -> str:
        """What was wrong; without this one day nobody would get in, so it never gives up."""
        try:
            await self.refresh()
        except FetchError as away:
            problem = str(away)
        except Exception as unknown:
            problem = repr(unknown)
        else:
            return ""
        if time.monotonic() - self._fetched_at > KEPT_S and self._issuers:
            self._set(NOBODY)
        return problem

    async def refresh(self) -> None:
        given = self._settings
        try:
            keys = _keys(await fetch(given.idp_jwks_url, self._tls, ANSWER_MAX))
        except FetchError as problem:
            raise FetchError(f"no keys from {given.idp_jwks_url}: {problem}") from None
        row = {"name": given.idp_issuer, "audience": given.idp_audience, "keys": keys}
        self._set(orjson.dumps([{**row, "foreign": True}]))
        self._fetched_at = time.monotonic()

    def _set(self, published: bytes) -> None:
        """By the same reading as the proxies'."""
        self._issuers = issuers_of(published)
        self.published, self.is_news = published, True


def _subject(claims: dict[str, Any]) -> str:
    subject = claims.get("sub")
    if isinstance(subject, str) and subject.isprintable() and 0 < len(subject) <= SUBJECT_MAX:
        return subject
    raise TokenInvalid(why="its `sub` names no account")


def _is_email(name: str) -> bool:
    """Letters of other alphabets may become ours when they are made small."""
    plain = name.isascii() and name.isprintable()
    return plain and "@" in name and 3 <= len(name) <= EMAIL_MAX


def _keys(body: bytes) -> list[dict[str, str]]:
    """Those that sign tokens in a way that we check; a set without any is a mistake."""
    try:
        listed = orjson.loads(body)["keys"][:KEYS_MAX]
    except (ValueError, KeyError, TypeError):
        raise FetchError("what it shows is no set of keys") from None
    found = [{name: one[name] for name in MEMBERS if name in one} for one in listed if _is_key(one)]
    if not found:
        raise FetchError("none of the keys that it shows has an id and is of RS256, ES256 or EdDSA")
    return found


def _is_key(jwk: Any) -> bool:
    kid = jwk.get("kid") if isinstance(jwk, dict) else None
    if not isinstance(kid, str) or not 0 < len(kid) <= KID_MAX or jwk.get("use", "sig") != "sig":
        return False
    try:
        algorithm = algorithm_of(key_of(jwk))
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return bool(jwk.get("alg", algorithm) == algorithm)
