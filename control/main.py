"""`opscenter control`: the control API on TCP and on the unix socket, its plugins, the snapshot.

Two servers in one loop; they stop together. Never touches credits: that is the drain's.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import uvloop
from fastapi import APIRouter

from control import migrate, tidy
from control.app import CORE, Swap, create_app
from control.books.publish import Publisher
from control.catalogue.keep import keep_catalogue
from control.database import AWAY, DatabaseError, connect_patiently
from control.edge import Edge
from control.idp import Idp
from control.lifecycle import Lifecycle
from control.listen import StartError, listening, serve_both, signals
from control.logins import Logins
from control.passwords import Passwords
from control.providers import environment
from control.roots import SecretError
from control.secrets import Secrets, unlock
from control.settings import ControlSettings
from control.state import Seals, State
from control.store import AWAY as REDIS_AWAY
from control.store import Store
from control.token_keys import TokenKeys

log = logging.getLogger("opscenter.control.main")

SNAPSHOT_EVERY_S = 1.0
RETRY_PAUSE_S = 0.2
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


def run(settings: ControlSettings) -> int:
    """Serves until SIGTERM or SIGINT; the exit code."""
    logging.basicConfig(level=settings.log_level.upper(), format=LOG_FORMAT)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    except (StartError, DatabaseError, SecretError, migrate.SchemaError) as problem:
        log.error("%s", problem)
        return 1
    return 0


async def serve(settings: ControlSettings, stop: asyncio.Event | None = None) -> None:
    """Everything between start and stop, each part ended in the reverse order.

    Until all is open a signal ends the process as usual: there is nothing to finish.
    """
    stop = stop or asyncio.Event()
    secrets = unlock(settings)
    with listening(settings) as sockets:
        async with opened(settings, secrets) as state, _plugged(state, secrets) as app:
            keepers = [
                asyncio.create_task(keep_snapshot(state), name="keep-snapshot"),
                asyncio.create_task(tidy.keep(state.pool), name="keep-tidy"),
                asyncio.create_task(state.idp.keep(), name="keep-idp"),
                asyncio.create_task(keep_catalogue(state), name="keep-catalogue"),
            ]
            try:
                with signals(stop):
                    edge = Edge(app, settings, state.counters)
                    await serve_both(settings, edge, sockets, stop)
            finally:
                for keeper in keepers:
                    keeper.cancel()
                await asyncio.gather(*keepers, return_exceptions=True)


# What the handlers share ----------------------------------------------------------


@asynccontextmanager
async def opened(settings: ControlSettings, secrets: Secrets) -> AsyncIterator[State]:
    """Postgres and Redis, waited for within control_wait_s, and all that is made from them."""
    pool = await connect_patiently(settings)
    redis = Store(settings.redis)
    try:
        async with pool.acquire() as conn:
            await migrate.check(conn)
        await _redis_ready(redis, settings.control_wait_s)
        tokens = TokenKeys(pool, secrets, settings.token_minutes * 60)
        await tokens.prepare()
        await environment.refresh(pool, secrets.keys, os.environ)
        yield State(
            settings=settings,
            pool=pool,
            redis=redis,
            publisher=Publisher(pool, redis),
            keys=secrets.keys,
            answers=secrets.answers,
            seals=Seals(secrets.version, secrets.providers, secrets.plugins),
            passwords=Passwords(settings.password_parallel),
            logins=Logins(settings.login_tries_max, settings.login_window_s),
            tokens=tokens,
            idp=Idp(settings),
        )
    finally:
        await redis.close()
        await _close(pool, settings.control_stop_s)


async def _redis_ready(redis: Store, wait_s: int) -> None:
    deadline = time.monotonic() + wait_s
    told = False
    while True:
        try:
            await redis.ping()
            return
        except REDIS_AWAY as problem:
            if time.monotonic() >= deadline:
                raise StartError(
                    f"Redis did not answer within {wait_s} s: {problem}. "
                    "Start it, or mend OPSCENTER_REDIS_URL."
                ) from problem
            if not told:
                log.warning("waiting up to %d s for Redis: %s", wait_s, problem)
                told = True
        await asyncio.sleep(RETRY_PAUSE_S)


async def _close(pool: "asyncpg.Pool[asyncpg.Record]", wait_s: int) -> None:
    try:
        await asyncio.wait_for(pool.close(), wait_s)
    except TimeoutError:
        pool.terminate()


@asynccontextmanager
async def _plugged(state: State, secrets: Secrets) -> AsyncIterator[Swap]:
    """The application with the routes of the plugins that run, made anew when these change."""

    def swap(plugged: Sequence[APIRouter]) -> None:
        current.app = create_app(state, plugged, lifecycle)

    third_party = os.environ.get("OPSCENTER_PLUGINS", "on").lower() not in ("off", "0", "no")
    lifecycle = Lifecycle(state.pool, secrets, core=CORE, on_change=swap, third_party=third_party)
    current = Swap(create_app(state, (), lifecycle))
    try:
        await lifecycle.start()
        yield current
    finally:
        await lifecycle.stop()


async def keep_snapshot(state: State) -> None:
    """Publishes the snapshot whenever Redis has not the newest: at start, after a loss of Redis."""
    told = ""
    while True:
        problem = ""
        try:
            if await state.publisher.snapshot_current() or await state.publisher.snapshot():
                state.counters.snapshot_published_at = time.time()
            await _publish_foreign(state)
        except (asyncpg.PostgresError, *AWAY, *REDIS_AWAY) as trouble:
            problem = str(trouble) or type(trouble).__name__
        except Exception as unknown:  # without a snapshot no proxy serves: never give up
            problem = repr(unknown)
        if problem and problem != told:
            log.warning("the snapshot waits to be published: %s", problem)
        told = problem
        await asyncio.sleep(SNAPSHOT_EVERY_S)


async def _publish_foreign(state: State) -> None:
    """Who else signs tokens, once that is known."""
    issuers = state.idp.published
    if issuers and await state.publisher.foreign(issuers, state.idp.is_news):
        # it may have been fetched anew meanwhile
        state.idp.is_news = state.idp.published is not issuers
