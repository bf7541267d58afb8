"""What a provider's key looks like: enough to warn, never to refuse. Prefixes change, and only the
provider knows its keys. Pure.
"""

import re

from pydantic import SecretStr

from control.errors import Invalid
from control.providers.table import KINDS, Kind

SECRET_MAX = 4096
UNKNOWN = ("compatible", "vllm", "ollama")
MASKABLE_MIN = 16  # letters; of a shorter secret nothing is shown


def opened(given: SecretStr) -> str:
    """As it is sent: it travels in a header, so nothing in it may end one."""
    secret = given.get_secret_value().strip()
    if not re.fullmatch(r"[!-~]+", secret) or len(secret) > SECRET_MAX:
        raise Invalid("secret", why="A provider's key is visible ASCII only; copy it again.")
    return secret


def last4(secret: str) -> str:
    return secret[-4:] if len(secret) >= MASKABLE_MIN else "****"


def masked(last4: str | None) -> str | None:
    return f"…{last4}" if last4 else None


def warnings(kind: Kind, secret: str) -> list[str]:
    """What a person should look at again before he relies on this key; of servers that anybody may
    run nothing is known."""
    if kind.name in UNKNOWN:
        return []
    owner = _owner(secret)
    if owner is not None and owner[0].name != kind.name:
        other = owner[0].title
        return [
            f"THIS LOOKS LIKE A KEY OF {other.upper()} ({owner[1]}...), not of {kind.title}. "
            f"It is stored, and only a test decides; that shows it to {kind.title}."
        ]
    if owner is not None and owner[1] in kind.others:
        return [f"Keys of {kind.title} that begin with {owner[1]} serve no calls; test it."]
    if kind.prefixes and owner is None:
        usual = ", ".join(kind.prefixes)
        return [f"Keys of {kind.title} usually begin with {usual}; this one does not. Test it."]
    return []


def _owner(secret: str) -> tuple[Kind, str] | None:
    """Whose keys begin so: the longest beginning is the surest."""
    found = [
        (kind, prefix)
        for kind in KINDS.values()
        for prefix in (*kind.prefixes, *kind.others)
        if secret.startswith(prefix)
    ]
    return max(found, key=lambda one: len(one[1]), default=None)
