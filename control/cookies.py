"""A sign-in that a browser keeps: the session's token in a cookie that no script can read.

A cookie goes along whoever made a page send the request, so whatever changes something has to come
from a page of this Ops-Center and has to know a second secret, which other pages cannot read.
"""

import hmac
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import Response

from control.access import SESSION_BEGINS
from control.errors import CrossSite

NAME: Final = "__Host-opscenter"  # for this host alone, on every path, never in the clear
CSRF_HEADER: Final = "x-ops-csrf"
SAFE: Final = ("GET", "HEAD")


def session_of(connection: HTTPConnection) -> str | None:
    """The session that the browser's cookie carries; raises where a request may be a forgery."""
    token = connection.cookies.get(NAME, "")
    if not token.startswith(SESSION_BEGINS):  # no key or token of another kind goes this way
        return None
    if connection.scope["method"] not in SAFE:
        require_own_page(connection)
        shown = connection.headers.get(CSRF_HEADER, "").encode()
        if not hmac.compare_digest(shown, csrf_of(token).encode()):
            raise CrossSite(why="the header X-Ops-Csrf is not the one of this sign-in")
    return token


def csrf_of(token: str) -> str:
    """What a page of ours sends beside the cookie; tells nothing of the session's token."""
    return hmac.new(token.encode(), b"csrf", sha256).hexdigest()


def require_own_page(connection: HTTPConnection) -> None:
    """By what browsers say of the page and pages cannot change; JSON, which no form can send."""
    headers = connection.headers
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise CrossSite(why="its Content-Type is not application/json")
    site = headers.get("sec-fetch-site")
    if site is not None:
        if site != "same-origin":
            raise CrossSite(why="the browser says that another site's page made it")
        return
    try:
        origin = urlsplit(headers.get("origin", "")).netloc.lower()
    except ValueError:
        origin = ""
    if not origin or origin != headers.get("host", "").strip().lower():
        raise CrossSite(why="its Origin is not this host")


def give(response: Response, token: str, seconds: int) -> None:
    _set(response, token, seconds)


def take_away(response: Response) -> None:
    _set(response, "", 0)


def _set(response: Response, token: str, seconds: int) -> None:
    response.set_cookie(
        NAME, token, max_age=seconds, path="/", secure=True, httponly=True, samesite="lax"
    )
