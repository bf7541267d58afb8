"""Keys of providers that lie in the environment of the control plane: used where none was entered.

They are kept sealed beside those that were, so that every process can publish them; a start without
the variable takes them away. Each goes to its provider's own address alone.
"""

import logging
from collections.abc import Mapping

from control import sql
from control.database import Pool
from control.providers.keys import last4
from control.providers.table import KINDS
from proxy.who.keyfile import KeyFile

log = logging.getLogger("opscenter.control.providers.environment")

Kept = tuple[bytes | None, str | None]  # sealed, and its last letters


def kept(name: str, kind: str, base_url: str, keys: KeyFile, environ: Mapping[str, str]) -> Kept:
    """What a provider's row holds of the environment."""
    known = KINDS.get(kind)
    if known is None or not known.base_url or base_url != known.base_url:
        return None, None
    secret = next((found for one in known.variables if (found := environ.get(one, "").strip())), "")
    if not secret or not all("!" <= letter <= "~" for letter in secret):
        return None, None
    return keys.seal(name, base_url, secret), last4(secret)


async def refresh(pool: Pool, keys: KeyFile, environ: Mapping[str, str]) -> None:
    """Writes only what differs: each write makes the proxies read everything anew."""
    query = sql.load()
    for row in await pool.fetch(query["provider_environment"]):
        place = (row["name"], row["base_url"])
        sealed, last = kept(row["name"], row["kind"], row["base_url"], keys, environ)
        if _plain(keys, place, sealed) != _plain(keys, place, row["env_secret"]):
            await pool.execute(query["provider_environment_put"], row["name"], sealed, last)
            log.info("the environment's key of provider %s has changed", row["name"])


def _plain(keys: KeyFile, place: tuple[str, str], sealed: bytes | None) -> str:
    if sealed is None:
        return ""
    try:
        return keys.open(*place, sealed)
    except ValueError:
        return "another"
