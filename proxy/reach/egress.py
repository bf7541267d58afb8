"""The way out: straight to a provider, or by the HTTP proxy that the environment names. Pure.

HTTPS_PROXY, HTTP_PROXY and NO_PROXY mean what they mean to curl; loopback is never sent away.
"""

import ipaddress
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from proxy.declared import SettingsError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Hop:
    """An HTTP proxy on the way to a provider."""

    host: str
    port: int
    authorization: bytes = field(default=b"", repr=False)  # a header's value

    @classmethod
    def of(cls, url: str, name: str) -> "Hop":
        """From the value of a variable; no error repeats it, for it may hold a password."""
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port or 80
        except ValueError:
            raise SettingsError(f"{name} cannot be read; it takes http://HOST:PORT.") from None
        if parts.scheme != "http" or not parts.hostname:
            raise SettingsError(
                f"{name} is no http:// address; providers are reached directly or through an HTTP"
                " proxy. Correct it or unset it."
            )
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        login = f"{user}:{password}".encode() if user or password else b""
        return cls(parts.hostname, port, b"Basic " + b64encode(login) if login else b"")


@dataclass(frozen=True, slots=True)
class Exempt:
    """One entry of NO_PROXY."""

    suffix: str = ""  # with its dot
    network: Network | None = None
    port: int | None = None  # None: all

    def covers(self, host: str, address: Ip | None, port: int) -> bool:
        if self.port is not None and self.port != port:
            return False
        if address is not None:
            return self.network is not None and address in self.network
        return bool(self.suffix) and f".{host}".endswith(self.suffix)


@dataclass(frozen=True, slots=True)
class Egress:
    """What the environment says about the way out."""

    secure: Hop | None = None
    plain: Hop | None = None
    exempt: tuple[Exempt, ...] = ()
    always_direct: bool = False

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Egress":
        entries = _variable(environ, "NO_PROXY").replace(",", " ").split()
        return cls(
            _hop(environ, "HTTPS_PROXY"),
            _hop(environ, "HTTP_PROXY"),
            tuple(_exempt(entry) for entry in entries if entry != "*"),
            "*" in entries,
        )

    def hop(self, host: str, port: int, tls: bool) -> Hop | None:
        """The proxy on the way to a server, or None for the straight way."""
        found = self.secure if tls else self.plain
        if found is None or self.always_direct:
            return None
        host = host.rstrip(".").lower()
        address = _address(host)
        if _is_here(host, address) or any(e.covers(host, address, port) for e in self.exempt):
            return None
        return found


def _variable(environ: Mapping[str, str], name: str) -> str:
    """The small spelling wins, as everywhere."""
    return (environ.get(name.lower()) or environ.get(name) or "").strip()


def _hop(environ: Mapping[str, str], name: str) -> Hop | None:
    url = _variable(environ, name)
    return Hop.of(url, name) if url else None


def _exempt(entry: str) -> Exempt:
    """`name`, `.name`, `*.name`, an address or a network, each with a port where it has one."""
    network = _network(entry)
    if network is not None:
        return Exempt(network=network)
    name, colon, digits = entry.rpartition(":")
    if not colon or not digits.isdecimal():
        name, digits = entry, ""
    port = int(digits) if digits else None
    network = _network(name.strip("[]"))
    if network is not None:
        return Exempt(network=network, port=port)
    return Exempt("." + name.lower().removeprefix("*").strip("."), port=port)


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _address(host: str) -> Ip | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_here(host: str, address: Ip | None) -> bool:
    if address is None:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified
