"""The processes and what prepares them: up, proxy, control, drain, migrate, setup."""

import os
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from control.cli.client import settings
from control.cli.output import Failed, Json, say, show_json

if TYPE_CHECKING:
    from control.bootstrap import FirstAccess
    from control.settings import ControlSettings

T = TypeVar("T")


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: opscenter up")(up)
    app.command(epilog="Example: OPSCENTER_WORKERS=4 opscenter proxy")(proxy)
    app.command(epilog="Example: OPSCENTER_CONTROL_PORT=9085 opscenter control")(control)
    app.command(epilog="Example: opscenter drain")(drain)
    app.command(epilog="Example: OPSCENTER_DATABASE_URL=postgresql://... opscenter migrate")(
        migrate
    )
    app.command(epilog="Example: OPSCENTER_ADMIN_EMAIL=me@example.com opscenter setup")(setup)


def up() -> None:
    """Start everything on this machine: servers, migrations, control, drain, proxies.

    Shows the first administrator and the first API key once. Ctrl-C stops all of it.
    """
    from control.machine import up as program

    raise typer.Exit(program.run(settings()))


def proxy() -> None:
    """Run the door's proxy workers alone, for machines that serve nothing else.

    Needs OPSCENTER_REDIS_URL and the proxy key file (`opscenter secrets proxy-file`).
    """
    from proxy.declared import SettingsError, load
    from proxy.machine import supervisor
    from proxy.settings import Settings

    try:
        wanted = load(Settings, os.environ, strict=False)
    except SettingsError as problem:
        raise Failed(str(problem)) from None
    _check_form(wanted.redis_url)
    raise typer.Exit(supervisor.run(wanted))


def control() -> None:
    """Run the control API and its plugins."""
    from control import main as program

    raise typer.Exit(program.run(_with_servers()))


def drain() -> None:
    """Run the drain: usage into the ledger, changes to Redis, expired holds given back."""
    from control.books import drain as program

    raise typer.Exit(program.run(_with_servers()))


def migrate(json: Json = False) -> None:
    """Bring the database to this program's schema; safe to repeat, never goes backwards."""
    from control import migrate as program

    applied = _run(program.migrate(_with_servers().database))
    if json:
        show_json({"applied": applied})
    else:
        say(f"Applied {', '.join(applied)}." if applied else "The schema is up to date.")


def setup(json: Json = False) -> None:
    """Make the first organisation, its administrator, an API key and credits to try.

    Does nothing where an organisation exists. Password and key are shown this once.
    """
    first = _run(_setup(_with_servers()))
    if json:
        show_json(_plain(first))
    elif first is None:
        say("This Ops-Center is set up already; add people with `opscenter user create`.")
    else:
        say("Shown this once; keep them safe:")
        say(f"  e-mail    {first.email}")
        say(f"  password  {first.password}")
        say(f"  API key   {first.api_key}")


async def _setup(wanted: "ControlSettings") -> "FirstAccess | None":
    from control import bootstrap, database, migrate

    pool = await database.connect(wanted)
    try:
        async with pool.acquire() as conn:
            await migrate.check(conn)
            return await bootstrap.setup(wanted, conn)
    finally:
        await pool.close()


def _with_servers() -> "ControlSettings":
    """The settings, whose URLs have the form of one."""
    wanted = settings()
    _check_form(wanted.redis_url, wanted.database_url)
    return wanted


def _check_form(redis_url: str, database_url: str = "") -> None:
    from control.machine import reach

    try:
        reach.check_form(redis_url, database_url)
    except reach.WrongUrl as problem:
        raise Failed(str(problem)) from None


def _plain(first: "FirstAccess | None") -> dict[str, Any]:
    if first is None:
        return {"made": False}
    return {
        "made": True,
        "email": first.email,
        "password": first.password,
        "api_key": first.api_key,
    }


def _run(work: Coroutine[Any, Any, T]) -> T:
    """What the database says becomes a sentence."""
    import asyncio

    import asyncpg

    from control.database import AWAY, DatabaseError
    from control.migrate import SchemaError
    from control.roots import SecretError

    try:
        return asyncio.run(work)
    except (SchemaError, DatabaseError, SecretError) as problem:
        raise Failed(str(problem)) from None
    except AWAY as problem:
        raise Failed(
            f"PostgreSQL cannot be reached: {problem}. Start it (`opscenter up`), "
            "or set OPSCENTER_DATABASE_URL."
        ) from None
    except asyncpg.PostgresError as problem:
        raise Failed(f"PostgreSQL refused: {problem}. Check OPSCENTER_DATABASE_URL.") from None
