"""What a key may be used for, and from where. Pure; asked only of keys that have such limits."""

from collections.abc import Callable, Container, Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from proxy.errors import AddressNotAllowed, ModelNotAllowed, OpsError, RouteNotAllowed, ScopeMissing
from proxy.types import KeyRecord, Model, Network

LLM, READS_MODELS = "llm", "models:read"  # scopes of keys; the first has the second in it
ADDRESS_MAX = 64  # characters; more was never an address
ADDRESSES_KEPT = 10_000  # that were looked at before


def forbidden(
    key: KeyRecord, path: str | None, client: str, model: Model | None
) -> OpsError | None:
    """Why this key may not do that, or None. Every key may ask about itself: no path, no model."""
    if key.addresses is not None and not is_within(client, key.addresses):
        return AddressNotAllowed(address=client or "unknown")
    if key.routes is not None and path is not None and path not in key.routes:
        return RouteNotAllowed(path=path[:200])
    if key.scopes is not None and path is not None:
        needed = READS_MODELS if model is None else LLM
        if key.scopes.isdisjoint((needed, LLM)):
            return ScopeMissing(scope=needed)
    if model is not None and not may_use(key.models, model):
        return ModelNotAllowed("model", model=model.id)
    return None


def may_use(allowed: Container[str] | None, model: Model) -> bool:
    """By whichever of its names the list has it."""
    return allowed is None or model.id in allowed or any(name in allowed for name in model.names)


def client_of(peer: str, forwarded: str, is_proxy: Callable[[str], bool]) -> str:
    """The client's address: what trusted proxies say, from the nearest on, else the other end."""
    while forwarded and is_proxy(peer):
        forwarded, _, hop = forwarded.rpartition(",")
        if not (hop := hop.strip()):
            break
        peer = hop[:ADDRESS_MAX]
    return peer[:ADDRESS_MAX]


def is_within(address: str, networks: Iterable[Network]) -> bool:
    found = _parsed(address[:ADDRESS_MAX])
    return found is not None and any(found in network for network in networks)


def network_of(address: str) -> bytes:
    """Who is counted together: an IPv4 address, or the 64 bits that an IPv6 customer has at least.
    What is no address is one of them too.
    """
    found = _parsed(address[:ADDRESS_MAX])
    return found.packed[:8] if found is not None else b""


@lru_cache(maxsize=ADDRESSES_KEPT)
def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """An IPv4 address that came as IPv6 is what it is."""
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return (isinstance(found, IPv6Address) and found.ipv4_mapped) or found
