"""The thin HTTP/1.1 client of the request path: one pool of connections to each provider.

It knows nothing of providers and follows no redirect. Everything that is not on the request path
uses a client of its own.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, urlsplit

from proxy.metrics import Metrics
from proxy.reach import dial
from proxy.reach.egress import Egress
from proxy.reach.incoming import Answer, Broken, Stale, TooLate, Unreachable
from proxy.reach.networks import is_possible, is_public
from proxy.reach.pool import Exhausted, Origin, Pool
from proxy.settings import Settings

__all__ = ["Broken", "Client", "Exhausted", "Origin", "Pool", "Stale", "TooLate", "Unreachable"]

URLS_MAX = 10_000  # that are remembered taken apart
POST = b"POST"  # what nearly all requests are
POOLS_MAX = 10_000  # beyond, those without a connection go
Headers = tuple[tuple[bytes, bytes], ...]


class Tries(Protocol):
    """Whoever counts how often a request was sent."""

    attempts: int


@dataclass(frozen=True, slots=True)
class Place:
    """A URL taken apart: the pool of its origin, and how every request to it begins."""

    pool: Pool
    begin: bytes
    breaks: int  # of lines in it

    def head(self, headers: Headers, length: int) -> bytes:
        lines = b"\r\n".join((self.begin, *map(b": ".join, headers)))
        breaks = self.breaks + len(headers)
        if lines.count(b"\n") != breaks or lines.count(b"\r") != breaks:
            raise Unreachable("its key or a header holds a line break")
        return b"%b\r\ncontent-length: %d\r\n\r\n" % (lines, length)


class Client:
    """The pools of one worker."""

    def __init__(
        self, settings: Settings, metrics: Metrics, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._egress = Egress.of(environ)
        self._tls = dial.trust(settings.upstream_ca_file)
        self._pools: dict[tuple[Origin, bool], Pool] = {}
        self._places: dict[str, Place] = {}
        self._public_places: dict[str, Place] = {}

    def waiting(self, url: str, public: bool = False) -> int:
        return self._place(url, public).pool.waiting

    async def post(
        self,
        url: str,
        headers: Headers,
        body: bytes,
        tries: Tries | None = None,
        public: bool = False,
        method: bytes = POST,
    ) -> Answer:
        """Sends one request; a kept connection that had already ended is replaced once, and that
        counts as a further try. `public`: to a public address or to none."""
        known = self._public_places if public else self._places
        place = known.get(url) or self._place(url, public)
        head, pool = place.head(headers, len(body)), place.pool
        if method is not POST:
            head = method + head[len(POST) :]
        connection = pool.kept() or await pool.take()
        try:
            return await connection.request(head, body)
        except Stale:
            pass
        if tries is not None:
            tries.attempts += 1
        self._metrics.add(self._metrics.attempts)
        connection = await pool.take(fresh=True)
        return await connection.request(head, body)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()

    def _place(self, url: str, public: bool) -> Place:
        known = self._public_places if public else self._places
        found = known.get(url)
        if found is None:
            if len(known) >= URLS_MAX:
                known.clear()
            try:
                origin, target = taken_apart(url)
            except ValueError:
                raise Unreachable("its base URL is no http:// or https:// address") from None
            found = known[url] = self._new_place(origin, target, public)
        return found

    def _new_place(self, origin: Origin, target: bytes, public: bool) -> Place:
        hop = self._egress.hop(origin.host, origin.port, origin.tls)
        pool = self._pools.get((origin, public))
        if pool is None:
            self._forget_pools()
            judge = is_public if public else is_possible
            pool = Pool(origin, hop, self._settings, self._metrics, self._tls, judge)
            self._pools[origin, public] = pool
        begin = b"\r\nhost: " + origin.authority
        if hop is not None and not origin.tls:  # such a proxy reads the request itself
            target = b"http://" + origin.authority + target
            if hop.authorization:
                begin += b"\r\nproxy-authorization: " + hop.authorization
        begin = POST + b" " + target + b" HTTP/1.1" + begin
        return Place(pool, begin, begin.count(b"\n"))

    def _forget_pools(self) -> None:
        """Places that name one which has gone are taken apart anew."""
        if len(self._pools) >= POOLS_MAX:
            self._places.clear()
            self._public_places.clear()
            self._pools = {at: pool for at, pool in self._pools.items() if pool.in_use}


def taken_apart(url: str) -> tuple[Origin, bytes]:
    """The origin of a URL, and the request target on it."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{parts.scheme}://{parts.hostname} is no address of a provider")
    tls = parts.scheme == "https"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = parts.hostname.encode("ascii" if ":" in parts.hostname else "idna").decode()
    port = parts.port or (443 if tls else 80)
    return Origin(host, port, tls), quote(target, safe="/%:@!$&'()*+,;=~?[]").encode()
