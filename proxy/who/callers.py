"""Callers: whose key this is, as this worker remembers it and as Redis has it.

What is remembered only saves the look-up; whether it still holds is decided where money is held.
"""

import hmac
import secrets
from dataclasses import replace
from hashlib import blake2b, sha256
from typing import TypeVar

from proxy.bounds.refusals import REFUSALS
from proxy.bounds.standing import caller_of
from proxy.errors import (
    KeyBlocked,
    KeyInvalid,
    KeyMissing,
    NotReady,
    OrganisationSuspended,
    TokenInvalid,
)
from proxy.metrics import Metrics
from proxy.redis.pipe import RedisDown
from proxy.redis.replies import RawRecord, Stale
from proxy.redis.shards import Shards
from proxy.types import Caller, Issuer, KeyRecord, OldSecret, OrganisationRecord, Token
from proxy.who import keys, tokens
from proxy.who.keyfile import KeyFile
from proxy.who.records import is_good, is_past, key_record, nobodys, organisation_record
from proxy.who.shown import ShownTokens
from proxy.who.tries import Tries

BEARER = "bearer "
NO_OLD = OldSecret(bytes(32), 0, 0)  # nobody's secret

N = TypeVar("N", str, bytes)
R = TypeVar("R")


class Callers:
    """The records that this worker remembers."""

    def __init__(
        self,
        shards: Shards,
        keyfile: KeyFile,
        metrics: Metrics,
        callers_max: int,
        shown: ShownTokens,
        tries: Tries,
    ) -> None:
        self._shards = shards
        self._keyfile = keyfile
        self._metrics = metrics
        self._callers_max = callers_max
        self._tokens = shown
        self._tries = tries
        self._nobody = nobodys(keyfile.pepper_version)
        self._no_record = key_record("", -1, self._nobody)
        self._keys: dict[str, KeyRecord] = {}
        self._organisations: dict[str, OrganisationRecord] = {}
        self._seen: dict[bytes, Caller] = {}
        self._salt = secrets.token_bytes(32)

    async def identify(self, authorization: bytes | None, client: str = "") -> Caller:
        """Whose key or token this is. Says nothing yet about whether it is still good. A header
        that was checked before is known by its digest, for as long as its records are the newest;
        what is not known counts on the budget of the address `client` when it fails.
        """
        if not authorization:
            raise KeyMissing
        seen = blake2b(authorization, digest_size=16, key=self._salt).digest()
        caller = self._seen.get(seen)
        if caller is not None and self._is_newest(caller):
            return caller
        text = _bearer(authorization)
        if text.startswith(tokens.BEGINS):
            caller = await self._by_token(text, client)
        else:
            caller = await self._by_key(text, client)
        self._remember(self._seen, seen, caller)
        return caller

    def _is_newest(self, caller: Caller) -> bool:
        key, organisation = caller.key, caller.organisation
        return (
            self._keys.get(key.kid) is key
            and self._organisations.get(organisation.id) is organisation
            and not (caller.until_ms and self._is_over(caller))
        )

    def _is_over(self, caller: Caller) -> bool:
        """Its time is, or its issuer has other keys now."""
        issuer = caller.issuer
        if issuer is not None and self._tokens.issuers().get(issuer.name) is not issuer:
            return True
        return is_past(caller.until_ms)

    async def _by_key(self, text: str, client: str) -> Caller:
        key = keys.parse(text)
        if key is None:
            self._tries.garbage(client)
            raise KeyInvalid
        try:
            record = self._keys.get(key.kid, self._no_record)
            digest = self._shown(key, record)
            if digest is None or is_past(_until_ms(record, digest)):
                # what is remembered refuses nobody: there may be a newer secret
                record, digest = await self._fetch_key(key, client)
            organisation = await self._organisation_of(record)
        except RedisDown:
            self._metrics.add(self._metrics.redis_failures)
            raise NotReady from None
        return _known(record, organisation, digest)

    async def _by_token(self, text: str, client: str) -> Caller:
        """A token stands for a record: a sign-in's, or that of the API key it was made with."""
        try:
            token = await self._tokens.read(text)
        except TokenInvalid:
            self._tries.garbage(client)
            raise
        try:
            record = self._keys.get(token.record) or await self._fetch_record(token)
            digest = _secret_of(token, record)
            if digest is None:
                self._keys.pop(token.record, None)
                record = await self._fetch_record(token)
                digest = _secret_of(token, record)
            if digest is None:
                raise _ended()
            organisation = await self._organisation_of(record)
        except RedisDown:
            self._metrics.add(self._metrics.redis_failures)
            raise NotReady from None
        known = _known(record, organisation, digest, token.issuer)
        until_ms = min(known.until_ms or token.until_ms, token.until_ms)
        return replace(known, until_ms=until_ms)

    async def check(self, caller: Caller) -> Caller:
        """The caller as he is now, for what is decided without a hold."""
        try:
            key = await self._shards.key(caller.key.shard, caller.key.kid)
            organisation = await self._shards.organisation(caller.key.shard, caller.organisation.id)
        except RedisDown:
            raise NotReady from None
        return self.newer(caller, Stale(key, organisation))

    def newer(self, caller: Caller, stale: Stale) -> Caller:
        """Takes over what Redis has; a key that is gone or dead is refused here."""
        self._metrics.add(self._metrics.stale)
        if stale.key is None:
            raise self.refusal("KEY", caller)
        key = key_record(caller.key.kid, caller.key.shard, stale.key)
        if not _is_secret_of(key, caller.digest):
            raise self.refusal("KEY", caller)
        self._remember(self._keys, key.kid, key)
        if not is_good(stale.key):
            self.forget(caller)
            raise _ended() if caller.issuer else _dead(stale.key)
        organisation = caller.organisation
        if stale.organisation is not None:
            organisation = organisation_record(organisation.id, key.shard, stale.organisation)
            self._remember(self._organisations, organisation.id, organisation)
            if stale.organisation.status != "active":
                raise OrganisationSuspended
        return _known(key, organisation, caller.digest, caller.issuer)

    def refusal(self, why: str, caller: Caller) -> Exception:
        """What a script's word for a refusal means to the client."""
        if why in REFUSALS:
            return REFUSALS[why]()
        self.forget(caller)
        return _ended() if caller.issuer else KeyInvalid()

    def forget(self, caller: Caller) -> None:
        self._keys.pop(caller.key.kid, None)

    def _shown(self, key: keys.Key, record: KeyRecord) -> bytes | None:
        """The digest of this secret, where the record knows it, be its time over or not. The work
        is the same for all that are not known.
        """
        old = record.old or NO_OLD
        is_new = self._is_digest(key, record.digest, record.pepper)
        is_old = self._is_digest(key, old.digest, old.pepper)
        if record.shard != key.shard:
            return None
        return record.digest if is_new else old.digest if is_old else None

    def _is_digest(self, key: keys.Key, digest: bytes, pepper: int) -> bool:
        known = pepper in self._keyfile.peppers
        found = self._keyfile.digest(key.text, pepper if known else self._keyfile.pepper_version)
        return hmac.compare_digest(found, digest) and known

    async def _fetch_key(self, key: keys.Key, client: str) -> tuple[KeyRecord, bytes]:
        """A key that nobody has, a wrong secret and a right one that has ended are told the same,
        with the same work; only the first two are guesses.
        """
        self._tries.check(client)
        raw = await self._shards.key(key.shard, key.kid)
        record = key_record(key.kid, key.shard, raw or self._nobody)
        digest = self._shown(key, record)
        if raw is None or digest is None:
            self._tries.guessed(client)
            raise KeyInvalid
        if is_past(_until_ms(record, digest)):
            raise KeyInvalid
        if not is_good(raw):
            raise _dead(raw)
        self._remember(self._keys, key.kid, record)
        return record, digest

    async def _fetch_record(self, token: Token) -> KeyRecord:
        raw = await self._shards.key(token.shard, token.record)
        if raw is None or not is_good(raw):
            raise _ended()
        record = key_record(token.record, token.shard, raw)
        self._remember(self._keys, record.kid, record)
        return record

    async def _organisation_of(self, key: KeyRecord) -> OrganisationRecord:
        known = self._organisations.get(key.organisation)
        return known or await self._fetch_organisation(key)

    async def _fetch_organisation(self, key: KeyRecord) -> OrganisationRecord:
        raw = await self._shards.organisation(key.shard, key.organisation)
        if raw is None:
            raise NotReady
        record = organisation_record(key.organisation, key.shard, raw)
        self._remember(self._organisations, record.id, record)
        return record

    def _remember(self, cache: dict[N, R], name: N, record: R) -> None:
        if len(cache) >= self._callers_max and name not in cache:
            cache.pop(next(iter(cache)))
        cache[name] = record


