"""What a measurement runs on: a Valkey and a PostgreSQL as `up` starts them, the product's own
drain and door as processes, all in one temporary folder. Nothing outlives the `async with`.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.chaos.parts import Cables, Module, Postgres, Valkey
from control import migrate, settings
from control.books import ledger
from control.books.publish import Publisher
from control.database import Pool, connect_patiently
from control.machine.embedded import postgres
from control.secrets import unlock
from control.settings import ControlSettings
from control.store import Store
from proxy.machine import children, listen
from proxy.redis.scripts import SHARD_KEYS
from proxy.who import keys
from proxy.who.keyfile import KeyFile
from proxy.who.keys import SHARDS

GRANT_UCR = 1_000_000_000_000
LOOK_S = 0.02
DRAINED_S = 600.0


@dataclass(frozen=True, slots=True)
class Caller:
    """An organisation with credits, and its one key."""

    organisation: uuid.UUID
    person: uuid.UUID
    key: keys.Key


@dataclass(slots=True)
class Place:
    home: Path
    redis: Valkey
    postgres: "DurablePostgres"
    settings: ControlSettings
    pool: Pool
    store: Store
    keyfile: KeyFile
    callers: list[Caller] = field(default_factory=list)

    async def add_callers(self, shards: list[int]) -> None:
        """One organisation with a pool and a key in each of these shards."""
        made = [Caller(uuid.uuid4(), uuid.uuid4(), keys.mint(shard)) for shard in shards]
        async with self.pool.acquire() as conn, conn.transaction():
            for statement, rows in self._rows(made):
                await conn.executemany(statement, rows)
            for caller in made:
                await ledger.grant(conn, caller.organisation, GRANT_UCR, "first", "bench")
        self.callers += made

    def _rows(self, made: list[Caller]) -> Iterator[tuple[str, list[tuple[object, ...]]]]:
        pepper = self.keyfile.pepper_version
        yield (
            "INSERT INTO person (id, email) VALUES ($1, $2)",
            [(one.person, f"{one.person}@bench.test") for one in made],
        )
        yield (
            "INSERT INTO organisation (id, name, shard) VALUES ($1, 'bench', $2)",
            [(one.organisation, one.key.shard) for one in made],
        )
        yield (
            "INSERT INTO membership (organisation, person, role) VALUES ($1, $2, 'developer')",
            [(one.organisation, one.person) for one in made],
        )
        yield (
            "INSERT INTO api_key (kid, organisation, person, name, digest, pepper, last4)"
            " VALUES ($1, $2, $3, 'bench', $4, $5, $6)",
            [
                (
                    one.key.kid,
                    one.organisation,
                    one.person,
                    self.keyfile.digest(one.key.text, pepper),
                    pepper,
                    one.key.text[-4:],
                )
                for one in made
            ],
        )

    async def waiting(self) -> int:
        """Entries that are not booked yet, in all shards."""
        return sum(await self.store.commands([("XLEN", at.usage) for at in SHARD_KEYS]))

    async def until_drained(self) -> None:
        async with asyncio.timeout(DRAINED_S):
            while await self.waiting():  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)

    async def until_carried(self) -> None:
        """Redis has every record and every grant."""
        async with asyncio.timeout(DRAINED_S):
            while not await self._carried():  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)

    async def _carried(self) -> bool:
        if await self.pool.fetchval("SELECT count(*) FROM outbox_record"):
            return False
        applied = await self.store.commands([("HGET", at.meta, "adjseq") for at in SHARD_KEYS])
        rows = await self.pool.fetch("SELECT id, outseq FROM shard ORDER BY id")
        pairs = zip(rows, applied, strict=True)
        return all(int(has or 0) >= row["outseq"] for row, has in pairs)

    def environment(self, redis_url: str = "") -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("OPSCENTER_")}
        ours = {
            "OPSCENTER_HOME": str(self.home),
            "OPSCENTER_RUN_DIR": str(self.home / "run"),
            "OPSCENTER_REDIS_URL": redis_url or self.redis.url,
            "OPSCENTER_DATABASE_URL": self.postgres.url,
            "OPSCENTER_LOG_LEVEL": "warning",
        }
        return children.with_our_code(inherited) | ours

    @contextlib.asynccontextmanager
    async def drain(self) -> AsyncIterator[Module]:
        """The drain as `up` starts it; what was left to do is done."""
        words = ["control.machine.child", "drain"]
        part = Module("drain", self.home / "logs" / "drain.log", words, self.environment())
        part.start()
        try:
            await self.until_carried()
            yield part
        finally:
            part.send(signal.SIGCONT)
            await part.kill()

    @contextlib.asynccontextmanager
    async def cables(self) -> AsyncIterator[Cables]:
        """A way to Redis over TCP that can be cut."""
        env = children.with_our_code(os.environ)
        part = Cables(self.home / "logs" / "cables.log", self.redis.socket, ["door"], env)
        part.start()
        try:
            yield part
        finally:
            await part.kill()

    def by(self, cables: Cables) -> str:
        return f"redis://:{self.redis.password}@127.0.0.1:{cables.ports['door']}/0"

    @contextlib.asynccontextmanager
    async def door(self, redis_url: str = "") -> AsyncIterator[tuple[str, int]]:
        """One proxy worker; its host and port."""
        [listener] = listen.at("127.0.0.1", 0, 1, "door")
        words = ["proxy.worker", "--slot", "0", "--fd", str(listener.fileno())]
        log = self.home / "logs" / "worker.log"
        part = Module("worker", log, words, self.environment(redis_url), [listener.fileno()])
        part.start()
        try:
            yield listener.getsockname()[:2]
        finally:
            await part.kill()
            listener.close()


class DurablePostgres(Postgres):
    """With fsync: what a commit costs is part of what is measured."""

    def start(self) -> None:
        self._server: postgres.PostgresServer | None = postgres.launch(
            self._data, self._run, self._password, log=self.log
        )
        self.process = self._server.process


@contextlib.asynccontextmanager
async def place() -> AsyncIterator[Place]:
    async with contextlib.AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ocl-", dir="/tmp")))
        for name in ("run", "logs", "secrets", "redis"):
            (home / name).mkdir(mode=0o700)
        password = secrets.token_hex(16)
        logs, run = home / "logs", home / "run"
        redis = Valkey(logs / "redis.log", home / "redis", run, password, "everysec")
        database = DurablePostgres(logs / "postgres.log", home / "pg", run, password)
        for part in (redis, database):
            stack.push_async_callback(part.kill)
            await part.begin()
        wanted = settings.load({
            "OPSCENTER_HOME": str(home),
            "OPSCENTER_RUN_DIR": str(run),
            "OPSCENTER_REDIS_URL": redis.url,
            "OPSCENTER_DATABASE_URL": database.url,
        })  # fmt: skip
        keyfile = unlock(wanted).keys
        await migrate.migrate(wanted.database)
        pool, store = await connect_patiently(wanted), Store(wanted.redis)
        stack.callback(pool.terminate)
        stack.push_async_callback(store.close)
        await Publisher(pool, store).snapshot()
        made = Place(home, redis, database, wanted, pool, store, keyfile)
        await made.add_callers([nth % SHARDS for nth in range(SHARDS)])
        async with made.drain():
            pass  # fills Redis
        yield made
