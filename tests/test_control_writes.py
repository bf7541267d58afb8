"""Every change once per Idempotency-Key, on the audit log before its effect, told to Redis."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from control.app import create_app
from control.edge import Edge
from tests.control_stage import Stage, stage

USERS = "/api/v1/admin/users"
KEYS = "/api/v1/keys"


@pytest.fixture
async def api(home: Path, database_url: str, redis_url: str) -> AsyncIterator[Stage]:
    async with stage(home, database_url, redis_url) as made:
        yield made


@pytest.fixture
async def alone(home: Path, database_url: str, redis_url: str) -> AsyncIterator[Stage]:
    """Without a drain: what waits in an outbox stays there."""
    async with stage(home, database_url, redis_url, drained=False) as made:
        yield made


async def audited(api: Stage) -> list[str]:
    rows = await api.state.pool.fetch("SELECT action FROM audit ORDER BY id")
    return [row["action"] for row in rows]


async def test_a_repeated_request_gets_the_first_answer(api: Stage) -> None:
    first = await api.post(KEYS, {"name": "app"}, idempotency_key="one")
    again = await api.post(KEYS, {"name": "app"}, idempotency_key="one")
    assert (first.status, first.body) == (again.status, again.body)
    assert len((await api.get(KEYS)).json["data"]) == 2
    assert (await audited(api)).count("key.create") == 1


async def test_the_kept_answer_lies_sealed(api: Stage) -> None:
    made = await api.post(KEYS, {"name": "app"}, idempotency_key="one")
    kept = await api.state.pool.fetchval("SELECT body FROM idempotency")
    assert made.json["key"].encode() not in kept


async def test_a_key_of_repetition_serves_one_request_only(api: Stage) -> None:
    await api.post(KEYS, {"name": "app"}, idempotency_key="one")
    reply = await api.post(KEYS, {"name": "other"}, idempotency_key="one")
    assert (reply.status, reply.code) == (422, "idempotency_key_reused")


async def test_two_callers_do_not_share_keys_of_repetition(api: Stage) -> None:
    other = await api.person("admin")
    mine = (await api.post(KEYS, {"name": "app"}, idempotency_key="one")).json
    his = (await other.post(KEYS, {"name": "app"}, idempotency_key="one")).json
    assert mine["user"] != his["user"]


async def test_requests_at_one_time_under_one_key_have_one_effect(api: Stage) -> None:
    replies = await asyncio.gather(
        *(api.post(KEYS, {"name": "app"}, idempotency_key="one") for _ in range(4))
    )
    assert len({reply.body for reply in replies}) == 1


async def test_an_answer_is_forgotten_after_a_day(api: Stage) -> None:
    first = await api.post(KEYS, {"name": "app"}, idempotency_key="one")
    await api.state.pool.execute("UPDATE idempotency SET at = now() - interval '25 hours'")
    again = await api.post(KEYS, {"name": "app"}, idempotency_key="one")
    assert first.json["id"] != again.json["id"]


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "é"])
async def test_an_idempotency_key_is_visible_ascii(api: Stage, key: str) -> None:
    reply = await api.post(KEYS, {"name": "app"}, idempotency_key=key)
    assert reply.code == "idempotency_key_invalid"


async def test_every_change_is_on_the_record_with_its_actor(api: Stage) -> None:
    made = (await api.post(KEYS, {"name": "app"})).json
    row = await api.state.pool.fetchrow("SELECT * FROM audit ORDER BY id DESC LIMIT 1")
    assert row is not None
    assert (row["action"], row["object"]) == ("key.create", f"key:{made['id']}")
    assert row["actor"] == f"key:{api.first.api_key[9:19]}"
    assert made["key"] not in str(row["detail"])


async def test_what_fails_leaves_nothing(api: Stage) -> None:
    before = await audited(api)
    await api.post(USERS, {"email": "admin@localhost", "role": "viewer"})
    assert await audited(api) == before


async def test_without_the_audit_log_nothing_is_changed(api: Stage) -> None:
    async with api.state.pool.acquire() as conn:
        await conn.execute("RESET ROLE")  # the processes may not do this
        await conn.execute("ALTER TABLE audit RENAME TO gone")
        await conn.execute("SET ROLE opscenter_app")
    reply = await api.post(KEYS, {"name": "app"})
    assert (reply.status, reply.code) == (503, "audit_unavailable")
    assert await api.state.pool.fetchval("SELECT count(*) FROM api_key") == 1


class Away:
    """A Redis that does not answer."""

    async def key(self, kid: str) -> bool:
        return False

    async def sign_in(self, id: str) -> bool:
        return False

    async def organisation(self, organisation: str) -> bool:
        return False

    async def records(self, kind: str, ids: Sequence[str]) -> bool:
        return False

    async def pool(self, organisation: str) -> bool:
        return False

    async def snapshot(self) -> bool:
        return False

    async def snapshot_current(self) -> bool:
        return False

    async def foreign(self, issuers: bytes, is_news: bool) -> bool:
        return False


async def test_a_change_that_commits_late_stays_in_the_outbox(alone: Stage) -> None:
    """Even where the record waited already, and is carried to Redis as it was before."""
    kid = (await alone.post(KEYS, {"name": "app"})).json["id"]
    waiting = "SELECT count(*) FROM outbox_record WHERE kind = 'k' AND id = $1"
    await alone.state.pool.execute("UPDATE api_key SET name = 'first' WHERE kid = $1", kid)
    async with alone.state.pool.acquire() as conn, conn.transaction():
        await conn.execute("UPDATE api_key SET name = 'second' WHERE kid = $1", kid)
        assert await alone.state.publisher.key(kid)
    assert await alone.state.pool.fetchval(waiting, kid) == 1
    assert await alone.state.publisher.key(kid)
    assert await alone.state.pool.fetchval(waiting, kid) == 0


async def test_without_redis_a_change_is_accepted_and_waits(alone: Stage) -> None:
    """202: recorded, but the proxies do not know yet; the outbox delivers it."""
    state = replace(alone.state, publisher=Away())
    lonely = replace(alone, app=Edge(create_app(state), state.settings, state.counters))
    reply = await lonely.post(KEYS, {"name": "app"}, idempotency_key="one")
    assert reply.status == 202
    waiting = await alone.state.pool.fetch("SELECT id FROM outbox_record WHERE kind = 'k'")
    assert reply.json["id"] in {row["id"] for row in waiting}
    again = await alone.post(KEYS, {"name": "app"}, idempotency_key="one")
    assert (again.status, again.json["id"]) == (201, reply.json["id"])
