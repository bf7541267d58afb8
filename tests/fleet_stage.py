"""Several machines for tests: supervisors with real workers in processes of their own, on one
Redis; the control plane's API and a drain in this process, the fake provider too.
"""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import orjson

from bench.upstream import FakeUpstream
from control import access
from control.books.verify import Report, verify
from control.machine.embedded import base
from proxy.machine import children
from proxy.redis.scripts import SHARD_KEYS
from proxy.who import keys
from tests import control_stage
from tests.conftest import short_folder
from tests.control_stage import Stage

SECONDS = 60.0  # the longest that one thing may take on a busy machine
CONNECTIONS = 400
HELLO = {"messages": [{"role": "user", "content": "hello"}]}
TEN = 10_000_000  # ucr: $0.01, the cost of a request to CENT
CENT = "mock/cent"


@dataclass
class Node:
    """One machine of proxies."""

    home: Path
    process: children.Child
    door: str
    health: str

    def workers(self) -> list[int]:
        pid = self.process.pid
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(one) for one in listed.split()]

    def kill_a_worker(self) -> None:
        os.kill(self.workers()[0], signal.SIGKILL)

    def kill_whole(self) -> None:
        """The supervisor first, so that nothing is started again."""
        workers = self.workers()
        self.process.kill()
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)


@dataclass
class Fleet:
    """The machines, and what tests ask of them."""

    api: Stage
    fake: FakeUpstream
    http: httpx2.AsyncClient
    nodes: list[Node] = field(default_factory=list)
    sent: int = 0

    @property
    def key(self) -> str:
        return self.api.first.api_key

    @property
    def pool(self) -> Any:
        return self.api.state.pool

    @property
    def redis(self) -> Any:
        return self.api.state.redis

    # asking -----------------------------------------------------------------------------

    async def chat(
        self, model: str = CENT, key: str | None = None, node: int | None = None,
        headers: dict[str, str] | None = None, **fields: Any,
    ) -> httpx2.Response:  # fmt: skip
        """On one machine after the other, unless one is named."""
        self.sent += 1
        door = self.nodes[self.sent % len(self.nodes) if node is None else node].door
        sent = {"authorization": f"Bearer {key or self.key}", **(headers or {})}
        body = orjson.dumps({**HELLO, "model": model, **fields})
        return await self.http.post(door + "/v1/chat/completions", content=body, headers=sent)

    async def many(self, count: int, model: str = CENT, **given: Any) -> "Counter[str]":
        """So many at once; what they were told, `cut` where the connection broke."""

        async def one() -> str:
            try:
                return told(await self.chat(model, **given))
            except httpx2.TransportError:
                return "cut"

        return Counter(await asyncio.gather(*(one() for _ in range(count))))

    def stream(self, model: str, key: str | None = None, **fields: Any) -> Any:
        """A stream on the first machine, as a context that gives its answer."""
        body = orjson.dumps({**HELLO, "model": model, "stream": True, **fields})
        headers = {"authorization": f"Bearer {key or self.key}"}
        door = self.nodes[0].door
        return self.http.stream(
            "POST", door + "/v1/chat/completions", content=body, headers=headers
        )

    # arranging --------------------------------------------------------------------------

    async def model(
        self, name: str, upstream: str, dollars: str = "1000", output_max: int = 1000
    ) -> str:
        """A model whose tokens out cost so many dollars per million, and nothing in."""
        row = {
            "id": name,
            "provider": "fake",
            "upstream_model": upstream,
            "prices": {"input": "0", "output": dollars},
            "context_max": 100_000,
            "output_max": output_max,
        }
        made = await self.api.at_home.post("/api/v1/llm/admin/models", row)
        assert made.status == 201, made.body
        await until(lambda: self._all_serve(name))
        return name

    async def _all_serve(self, model: str) -> bool:
        """Every worker has the snapshot that holds it: asked more often than it has workers."""
        headers = {"authorization": f"Bearer {self.key}", "connection": "close"}
        for node in self.nodes:
            for _ in range(4 * len(node.workers())):
                answer = await self.http.get(f"{node.door}/v1/models/{model}", headers=headers)
                if answer.status_code != 200:
                    return False
        return True

    async def organisation(self) -> UUID:
        id = await self.pool.fetchval("SELECT id FROM organisation WHERE platform")
        assert isinstance(id, UUID)
        return id

    async def new_key(self, **limits: Any) -> str:
        """A further key of the first person, published."""
        row = await self.pool.fetchrow("SELECT id, shard FROM organisation WHERE platform")
        person = await self.pool.fetchval("SELECT person FROM membership LIMIT 1")
        key = keys.mint(row["shard"])
        async with self.pool.acquire() as conn:
            new = access.NewKey(row["id"], row["shard"], person, "test", **limits)
            await access.add_key(conn, self.api.state.keys, key, new)
        assert await self.api.state.publisher.key(key.kid)
        return key.text

    # looking ----------------------------------------------------------------------------

    async def usage(self) -> list[asyncpg.Record]:
        return list(await self.pool.fetch("SELECT * FROM usage_event ORDER BY rid, phase"))

    async def counts(self) -> dict[str, int]:
        """Balance `b` and holds `h` of the pool."""
        row = await self.pool.fetchrow("SELECT id, shard FROM organisation WHERE platform")
        name = SHARD_KEYS[row["shard"]].organisation(str(row["id"]))
        balance, held = await self.redis.command("HMGET", name, "pool.b", "pool.h")
        return {"b": int(balance), "h": int(held or 0)}

    async def rest(self) -> None:
        """No hold lives, every entry is booked, both outboxes are empty."""

        async def resting() -> bool:
            keys = [name for at in SHARD_KEYS for name in ((at.hold, "HLEN"), (at.usage, "XLEN"))]
            left = await self.redis.commands([(verb, name) for name, verb in keys])
            return not any(left)

        await until(resting)

    async def verified(self) -> Report:
        await self.rest()
        report = await verify(self.pool, self.redis)
        assert report.ok, report
        return report


