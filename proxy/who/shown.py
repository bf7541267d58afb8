"""Tokens as callers show them: ours say whose they are; whom one of a company's identity provider
names the control plane knows, and is asked once for each.

Only what has been found genuine is asked for, and remembered by the digest of the whole token.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple, TypeVar

import orjson

from proxy.errors import NotReady, Overloaded, TokenInvalid, TokenRefused
from proxy.reach.http1 import Broken, Client, Exhausted, TooLate, Unreachable
from proxy.types import Issuers, Token
from proxy.who import tokens
from proxy.who.records import is_past

log = logging.getLogger("opscenter.proxy.shown")

PATH = "/api/v1/auth/token"
ASK_S = 5.0  # longest for an answer of the control plane
ASKING_MAX = 64  # at one time, per worker; then 503
HINT_S = 15.0
REFUSALS = (401, 403)
NO_ANSWER = (Unreachable, TooLate, Broken, Exhausted, TimeoutError)
ANSWER_MAX, SENTENCE_MAX = 64 * 1024, 500  # bytes, characters
REFUSED_S, REFUSED_MAX = 5.0, 1_000  # how long and how many refusals are remembered


V = TypeVar("V", Token, "Refused")


class Refused(NamedTuple):
    why: str
    until: float  # of the loop's clock


class ShownTokens:
    """What this worker knows of tokens; `url` is the control API's, empty: foreign ones are none
    of the door's business."""

    def __init__(
        self, issuers: Callable[[], Issuers], client: Client, url: str, tokens_max: int
    ) -> None:
        self.issuers = issuers
        self._client = client
        self._url = url.rstrip("/")
        self._tokens_max = tokens_max
        self._known: dict[bytes, Token] = {}
        self._refused: dict[bytes, Refused] = {}
        self._asking: dict[bytes, asyncio.Task[Token]] = {}
        self._hinting: asyncio.Task[None] | None = None
        self._hint_at = 0.0  # not sooner; of the loop's clock
        self._told = ""

    async def read(self, text: str) -> Token:
        """Whose token this is; the errors say why nobody's."""
        try:
            issuer, claims = tokens.genuine(text, self.issuers(), time.time())
        except TokenInvalid as problem:
            if problem.detail.get("why") == tokens.UNKNOWN_KEY:
                self._hint(text)
            raise
        if not issuer.foreign:
            return tokens.token_of(issuer, claims)
        digest = sha256(text.encode()).digest()
        known = self._known.get(digest)
        if known is not None and self._is_good(known):
            return known
        self._raise_refused(digest)
        # its own task: others wait for the same answer when this client has left
        return await asyncio.shield(self._asking.get(digest) or self._begin(digest, text))

    def _hint(self, text: str) -> None:
        """Lets the control plane see a key that nobody knows yet, now and then: it looks for new
        ones sooner."""
        now = asyncio.get_running_loop().time()
        issuer = self.issuers().get(str(tokens.issuer_named(text)))
        if self._url and now >= self._hint_at and issuer is not None and issuer.foreign:
            self._hint_at = now + HINT_S
            self._hinting = asyncio.create_task(self._hinted(text))

    async def _hinted(self, text: str) -> None:
        with contextlib.suppress(*NO_ANSWER):
            async with asyncio.timeout(ASK_S):
                await self._posted(text)

    def _is_good(self, token: Token) -> bool:
        same = self.issuers().get(token.issuer.name) is token.issuer
        return same and not is_past(token.until_ms)

    def _raise_refused(self, digest: bytes) -> None:
        refused = self._refused.get(digest)
        if refused is not None and asyncio.get_running_loop().time() < refused.until:
            raise TokenRefused(why=refused.why)

    def _begin(self, digest: bytes, text: str) -> "asyncio.Task[Token]":
        if not self._url:
            raise TokenInvalid(why="the door takes it only once it is changed for one of ours")
        if len(self._asking) >= ASKING_MAX:
            raise Overloaded
        task = self._asking[digest] = asyncio.create_task(self._ask(digest, text))
        task.add_done_callback(lambda done: self._asked(digest, done))
        return task

    def _asked(self, digest: bytes, task: "asyncio.Task[Token]") -> None:
        del self._asking[digest]
        if not task.cancelled():
            task.exception()  # whoever asked may have left

    async def _ask(self, digest: bytes, text: str) -> Token:
        try:
            async with asyncio.timeout(ASK_S):
                status, body = await self._posted(text)
            expected = status in (200, *REFUSALS)
            self._tell("" if expected else f"answers foreign tokens with status {status}")
        except NO_ANSWER as problem:
            self._tell(f"cannot be asked: {str(problem) or type(problem).__name__}")
            raise NotReady from None
        if status in REFUSALS:
            why = _why(body)
            until = asyncio.get_running_loop().time() + REFUSED_S
            _remember(self._refused, digest, Refused(why, until), REFUSED_MAX)
            raise TokenRefused(why=why)
        if status != 200:
            raise NotReady
        token = tokens.verify(str(_said(body).get("token")), self.issuers(), time.time())
        _remember(self._known, digest, token, self._tokens_max)
        return token

    async def _posted(self, text: str) -> tuple[int, bytes]:
        headers = (
            (b"authorization", b"Bearer " + text.encode()),
            (b"content-type", b"application/json"),
        )
        answer = await self._client.post(self._url + PATH, headers, b"{}")
        try:
            body = b""
            while (piece := await answer.read()) is not None:
                body += piece
                if len(body) > ANSWER_MAX:
                    raise Broken("it answers with too much")
            return answer.status, body
        finally:
            answer.close()

    def _tell(self, problem: str) -> None:
        """One line per change of state."""
        if problem != self._told:
            log.warning("the control plane %s", problem or "answers foreign tokens again")
        self._told = problem


def _remember(cache: dict[bytes, V], digest: bytes, value: V, most: int) -> None:
    if len(cache) >= most and digest not in cache:
        cache.pop(next(iter(cache)))
    cache[digest] = value


def _said(body: bytes) -> dict[str, object]:
    try:
        said = orjson.loads(body)
    except ValueError:
        said = None
    return said if isinstance(said, dict) else {}


def _why(body: bytes) -> str:
    error = _said(body).get("error")
    message = error.get("message") if isinstance(error, dict) else None
    return str(message or "the control plane does not say why.")[:SENTENCE_MAX]
