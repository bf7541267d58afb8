"""Whether a key works: one cheap call to the place it was entered for, and what its answer means.

Follows nothing, repeats no key, and never asks anywhere but there.
"""

import ssl
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import httptools
import orjson

from control.fetch import WHOLE_S, ask
from control.providers.table import ANTHROPIC_VERSION, Auth, Kind
from proxy.masks import mask
from proxy.reach import dial
from proxy.reach.incoming import Unreachable
from proxy.reach.networks import Judge, is_possible

ANSWER_MAX = 4 * 2**20  # bytes; some lists of models are long
SAID_MAX = 300  # characters

Result = Literal["accepted", "limited", "refused", "unknown", "unreachable"]


@dataclass(frozen=True, slots=True)
class Found:
    result: Result
    said: str


async def trial(
    kind: Kind, base_url: str, secret: str, tls: ssl.SSLContext, judge: Judge = is_possible
) -> Found:
    """Asks the provider; `judge` tells where it may lie."""
    url = place(kind, base_url)
    try:
        status, body, _whole = await ask(
            kind.test.method, url, headers(kind.auth, secret), tls, ANSWER_MAX, judge
        )
    except TimeoutError:
        return Found("unreachable", f"It has not answered within {WHOLE_S:.0f} seconds.")
    except (Unreachable, httptools.HttpParserError) as problem:
        return Found("unreachable", f"It cannot be reached: {problem}.")
    except (OSError, ValueError) as problem:
        return Found("unreachable", f"It cannot be reached: {dial.words(problem)}.")
    return meaning(kind, status, body, secret)


def place(kind: Kind, base_url: str) -> str:
    """The address of the cheap call; another host than the key's own is asked only by default."""
    path = kind.test.path
    if path.startswith("https://"):
        return path if base_url == kind.base_url else f"{base_url}/models"
    if path.startswith("/"):
        parts = urlsplit(base_url)
        return f"{parts.scheme}://{parts.netloc}{path}"
    if kind.adapter == "anthropic" and not base_url.endswith("/v1"):
        return f"{base_url}/v1/{path}"
    return f"{base_url}/{path}"


def headers(auth: Auth, secret: str) -> list[tuple[str, str]]:
    if not secret:
        return []
    if auth == "x-api-key":
        return [(auth, secret), ("anthropic-version", ANTHROPIC_VERSION)]
    if auth in ("x-goog-api-key", "api-key"):
        return [(auth, secret)]
    return [("authorization", f"Bearer {secret}")]


def meaning(kind: Kind, status: int, body: bytes, secret: str) -> Found:
    """Of an answer. Pure."""
    said = _said(body, secret)
    if status == 200:
        if kind.test.valid and not _is_true(body, kind.test.valid):
            return Found("refused", f"{kind.title} says that this key is not valid.")
        return Found("accepted", f"{kind.title} answers and takes this key.")
    named = kind.test.refused and kind.test.refused.encode() in body
    if status == 401 or (status == 400 and named):
        return Found("refused", f"{kind.title} refuses this key (status {status}): {said}")
    if status == 403:
        return Found("limited", f"The key is known, but may not do this (status 403): {said}")
    if status == 429:
        return Found("limited", f"The key is known, but at a limit (status 429): {said}")
    if 300 <= status < 400:
        return Found("unknown", f"It answers with a redirect ({status}), which nothing follows.")
    if status in (404, 405):
        return Found("unknown", f"It answers, but not to this question (status {status}).")
    return Found("unknown", f"It answers with status {status}: {said}")


def _said(body: bytes, secret: str) -> str:
    try:
        whole = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "no reason given."
    if isinstance(whole, list):
        whole = whole[0] if whole else None
    error = whole.get("error", whole) if isinstance(whole, dict) else whole
    message = error.get("message") if isinstance(error, dict) else error
    return mask(str(message or "no reason given."), secret)[:SAID_MAX]


def _is_true(body: bytes, name: str) -> bool:
    try:
        whole = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(whole, dict) and whole.get(name) is True