def told(answer: httpx2.Response) -> str:
    """200, or the code of the error."""
    if answer.status_code == 200:
        return "200"
    return f"{answer.status_code} {answer.json()['error']['code']}"


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SECONDS):
        while not await true():  # noqa: ASYNC110 - what happens in other processes sets no event
            await asyncio.sleep(0.01)


@asynccontextmanager
async def fleet(
    home: Path, redis_url: str, database_url: str, workers: Sequence[int] = (2,), **given: str
) -> AsyncIterator[Fleet]:
    """As many machines as `workers` has numbers; `given` are settings of all of them."""
    given = {"lease_ms": "4000", "renew_ms": "1000", "log_level": "warning", **given}
    async with (
        control_stage.stage(home, database_url, redis_url, True, **given) as api,
        FakeUpstream(requests_kept=10_000) as fake,
        httpx2.AsyncClient(
            timeout=SECONDS,
            limits=httpx2.Limits(max_connections=CONNECTIONS),
        ) as http,
    ):
        row = {"name": "fake", "base_url": fake.url + "/v1", "secret": "sk-fake"}
        made = await api.at_home.post("/api/v1/llm/admin/providers", row)
        assert made.status == 201, made.body
        fleet = Fleet(api, fake, http)
        try:
            for count in workers:
                fleet.nodes.append(_start(home, redis_url, count, given))
            for node in fleet.nodes:
                await _ready(node, http)
            await fleet.model(CENT, "mock/ok?in=0&out=10&latency_ms=5")
            yield fleet
        finally:
            for node in fleet.nodes:
                await asyncio.to_thread(_stop, node)


def _start(main: Path, redis_url: str, workers: int, given: dict[str, str]) -> Node:
    home = short_folder()
    env = {
        **{name: text for name, text in os.environ.items() if not name.startswith("OPSCENTER_")},
        **{f"OPSCENTER_{name.upper()}": text for name, text in given.items()},
        "OPSCENTER_HOME": str(home),
        "OPSCENTER_REDIS_URL": redis_url,
        "OPSCENTER_PROXY_KEY_FILE": str(main / "secrets" / "proxy.json"),
        "OPSCENTER_WORKERS": str(workers),
        "OPSCENTER_DOOR_PORT": "0",
        "OPSCENTER_HEALTH_PORT": "0",
        "OPSCENTER_LOG_LEVEL": "info",
        "OPSCENTER_DRAIN_MS": given.get("drain_ms", "1000"),
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }
    (home / "run").mkdir()
    process = children.spawn(
        [sys.executable, "-m", "control", "proxy"], env=env, log=home / "log", cwd=str(home)
    )
    return Node(home, process, "", "")


async def _ready(node: Node, http: httpx2.AsyncClient) -> None:
    said = re.compile(r"door (http://[\d.:]+) .* health (http://[\d.:]+)")

    async def ready() -> bool:
        log = (node.home / "log").read_text()
        assert node.process.poll() is None, log
        found = said.search(log)
        if not found:
            return False
        node.door, node.health = found[1], found[2]
        return (await http.get(node.health + "/readyz")).status_code == 200

    await until(ready)


def _stop(node: Node) -> None:
    children.stop(node.process, ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)))
    shutil.rmtree(node.home, ignore_errors=True)


def pause(server: base.EmbeddedServer) -> None:
    os.kill(server.pid, signal.SIGSTOP)


def go_on(server: base.EmbeddedServer) -> None:
    os.kill(server.pid, signal.SIGCONT)
