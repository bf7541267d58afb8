"""Tries the servers that settings name, and says in a sentence what is wrong with one.

The sentences name the setting and the address, never the user's password.
"""

import asyncio
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from proxy.redis.address import seeds

CONNECT_SECONDS_MAX: Final = 5.0
DATABASE: Final = "OPSCENTER_DATABASE_URL"
REDIS: Final = "OPSCENTER_REDIS_URL"
DATABASE_SCHEMES: Final = ("postgresql", "postgres")
REDIS_SCHEMES: Final = ("redis", "rediss", "unix")


class WrongUrl(Exception):
    """A setting names a server that cannot be used."""

    def __init__(self, cause: str, cure: str) -> None:
        super().__init__(f"{cause} {cure}")
        self.cause = cause
        self.cure = cure


def check_form(redis_url: str, database_url: str = "") -> None:
    """Whether what is set has the form of a URL; asks nobody."""
    if redis_url:
        _place(redis_url, REDIS, REDIS_SCHEMES)
    if database_url:
        _place(database_url, DATABASE, DATABASE_SCHEMES)


async def check_database(url: str) -> None:
    import asyncpg

    where = _place(url, DATABASE, DATABASE_SCHEMES)
    try:
        connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS_MAX)
    except asyncpg.InvalidAuthorizationSpecificationError:
        raise WrongUrl(
            f"PostgreSQL at {where} refuses the user or the password in {DATABASE}.", "Mend them."
        ) from None
    except asyncpg.InvalidCatalogNameError:
        raise WrongUrl(
            f"PostgreSQL at {where} has no database of the name in {DATABASE}.",
            "Create it, or name another.",
        ) from None
    except asyncpg.PostgresError as problem:
        raise WrongUrl(
            f"PostgreSQL at {where} ({DATABASE}) refuses: {problem}.", "Mend what it names."
        ) from None
    except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError) as problem:
        raise _silent("PostgreSQL", where, DATABASE, problem) from None
    except ValueError:
        raise _unreadable(DATABASE, "postgresql://user:password@host:5432/database") from None
    await connection.close(timeout=CONNECT_SECONDS_MAX)


async def check_redis(url: str) -> None:
    """A single server, or every master of a cluster that any of several hosts tells of."""
    from redis.exceptions import AuthenticationError

    from control.store import AWAY, Store

    where = _place(url, REDIS, REDIS_SCHEMES)
    try:
        client = Store(url)
    except ValueError:
        raise _unreadable(REDIS, "redis://user:password@host:6379/0") from None
    try:
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            await client.ping()
    except AWAY as problem:
        if any(isinstance(one, AuthenticationError) for one in _chain(problem)):
            raise WrongUrl(
                f"Redis at {where} refuses the user or the password in {REDIS}.", "Mend them."
            ) from None
        raise _silent("Redis", where, REDIS, problem) from None
    finally:
        await client.close()


def _chain(problem: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised for: the client library wraps a refused password."""
    while problem is not None:
        yield problem
        problem = problem.__context__


def _place(url: str, setting: str, schemes: tuple[str, ...]) -> str:
    """The address, or the addresses, without user and password."""
    try:
        hosts = seeds(url) if setting == REDIS else (url,)
        parts = [urlsplit(one) for one in hosts]
        ports = [f":{one.port}" if one.port else "" for one in parts]
    except ValueError:
        raise _unreadable(setting, f"{schemes[0]}://user:password@host:port/name") from None
    if parts[0].scheme not in schemes:
        named = " or ".join(f"{scheme}://" for scheme in schemes)
        raise WrongUrl(f"{setting} is no address of a server.", f"It must begin with {named}.")
    names = (one.hostname or one.path or "its default address" for one in parts)
    return ", ".join(map(str.__add__, names, ports))


def _unreadable(setting: str, form: str) -> WrongUrl:
    return WrongUrl(
        f"{setting} cannot be read.",
        f"Write it as {form}, with special characters percent-encoded.",
    )


def _silent(name: str, where: str, setting: str, problem: BaseException) -> WrongUrl:
    if isinstance(problem, TimeoutError):
        reason = f"no answer within {CONNECT_SECONDS_MAX:.0f} s"
    else:
        reason = _reason(problem)
    return WrongUrl(
        f"{name} at {where} cannot be reached ({reason}).",
        f"Start it, mend {setting}, or leave {setting} out to use the server that `up` brings.",
    )


def _reason(problem: BaseException) -> str:
    """In the words of the system or the server, which know no password."""
    told = problem.strerror if isinstance(problem, OSError) else str(problem).strip().rstrip(".")
    return told or type(problem).__name__