def _bearer(header: bytes) -> str:
    authorization = header.decode("latin-1")
    if authorization[: len(BEARER)].lower() != BEARER:
        raise KeyMissing
    return authorization[len(BEARER) :].strip()


def _known(
    key: KeyRecord, organisation: OrganisationRecord, digest: bytes, issuer: Issuer | None = None
) -> Caller:
    return caller_of(key, organisation, digest, _until_ms(key, digest), issuer)


def _until_ms(key: KeyRecord, digest: bytes) -> int:
    """How long this secret of the key is good; 0: as long as the key."""
    return key.old.until_ms if key.old is not None and digest == key.old.digest else 0


def _is_secret_of(key: KeyRecord, digest: bytes) -> bool:
    if hmac.compare_digest(key.digest, digest):
        return True
    old = key.old
    return old is not None and hmac.compare_digest(old.digest, digest) and not is_past(old.until_ms)


def _secret_of(token: Token, key: KeyRecord) -> bytes | None:
    """The digest of the secret that the token was made with, where the record still has it; a
    sign-in has none."""
    if (key.organisation, key.person, key.shard) != (token.organisation, token.person, token.shard):
        return None
    good = [key.digest]
    if key.old is not None and not is_past(key.old.until_ms):
        good.append(key.old.digest)
    return next((one for one in good if mark(one) == token.secret), None)


def mark(digest: bytes) -> str:
    """Tells the secrets of one key apart in a token; nobody gets a secret from it."""
    return sha256(digest).hexdigest()[:16] if digest else ""


def _ended() -> TokenInvalid:
    return TokenInvalid(why="the sign-in or the API key that it was made with has ended")


def _dead(key: RawRecord) -> Exception:
    """Told only to who has shown the key's secret."""
    blocked = key.status == "blocked" and not is_past(key.expires_ms)
    return KeyBlocked() if blocked else KeyInvalid()
