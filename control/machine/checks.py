"""What `opscenter doctor` looks at: each check is a question with one finding and its cure.

Changes nothing and waits for nobody longer than WAIT_S.
"""

import asyncio
import os
import resource
import shutil
import socket
import sys
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import packages_distributions
from urllib.error import URLError

import asyncpg

from control import migrate, store
from control.database import AWAY
from control.fetch import FetchError
from control.idp import Idp
from control.machine import reach, redis_health
from control.machine.finding import Finding, fail, ok, warn
from control.settings import ControlSettings

WAIT_S = 5
PYTHON_MIN = (3, 11)
DISK_FREE_WARN = 2 * 2**30  # bytes
DISK_FREE_FAIL = 256 * 2**20
FILES_MIN = 4096
POSTGRES_MIN = 15
OURS = ("proxy", "plugins", "control")


Check = Callable[[ControlSettings], Awaitable[list[Finding]]]


async def examine(settings: ControlSettings) -> list[Finding]:
    """All findings; a check that breaks is a finding itself."""
    findings: list[Finding] = []
    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        try:
            async with asyncio.timeout(2 * WAIT_S):
                findings += await check(settings)
        except Exception as problem:
            says = str(problem) or type(problem).__name__
            findings.append(fail(name, f"could not be examined: {says}", "Mend what it names."))
    return findings


# This machine ---------------------------------------------------------------------


async def python(settings: ControlSettings) -> list[Finding]:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < PYTHON_MIN:
        return [fail("python", found, "Install Python 3.11 or newer.")]
    return [ok("python", found)]


async def names(settings: ControlSettings) -> list[Finding]:
    """Our folders have plain names; nobody else may bring packages of the same."""
    strangers = strangers_among(packages_distributions())
    if not strangers:
        return [ok("package names", "nobody else brings proxy, plugins or control")]
    who = ", ".join(f"{package} of {owner}" for package, owner in strangers)
    return [fail("package names", f"others bring {who}", "Use a virtual environment of its own.")]


def strangers_among(found: Mapping[str, list[str]]) -> list[tuple[str, str]]:
    return [
        (package, owner)
        for package in OURS
        for owner in sorted(set(found.get(package, ())))
        if owner.lower() != "opscenter"
    ]


async def home(settings: ControlSettings) -> list[Finding]:
    if not settings.home.is_dir():
        cure = "Run `opscenter up`, or set OPSCENTER_HOME."
        return [warn("home", f"{settings.home} is not there yet", cure)]
    findings = []
    for folder in (settings.home, settings.home / "secrets"):
        if folder.is_dir() and folder.stat().st_mode & 0o077:
            says = f"{folder} is open to others"
            level = fail if folder.name == "secrets" else warn
            findings.append(level("home", says, f"Run `chmod 700 {folder}`."))
    if not os.access(settings.home, os.W_OK):
        says = f"{settings.home} cannot be written"
        findings.append(fail("home", says, "Give it to the user that runs Ops-Center."))
    return findings or [ok("home", f"{settings.home}, for its owner alone")]


async def disk(settings: ControlSettings) -> list[Finding]:
    place = settings.home
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    says = f"{free / 2**30:.1f} GiB free at {place}"
    if free < DISK_FREE_FAIL:
        return [fail("disk", says, "Free some room, or move OPSCENTER_HOME.")]
    if free < DISK_FREE_WARN:
        return [warn("disk", says, "Free some room before usage fills it.")]
    return [ok("disk", says)]


