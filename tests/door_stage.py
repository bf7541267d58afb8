"""A whole door for tests, in this process: real Redis and Postgres, one worker on a free port, a
drain, and what the first start makes.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import orjson

from control import access, bootstrap, settings
from control.books.drain import Drain
from control.database import Pool, connect
from control.secrets import unlock
from control.store import Store
from proxy import worker
from proxy.metrics import in_memory
from proxy.redis.scripts import SHARD_KEYS
from proxy.who import keys
from proxy.who.keyfile import KeyFile
from proxy.worker import Worker

HELLO = {"model": "ops/echo", "messages": [{"role": "user", "content": "hello, world"}]}
PATIENCE_S = 10.0
RATES = {"input": 3_000_000_000, "output": 15_000_000_000, "cache_read": 300_000_000}


@dataclass(frozen=True, slots=True)
class DoorStage:
    """The pieces, and what tests ask of them."""

    url: str
    first: bootstrap.FirstAccess
    worker: Worker
    drain: Drain
    pool: Pool
    redis: Store
    keyfile: KeyFile
    http: httpx2.AsyncClient

    @property
    def key(self) -> str:
        return self.first.api_key

    async def chat(
        self, body: Any = HELLO, key: str | None = None, **headers: str
    ) -> httpx2.Response:
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        headers.setdefault("authorization", f"Bearer {key or self.key}")
        return await self.http.post("/v1/chat/completions", content=content, headers=headers)

    async def quiesce(self) -> None:
        """Every settlement has arrived, every entry is booked, both outboxes are empty."""
        await self.worker.flow.settler.drain(PATIENCE_S)
        while await self.drain.streams.drain_once():
            pass
        await self.drain.pusher.push_once()

    async def organisation(self) -> UUID:
        id = await self.pool.fetchval("SELECT id FROM organisation WHERE platform")
        assert isinstance(id, UUID)
        return id

    async def pool_in_redis(self, organisation: UUID | None = None) -> dict[str, int]:
        """Balance `b` and holds `h` of the organisation's pool."""
        id = organisation or await self.organisation()
        shard = await self.pool.fetchval("SELECT shard FROM organisation WHERE id = $1", id)
        owner = SHARD_KEYS[shard].organisation(str(id))
        balance, held = await self.redis.command("HMGET", owner, "pool.b", "pool.h")
        return {"b": int(balance or 0), "h": int(held or 0)}

    async def usage(self) -> list[asyncpg.Record]:
        return list(await self.pool.fetch("SELECT * FROM usage_event ORDER BY rid, phase"))

    async def add_provider(
        self, url: str, secret: str = "", name: str = "fake", adapter: str = "openai"
    ) -> None:
        sealed = self.keyfile.seal(name, url, secret) if secret else None
        await self.pool.execute(
            "INSERT INTO provider (name, adapter, base_url, secret) VALUES ($1, $2, $3, $4)",
            *(name, adapter, url, sealed),
        )

    async def add_model(
        self,
        id: str,
        upstream_model: str | None = None,
        *,
        provider: str = "fake",
        rates: Mapping[str, int] | None = RATES,
        output_max: int = 1000,
    ) -> str:
        """A model of the fake provider; a second call adds a further deployment of it."""
        await self.pool.execute(
            "INSERT INTO model (id, context_max, output_max) VALUES ($1, 100000, $2) "
            "ON CONFLICT DO NOTHING",
            id,
            output_max,
        )
        await self.pool.execute(
            "INSERT INTO deployment (model, provider, upstream_model, rank) VALUES ($1, $2, $3, "
            "(SELECT count(*) FROM deployment WHERE model = $1))",
            id,
            provider,
            upstream_model or id,
        )
        if rates:
            await self.pool.execute(
                "INSERT INTO price (model, rates) VALUES ($1, $2)", id, dict(rates)
            )
        assert await self.drain.publisher.snapshot()
        await self.worker.flow.current.refresh()
        return id

    async def new_key(self, organisation: UUID | None = None, **limits: Any) -> str:
        """A further key of the first person, published."""
        id = organisation or await self.organisation()
        row = await self.pool.fetchrow("SELECT shard FROM organisation WHERE id = $1", id)
        person = await self.pool.fetchval("SELECT person FROM membership LIMIT 1")
        assert row is not None
        key = keys.mint(row["shard"])
        async with self.pool.acquire() as conn:
            new = access.NewKey(id, row["shard"], person, "test", **limits)
            await access.add_key(conn, self.keyfile, key, new)
        assert await self.drain.publisher.key(key.kid)
        return key.text


async def until(condition: Callable[[], bool]) -> None:
    """Waits for something that happens elsewhere in this process; fails when it does not."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - nobody there to set an event
            await asyncio.sleep(0.001)


@asynccontextmanager
async def door(
    home: Path, redis_url: str, database_url: str, **overrides: str
) -> AsyncIterator[DoorStage]:
    """Everything started and ready; everything ended afterwards."""
    environ = {
        "OPSCENTER_HOME": str(home),
        "OPSCENTER_REDIS_URL": redis_url,
        "OPSCENTER_DATABASE_URL": database_url,
        "OPSCENTER_ECHO_DELAY_MS": "0",
        **overrides,
    }
    wanted = settings.load(environ)
    wanted.run_dir.mkdir(mode=0o700, exist_ok=True)
    unlock(wanted)
    async with AsyncExitStack() as stack:
        # what is open is closed also when the rest of the stage cannot be made
        pool, redis = await connect(wanted), Store(wanted.redis)
        stack.callback(pool.terminate)
        stack.push_async_callback(redis.close)
        async with pool.acquire() as conn:
            first = await bootstrap.setup(wanted, conn)
        assert first is not None
        drain = Drain(pool, redis, wanted.lease_ms)
        await drain.prepare()
        assert await drain.publisher.snapshot()
        await drain.pusher.push_once()
        keyfile = KeyFile.load(wanted.proxy_keys)
        made = worker.build(wanted, keyfile, in_memory())
        url = await stack.enter_async_context(_serving(made))
        client = httpx2.AsyncClient(base_url=url, timeout=PATIENCE_S)
        http = await stack.enter_async_context(client)
        yield DoorStage(url, first, made, drain, pool, redis, keyfile, http)


@asynccontextmanager
async def _serving(made: Worker) -> AsyncIterator[str]:
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        task = asyncio.create_task(made.run(listener, signals=False))
        try:
            async with asyncio.timeout(PATIENCE_S):
                await made.started.wait()
            yield "http://{}:{}".format(*listener.getsockname())
        finally:
            made.stop()
            with contextlib.suppress(asyncio.CancelledError):
                await task
