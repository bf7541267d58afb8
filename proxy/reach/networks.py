"""Which addresses a provider may have: judged where a connection is made, after its name was
resolved, so that a name that leads elsewhere a moment later leads nowhere. Pure.
"""

import ipaddress
from collections.abc import Callable, Iterable

from proxy.reach.incoming import Unreachable

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
Judge = Callable[[Ip], bool]

#: Beyond what is not global by itself: ways to write or to reach an IPv4 address by an IPv6 one,
#: and what was once or is in part private.
NOT_PUBLIC = tuple(
    ipaddress.ip_network(one)
    for one in (
        *("0.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "192.0.0.0/24", "192.88.99.0/24"),
        *("198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4"),
        *("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64"),
        *("2001::/23", "2002::/16", "3fff::/20", "5f00::/16"),
        *("fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
    )
)
#: Where a cloud tells a machine who it is, in IPv6; in IPv4 that is link-local.
CREDENTIALS = ipaddress.ip_network("fd00:ec2::/32")


class Forbidden(Unreachable):
    """Its name leads where this provider may not lie; nothing was sent there."""


def is_public(address: Ip) -> bool:
    """Anybody on the internet may be asked there, nobody of the own network is."""
    address = _meant(address)
    return address.is_global and not any(address in network for network in NOT_PUBLIC)


def is_possible(address: Ip) -> bool:
    """What the platform's administrators may name: their own networks too, but not where clouds
    answer with a machine's credentials, and not what is no host."""
    address = _meant(address)
    return not (
        address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address in CREDENTIALS
        or (address.version == 4 and address.is_reserved)
    )


def require(host: str, addresses: Iterable[str], judge: Judge) -> None:
    """All of a name's addresses, for the next connection could take another of them."""
    for text in addresses:
        if not judge(ipaddress.ip_address(text)):
            raise Forbidden(f"{host} leads to {text}, where this provider may not lie")


def _meant(address: Ip) -> Ip:
    """An IPv4 address that was written as an IPv6 one."""
    return getattr(address, "ipv4_mapped", None) or address