async def open_files(settings: ControlSettings) -> list[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FILES_MIN:
        cure = f"Raise it: `ulimit -Hn {FILES_MIN}`, or LimitNOFILE in the unit."
        return [warn("open files", f"at most {hard} per process", cure)]
    return [ok("open files", f"{soft} now, at most {hard}")]


async def key_file(settings: ControlSettings) -> list[Finding]:
    from control.roots import SecretError
    from control.secrets import verify

    try:
        problem = verify(settings)
    except SecretError as error:
        return [fail("secrets", str(error), "See above.")]
    if problem:
        return [warn("secrets", problem, "It is made at the next start (`opscenter up`).")]
    return [ok("secrets", "the proxy key file is that of the root key")]


async def identity_provider(settings: ControlSettings) -> list[Finding]:
    if not settings.idp_issuer:
        return []
    idp = Idp(settings)
    try:
        await idp.refresh()
    except FetchError as problem:
        cure = "Correct OPSCENTER_IDP_JWKS_URL; its tokens are refused while there are no keys."
        return [fail("identity provider", str(problem), cure)]
    return [ok("identity provider", f"shows {idp.keys} keys that tokens may be signed with")]


# The servers -------------------------------------------------------------------------


async def redis(settings: ControlSettings) -> list[Finding]:
    if settings.redis_url:
        try:
            await reach.check_redis(settings.redis_url)
        except reach.WrongUrl as problem:
            return [fail("redis", problem.cause, problem.cure)]
    client = store.Store(settings.redis)
    try:
        async with asyncio.timeout(WAIT_S):
            told = str(await client.server())
            infos = await client.infos("everything")
            scripts = await client.command("EVAL", "return 7", 0)
    except store.AWAY as problem:
        return [_not_running("redis", "Valkey", reach.REDIS, problem)]
    finally:
        await client.close()
    findings = redis_health.judge(infos, told)
    if scripts != 7:
        findings.append(fail("redis scripts", "scripts do not run", "Allow EVAL and EVALSHA."))
    return findings


async def postgres(settings: ControlSettings) -> list[Finding]:
    if settings.database_url:
        try:
            await reach.check_database(settings.database_url)
        except reach.WrongUrl as problem:
            return [fail("postgres", problem.cause, problem.cure)]
    try:
        conn = await asyncpg.connect(settings.database, timeout=WAIT_S)
    except (asyncpg.PostgresError, ValueError, *AWAY) as problem:
        return [_not_running("postgres", "PostgreSQL", reach.DATABASE, problem)]
    try:
        version = conn.get_server_version()
        text = str(await conn.fetchval("SHOW server_version")).partition(" ")[0]
        findings = [ok("postgres", text)]
        if version.major < POSTGRES_MIN:
            says = f"{version.major} is too old"
            findings = [fail("postgres", says, f"Upgrade to {POSTGRES_MIN} or newer.")]
        return [*findings, await _schema(conn)]
    finally:
        await conn.close(timeout=WAIT_S)


def _not_running(name: str, server: str, setting: str, problem: BaseException) -> Finding:
    says = f"the embedded {server} does not answer ({str(problem) or 'no answer in time'})"
    cure = f"Start it with `opscenter up`. If `up` runs with {setting}, set that here too."
    return fail(name, says, cure)


async def _schema(conn: "asyncpg.Connection[asyncpg.Record]") -> Finding:
    try:
        await migrate.check(conn)
    except migrate.SchemaError as problem:
        return fail("schema", str(problem), "Run `opscenter migrate`.")
    return ok("schema", f"{len(migrate.migrations())} migrations, all applied")


# The processes ------------------------------------------------------------------------


async def ports(settings: ControlSettings) -> list[Finding]:
    """Each port is free, or it is ours that answers there."""
    wanted = {
        "door": (settings.door_host, settings.door_port, "/healthz", "OPSCENTER_DOOR_PORT"),
        "control": (
            settings.control_host,
            settings.control_port,
            "/healthz",
            "OPSCENTER_CONTROL_PORT",
        ),
        "health": (settings.health_host, settings.health_port, "/healthz", "OPSCENTER_HEALTH_PORT"),
    }
    return [
        await asyncio.to_thread(_port, name, host, port, path, setting)
        for name, (host, port, path, setting) in wanted.items()
    ]


def _port(name: str, host: str, port: int, path: str, setting: str) -> Finding:
    where = f"{host}:{port}"
    if port == 0:
        return ok(name, f"any free port of {host}; `opscenter up` prints which")
    try:
        with socket.create_connection((host, port), timeout=WAIT_S):
            pass
    except OSError:
        says = f"nobody answers at {where}"
        return warn(name, says, "Start it with `opscenter up`.")
    if _healthy(f"http://{where}{path}"):
        return ok(name, f"answers at {where}")
    says = f"what answers at {where} is not ours"
    return fail(name, says, f"End what uses the port, or set {setting}.")


def _healthy(url: str) -> bool:
    """Loopback is asked directly, whatever proxy the environment names."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=WAIT_S) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError, ValueError):
        return False


CHECKS: tuple[Check, ...] = (
    python,
    names,
    home,
    disk,
    open_files,
    key_file,
    identity_provider,
    redis,
    postgres,
    ports,
)
