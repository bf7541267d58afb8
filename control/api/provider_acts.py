"""What is done to providers and their keys, by whichever route: each change in one transaction, the
keys sealed for the address that they were entered for.
"""

import os
from collections.abc import Mapping
from typing import Any

import asyncpg
from fastapi import Request, Response
from pydantic import BaseModel, SecretStr

from control import sql
from control.api.write import Act, Change, Done, write
from control.database import Connection
from control.destinations import checked
from control.errors import Conflict, Invalid, NotFound
from control.providers import environment
from control.providers.keys import last4, masked, opened, warnings
from control.providers.table import KINDS, Kind, kind_of
from control.providers.trial import trial
from control.state import State, state_of
from plugins.access import Caller
from proxy.providers.catalog import ADAPTERS
from proxy.reach.dial import trust
from proxy.reach.networks import Judge, is_possible

SNAPSHOT = (Change("snapshot"),)


def known(name: str) -> Kind:
    """A kind of provider that one asks for."""
    found = kind_of(name)
    if found is None:
        raise Invalid("kind", why=f"There is no kind {name}; take one of {', '.join(KINDS)}.")
    return found


def spoken(adapter: str) -> str:
    if adapter not in ADAPTERS or adapter == "echo":
        names = ", ".join(name for name in ADAPTERS if name != "echo")
        raise Invalid("adapter", why=f"There is no adapter {adapter}; take one of {names}.")
    return adapter


def address(kind: Kind, given: str | None, *, private: bool, switch: str) -> str:
    url = given or kind.base_url
    if not url:
        raise Invalid("base_url", why=f"{kind.title} has no address of its own; give a base URL.")
    if url == kind.base_url and kind.is_everywhere:
        return url
    return checked(url, private=private, switch=switch)


def shown(row: Mapping[str, Any] | asyncpg.Record, said: list[str]) -> dict[str, Any]:
    """As both lists show a provider; of its key only the last letters."""
    source = "stored" if row["secret_last4"] else "environment" if row["env_last4"] else None
    last = row["secret_last4"] or row["env_last4"]
    return {**dict(row), "secret": masked(last), "source": source, "warnings": said}


async def rows(state: State, name: str | None = None) -> list[asyncpg.Record]:
    return list(await state.pool.fetch(sql.load()["provider_list"], name))


async def add(
    request: Request,
    caller: Caller,
    shape: type[BaseModel],
    name: str,
    kind: Kind,
    base_url: str | None,
    secret: SecretStr | None,
    adapter: str | None = None,
) -> Response:
    state = state_of(request)
    private = state.settings.private_providers
    url = address(kind, base_url, private=private, switch="PRIVATE_PROVIDERS")
    speaks = spoken(adapter or kind.adapter_at(url))
    text = opened(secret) if secret is not None else ""
    said = warnings(kind, text) if text else []
    stored = (state.keys.seal(name, url, text), last4(text)) if text else (None, None)
    kept = environment.kept(name, kind.name, url, state.keys, os.environ)
    row = (name, kind.name, speaks, url, dict(kind.quirks), _keyed(kind, url), *stored, *kept)

    async def effect(conn: Connection) -> Done:
        if await conn.fetchrow(sql.load()["provider_add"], *row) is None:
            raise Conflict(
                why=f"There is a provider {name} already; remove it first or rename this one."
            )
        return await _done(conn, shape, name, said, 201)

    detail = {"kind": kind.name, "adapter": speaks, "base_url": url, "with_secret": bool(text)}
    return await write(
        request, caller, Act("provider.add", f"provider:{name}", None, detail), effect
    )


async def edit(
    request: Request,
    caller: Caller,
    shape: type[BaseModel],
    name: str,
    *,
    base_url: str | None = None,
    enabled: bool | None = None,
    secret: SecretStr | None = None,
    without_key: bool = False,
) -> Response:
    """A key goes to no other address than it was entered for: another address drops it, unless a
    key for that one comes along."""
    state = state_of(request)
    text = opened(secret) if secret is not None else ""

    async def effect(conn: Connection) -> Done:
        row = await conn.fetchrow(sql.load()["provider_show"], name)
        if row is None:
            raise missing()
        kind, url = KINDS.get(row["kind"], KINDS["compatible"]), row["base_url"]
        speaks = row["adapter"]
        if base_url is not None and speaks != "echo":
            private = state.settings.private_providers
            url = address(kind, base_url, private=private, switch="PRIVATE_PROVIDERS")
            if speaks == kind.adapter_at(row["base_url"]):  # not one that was asked for
                speaks = kind.adapter_at(url)
        stored = (row["secret"], row["secret_last4"])
        if without_key or url != row["base_url"]:
            stored = (None, None)
        if text:
            stored = (state.keys.seal(name, url, text), last4(text))
        kept = environment.kept(name, kind.name, url, state.keys, os.environ)
        serves = row["enabled"] if enabled is None else enabled
        changed = (name, url, serves, _keyed(kind, url), *stored, *kept, speaks)
        await conn.execute(sql.load()["provider_edit"], *changed)
        return await _done(conn, shape, name, warnings(kind, text) if text else [])

    detail = {"base_url": base_url, "enabled": enabled, "with_secret": bool(text)}
    detail = {one: value for one, value in detail.items() if value is not None}
    act = Act(
        "provider.secret" if text or without_key else "provider.edit",
        f"provider:{name}",
        None,
        detail,
    )
    return await write(request, caller, act, effect)


async def test(request: Request, caller: Caller, shape: type[BaseModel], name: str) -> Response:
    """The cheap call with the key that is used now; what it found is kept."""
    state = state_of(request)
    row = await state.pool.fetchrow(sql.load()["provider_show"], name)
    if row is None or row["adapter"] == "echo":
        raise missing()
    kind, url = KINDS.get(row["kind"], KINDS["compatible"]), row["base_url"]
    sealed = row["secret"] or row["env_secret"]
    try:
        secret = state.keys.open(name, url, sealed) if sealed else ""
    except ValueError as problem:
        raise Conflict(why=f"The key cannot be read: {problem}. Enter it again.") from None
    found = await tried(state, kind, url, secret)

    async def effect(conn: Connection) -> Done:
        now = await conn.fetchrow(sql.load()["provider_show"], name)
        if now is None or (now["base_url"], now["secret"] or now["env_secret"]) != (url, sealed):
            raise replaced_meanwhile()
        await conn.execute(sql.load()["key_test_put"], f"provider:{name}", *found)
        return await _done(conn, shape, name, [])

    act = Act("provider.test", f"provider:{name}", None, {"result": found[0]})
    return await write(request, caller, act, effect)


async def tried(
    state: State, kind: Kind, url: str, secret: str, judge: Judge = is_possible
) -> tuple[str, str]:
    if _keyed(kind, url) and not secret:
        raise Conflict(why="There is no key to test; enter one first.")
    found = await trial(kind, url, secret, trust(state.settings.upstream_ca_file), judge)
    return found.result, found.said


def _keyed(kind: Kind, url: str) -> bool:
    """At an address of one's own none may be wanted."""
    return kind.needs_key and url == kind.base_url


def replaced_meanwhile() -> Conflict:
    return Conflict(why="Its key or address was changed while it was tested. Test it again.")


def missing() -> NotFound:
    return NotFound(what="provider", listing="opscenter provider list")


async def _done(
    conn: Connection, shape: type[BaseModel], name: str, said: list[str], status: int = 200
) -> Done:
    row = await conn.fetchrow(sql.load()["provider_list"], name)
    assert row is not None
    return Done(shape.model_validate(shown(row, said)), status, SNAPSHOT)
