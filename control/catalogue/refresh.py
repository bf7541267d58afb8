"""Asks providers for their own lists of models: a few pages each, with the platform's key."""

import asyncio
import logging
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from control import sql
from control.catalogue import store
from control.catalogue.fields import Listed, ListInvalid
from control.catalogue.lists import first_path, next_path, read
from control.database import Connection, Pool
from control.fetch import FetchError, Fields, fetch
from control.providers.table import kind_of
from control.providers.trial import headers
from proxy.who.keyfile import KeyFile

log = logging.getLogger("opscenter.control.catalogue.refresh")

BYTES_MAX = 32 * 1024 * 1024  # of one page
PAGES_MAX = 20  # of one list
AT_ONE_TIME = 4  # providers
SHAPES = {"anthropic": "anthropic", "gemini": "google", "cohere": "cohere", "ollama": "ollama"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a provider's list said, or why it could not be had."""

    provider: str  # here
    catalogue: str  # there
    models: Sequence[Listed] = ()
    problem: str = ""


async def ask(
    rows: Sequence[asyncpg.Record], keys: KeyFile, tls: ssl.SSLContext
) -> Sequence[Asked]:
    """Of each of these providers; one that fails keeps no other from being asked."""
    places = asyncio.Semaphore(AT_ONE_TIME)

    async def one(row: asyncpg.Record) -> Asked:
        name, catalogue = row["name"], row["catalogue"]
        try:
            async with places:
                models = await _list(row, keys, tls)
        except (FetchError, ListInvalid, ValueError) as problem:
            return Asked(name, catalogue, problem=str(problem))
        return Asked(name, catalogue, models, "" if models else "its list is empty")

    return await asyncio.gather(*map(one, rows))


async def providers(pool: Pool, name: str | None = None) -> Sequence[asyncpg.Record]:
    """Those that have a list: the named one, or all."""
    found: Sequence[asyncpg.Record] = await pool.fetch(sql.load()["catalogue_providers"], name)
    return found


async def keep(conn: Connection, asked: Sequence[Asked]) -> dict[str, int]:
    """What was heard, in the catalogue; how many models of each are new. What could not be had
    changes nothing but the note that says so."""
    new = {}
    for one in asked:
        if one.problem:
            put = sql.load()["catalogue_source_put"]
            await conn.execute(put, f"list:{one.catalogue}", one.problem[:500], 0)
        else:
            new[one.provider] = await store.merge(conn, one.catalogue, one.models)
    return new


async def _list(row: asyncpg.Record, keys: KeyFile, tls: ssl.SSLContext) -> Sequence[Listed]:
    shape = SHAPES.get(row["adapter"], row["catalogue"])
    if shape in SHAPES.values() and row["adapter"] not in SHAPES:
        shape = "openai"  # the layer of theirs that is like OpenAI's
    root, said = _root(row["base_url"], shape), _headers(row, keys)
    found: list[Listed] = []
    path = first_path(shape)
    for _ in range(PAGES_MAX):
        page = read(shape, await fetch(root + path, tls, BYTES_MAX, said))
        found += page.models
        if not page.more:
            return found
        path = next_path(shape, page.more)
    raise ListInvalid(f"it has more than {PAGES_MAX} pages")


def _root(base_url: str, shape: str) -> str:
    """Lists lie beside the doors, under one version of the API."""
    root = base_url.rstrip("/")
    version = {"anthropic": "/v1", "google": "/v1beta", "cohere": "/v1", "ollama": ""}.get(shape)
    if version is None:
        return root
    for end in ("/v1", "/v2", "/v1beta", "/api"):
        root = root.removesuffix(end)
    return root + version


def _headers(row: asyncpg.Record, keys: KeyFile) -> Fields:
    kind = kind_of(row["kind"])
    if kind is None or not row["secret"]:
        return []
    return headers(kind.auth, keys.open(row["name"], row["base_url"], bytes(row["secret"])))
