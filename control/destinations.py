"""Where a provider may lie: the address an administrator enters, checked before it is stored.

Looks no name up: what a name points to is checked at each connection.
"""

import ipaddress
from urllib.parse import urlsplit

from control.errors import Invalid

URL_LENGTH_MAX = 500
PUBLIC_PORTS = frozenset({443, 8443})
# Names and addresses that clouds answer with the machine's own credentials.
FORBIDDEN_NAMES = frozenset({"metadata", "metadata.google.internal", "instance-data"})

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def checked(base_url: str, *, private: bool, switch: str = "PRIVATE_PROVIDERS") -> str:
    """The address as it is stored; raises Invalid with the reason. `private`: such are welcome,
    as the setting `switch` says."""
    host, port, scheme = _parts(base_url)
    address = _address(host)
    if host in FORBIDDEN_NAMES or (address is not None and _never(address)):
        raise _invalid("it is an address that no provider lies at")
    if _is_private(host, address):
        if not private:
            raise _invalid(f"private addresses are switched off (OPSCENTER_{switch})")
    elif scheme != "https" or port not in PUBLIC_PORTS:
        raise _invalid("a provider outside your network is reached by https on port 443 or 8443")
    return base_url.rstrip("/")


def _parts(base_url: str) -> tuple[str, int, str]:
    if len(base_url) > URL_LENGTH_MAX or not base_url.isascii() or not base_url.isprintable():
        raise _invalid("it is too long or holds letters that a URL does not have")
    try:
        parts = urlsplit(base_url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    except ValueError:
        raise _invalid("it is no URL") from None
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in ("http", "https") or not host or "\\" in base_url or " " in base_url:
        raise _invalid("it is no http(s) URL")
    if parts.username or parts.password or "@" in parts.netloc or parts.query or parts.fragment:
        raise _invalid("it holds a user, a password, a query or a fragment")
    return host, port, parts.scheme


def _address(host: str) -> Address | None:
    try:
        address: Address = ipaddress.ip_address(host)
    except ValueError:
        # 127.1, 0x7f000001 and 2130706433 are addresses to some resolvers and names to others.
        if host.rsplit(".", 1)[-1].replace("x", "0").isalnum() and _looks_numeric(host):
            raise _invalid("write an IP address in full") from None
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def _looks_numeric(host: str) -> bool:
    last = host.rsplit(".", 1)[-1]
    return last.isdigit() or last.startswith("0x")


def _never(address: Address) -> bool:
    return (
        address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or (address.is_reserved and not address.is_loopback)
    )


def _is_private(host: str, address: Address | None) -> bool:
    if address is not None:
        return not address.is_global
    return host == "localhost" or "." not in host or host.endswith((".local", ".internal", ".lan"))


def _invalid(why: str) -> Invalid:
    return Invalid("base_url", why=f"The base URL cannot be used: {why}.")
