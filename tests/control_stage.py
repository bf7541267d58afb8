"""A control plane for tests: the real application on real servers, called without a socket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg
import orjson

from control import bootstrap, main, secrets, settings
from control.app import create_app
from control.books.drain import Drain
from control.edge import Edge
from control.state import LOCAL, State

Json = Any


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        return orjson.loads(self.body)

    @property
    def code(self) -> str:
        """Of an error."""
        return str(self.json["error"]["code"])

    @property
    def message(self) -> str:
        return str(self.json["error"]["message"])


@dataclass(frozen=True, slots=True)
class Stage:
    """Calls the API as somebody: by token, or as the local administrator."""

    state: State
    app: Edge
    first: bootstrap.FirstAccess
    token: str | None = None
    local: bool = False

    def of(self, token: str | None) -> "Stage":
        return replace(self, token=token, local=False)

    @property
    def at_home(self) -> "Stage":
        return replace(self, token=None, local=True)

    async def get(self, path: str, **headers: str) -> Reply:
        return await self.call("GET", path, headers=headers)

    async def post(self, path: str, body: Json = None, **headers: str) -> Reply:
        return await self.call("POST", path, body, headers)

    async def put(self, path: str, body: Json = None, **headers: str) -> Reply:
        return await self.call("PUT", path, body, headers)

    async def patch(self, path: str, body: Json = None, **headers: str) -> Reply:
        return await self.call("PATCH", path, body, headers)

    async def delete(self, path: str, **headers: str) -> Reply:
        return await self.call("DELETE", path, headers=headers)

    async def call(
        self, method: str, path: str, body: Json = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Header names are written with underscores; bytes are sent as they are."""
        raw = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        sent = {"host": "localhost", "content-type": "application/json"}
        if self.token:
            sent["authorization"] = f"Bearer {self.token}"
        sent |= {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        return await _asgi(self.app, method, path, raw, sent, self.local)

    async def person(self, role: str, organisation: str | None = None) -> "Stage":
        """A new person with an API key, calling."""
        name = f"{role}{id(object())}{len(await self._people())}@example.test"
        wanted = {"email": name, "role": role, "password": False, "organisation": organisation}
        made = await self.at_home.post("/api/v1/admin/users", wanted)
        assert made.status == 201, made.body
        path = f"/api/v1/admin/users/{made.json['id']}/api-keys"
        key = await self.at_home.post(path, {"name": "k", "organisation": organisation})
        assert key.status == 201, key.body
        return self.of(key.json["key"])

    async def organisation(self, name: str = "Acme") -> str:
        made = await self.at_home.post("/api/v1/admin/organisations", {"name": name})
        assert made.status == 201, made.body
        return str(made.json["id"])

    async def _people(self) -> list[asyncpg.Record]:
        return list(await self.state.pool.fetch("SELECT id FROM person"))


async def _asgi(
    app: Edge, method: str, path: str, body: bytes, headers: Mapping[str, str], local: bool
) -> Reply:
    plain, _, query = path.partition("?")
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": plain,
        "raw_path": plain.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(k.encode(), v.encode("latin-1")) for k, v in headers.items()],
        "client": ("192.0.2.1", 1234),
        "server": ("127.0.0.1", 8085),
    }
    if local:
        scope[LOCAL] = True
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    head = {k.decode(): v.decode("latin-1") for k, v in sent[0]["headers"]}
    return Reply(sent[0]["status"], head, b"".join(one.get("body", b"") for one in sent[1:]))


async def book(api: Stage, organisation: str, person: str, number: int, cost: int = 5) -> str:
    """A request as the drain books it."""
    rid = f"0193{number:08x}"[:8] + f"-0000-7000-8000-{number:012x}"
    await api.state.pool.execute(
        "INSERT INTO usage_event (rid, phase, kind, debit, credit, cost, organisation, kid, person,"
        " model, usage_source, price_version, hold, late, shard, sid)"
        " VALUES ($1, 0, 'settled', 1, 2, $2, $3, 'k', $4, 'ops/echo', 'provider', 1, 9, false, 1,"
        " '1-1')",
        *(rid, cost, organisation, person),
    )
    return rid


@contextlib.asynccontextmanager
async def stage(
    home: Path, database_url: str, redis_url: str, drained: bool = True, **given: str
) -> AsyncIterator[Stage]:
    """Set up as on the first day, with its first administrator."""
    environ = {
        "OPSCENTER_HOME": str(home),
        "OPSCENTER_DATABASE_URL": database_url,
        "OPSCENTER_REDIS_URL": redis_url,
        "OPSCENTER_CONTROL_WAIT_S": "5",
        "OPSCENTER_DATABASE_POOL_MAX": "6",
        **{f"OPSCENTER_{name.upper()}": value for name, value in given.items()},
    }
    wanted = settings.load(environ)
    kept = secrets.unlock(wanted)
    async with main.opened(wanted, kept) as state:
        async with state.pool.acquire() as conn:
            first = await bootstrap.setup(wanted, conn)
        assert first is not None
        edge = Edge(create_app(state), wanted, state.counters)
        async with draining(state) if drained else contextlib.nullcontext():
            yield Stage(state, edge, first, token=first.api_key)


@contextlib.asynccontextmanager
async def draining(state: State) -> AsyncIterator[None]:
    """The drain beside the control plane: without it no grant reaches Redis."""
    stop = asyncio.Event()
    task = asyncio.create_task(Drain(state.pool, state.redis, lease_ms=12_000).run(stop))
    yield
    stop.set()
    await task
