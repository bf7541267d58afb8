"""Rules of limits, from a row to what the proxies read: a change reaches all that name it."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from control.books import rebuild
from control.books.publish import Publisher
from proxy.redis.replies import RawRecord
from proxy.who.records import key_record
from tests.control_stage import Json, Stage, stage

RULE = """
INSERT INTO limit_rule
  (organisation, level, subject, unit, window_kind, seconds, zone, anchor, model, amount)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id
"""
VERSIONS = """
SELECT k.version AS key, o.version AS organisation
FROM api_key k JOIN organisation o ON o.id = k.organisation WHERE k.kid = $1
"""


@pytest.fixture
async def api(home: Path, database_url: str, redis_url: str) -> AsyncIterator[Stage]:
    async with stage(home, database_url, redis_url) as made:
        yield made


class Acme:
    """An organisation with one member, who has a key and is in a team; it has a plan."""

    def __init__(self, api: Stage, id: str, person: str, kid: str) -> None:
        self.api, self.id, self.person, self.kid = api, id, person, kid
        self.team = str(uuid.uuid4())

    @classmethod
    async def made(cls, api: Stage) -> "Acme":
        id = await api.organisation()
        member = await api.person("developer", id)
        person = (await member.get("/api/v1/auth/me")).json["person"]
        kid = (await member.get("/api/v1/keys")).json["data"][0]["id"]
        return cls(api, id, person, kid)

    async def joins(self) -> None:
        run = self.api.state.pool.execute
        await run("INSERT INTO team VALUES ($1, $2, 'search')", self.team, self.id)
        await run("UPDATE membership SET team = $1 WHERE person = $2", self.team, self.person)
        await run("INSERT INTO plan VALUES ('starter')")
        await run("UPDATE organisation SET plan = 'starter' WHERE id = $1", self.id)

    async def rule(self, level: str, subject: str, *terms: object) -> int:
        where = None if level == "plan" else self.id
        given = (*terms, *[None] * (6 - len(terms)))
        added = await self.api.state.pool.fetchval(RULE, where, level, subject, *given, 5)
        return int(added)

    async def versions(self) -> dict[str, int]:
        row = await self.api.state.pool.fetchrow(VERSIONS, self.kid)
        assert row is not None
        return dict(row)

    async def hash(self, owner: str) -> dict[str, str]:
        found = "SELECT shard FROM organisation WHERE id = $1"
        shard = await self.api.state.pool.fetchval(found, self.id)
        flat = await self.api.state.redis.command("HGETALL", f"{{s{shard:02d}}}:{owner}")
        return {k.decode(): v.decode() for k, v in zip(flat[::2], flat[1::2], strict=True)}

    async def meters(self, owner: str) -> Json:
        return orjson.loads((await self.hash(owner))["body"])["meters"]


@pytest.fixture
async def acme(api: Stage) -> Acme:
    return await Acme.made(api)


async def test_a_fresh_install_has_no_plan_and_no_rule(api: Stage) -> None:
    for table in ("plan", "limit_rule", "team"):
        assert await api.state.pool.fetchval(f"SELECT count(*) FROM {table}") == 0


async def test_rules_of_every_level_stand_in_the_records(acme: Acme) -> None:
    await acme.joins()
    of_key = await acme.rule("key", acme.kid, "calls", "rolling", 60)
    of_person = await acme.rule("person", acme.person, "tokens", "day", None, "Europe/Berlin")
    of_team = await acme.rule("team", acme.team, "credits", "week", None, "UTC", 7)
    of_all = await acme.rule("organisation", "", "parallel", "none")
    of_plan = await acme.rule("plan", "starter", "calls", "month", None, "UTC", 31)
    each = await acme.rule("end_user", "", "credits", "none", None, None, None, "ops/echo")
    await acme.api.state.publisher.key(acme.kid)
    await acme.api.state.publisher.organisation(acme.id)
    assert await acme.meters(f"k:{acme.kid}") == [
        [f"k:{acme.kid}", f"l{of_key}", "call", "key", 5,
         {"window": {"kind": "rolling", "ms": 60_000}}],
        [f"w:m:{acme.id}:{acme.person}", f"l{of_person}", "tok", "person", 5,
         {"window": {"kind": "day", "zone": "Europe/Berlin"}}],
        [f"w:t:{acme.team}", f"l{of_team}", "ucr", "team", 5,
         {"window": {"kind": "week", "zone": "UTC", "anchor": 7}}],
    ]  # fmt: skip
    assert await acme.meters(f"o:{acme.id}") == [
        [f"o:{acme.id}", "pool", "pool", "organisation", 0],
        [f"o:{acme.id}", f"l{of_all}", "slot", "organisation", 5],
        [f"o:{acme.id}", f"l{of_plan}", "call", "plan", 5,
         {"window": {"kind": "month", "zone": "UTC", "anchor": 31}}],
        ["e", f"l{each}", "ucr", "end_user", 5, {"model": "ops/echo"}],
    ]  # fmt: skip
    limits = {f"k:{acme.kid}": [of_key], f"w:m:{acme.id}:{acme.person}": [of_person]}
    limits |= {f"w:t:{acme.team}": [of_team], f"o:{acme.id}": [of_all, of_plan]}
    for owner, rules in limits.items():
        fields = await acme.hash(owner)
        assert {name: fields[name] for name in fields if name.endswith(".l")} == {
            f"l{rule}.l": "5" for rule in rules
        }


async def test_each_change_raises_the_version_of_the_record_that_names_it(acme: Acme) -> None:
    """Or a proxy would not ask for it again; the change of the row itself queues it."""
    run, key, organisation = acme.api.state.pool.execute, {"key"}, {"organisation"}
    seen = await acme.versions()

    async def raised() -> set[str]:
        nonlocal seen
        before, seen = seen, await acme.versions()
        return {kind for kind, version in seen.items() if version > before[kind]}

    await acme.joins()
    assert await raised() == key | organisation
    changes = {
        ("key", acme.kid): key,
        ("person", acme.person): key,
        ("team", acme.team): key,
        ("organisation", ""): organisation,
        ("end_user", ""): organisation,
        ("plan", "starter"): organisation,
    }
    for (level, subject), touched in changes.items():
        rule = await acme.rule(level, subject, "calls", "rolling", 60)
        assert await raised() == touched, level
        await run("UPDATE limit_rule SET amount = 9 WHERE id = $1", rule)
        assert await raised() == touched, level
        await run("DELETE FROM limit_rule WHERE id = $1", rule)
        assert await raised() == touched, level
    await run("UPDATE membership SET team = NULL WHERE person = $1", acme.person)
    assert await raised() == key


async def test_a_sign_in_counts_on_its_person_and_his_team(acme: Acme) -> None:
    await acme.joins()
    await acme.api.state.pool.execute(
        "INSERT INTO sign_in (id, session, organisation, person, expires_at)"
        " VALUES ('abcdefghij0123456789', '', $1, $2, now() + interval '1 hour')",
        *(acme.id, acme.person),
    )
    rules = [
        await acme.rule("person", acme.person, "calls", "rolling", 60),
        await acme.rule("team", acme.team, "calls", "rolling", 60),
    ]
    raised = "SELECT version FROM sign_in WHERE id = 'abcdefghij0123456789'"
    assert await acme.api.state.pool.fetchval(raised) == 3
    await acme.api.state.publisher.sign_in("abcdefghij0123456789")
    found = await acme.meters("k:abcdefghij0123456789")
    assert [row[1] for row in found] == [f"l{rule}" for rule in rules]


async def test_a_lost_redis_gets_the_rules_again(acme: Acme) -> None:
    await acme.joins()
    rule = await acme.rule("team", acme.team, "calls", "rolling", 60)
    state = acme.api.state
    await state.redis.command("FLUSHALL")
    publisher = Publisher(state.pool, state.redis)
    await rebuild.rebuild(state.pool, state.redis, publisher, range(64))
    assert (await acme.hash(f"w:t:{acme.team}"))[f"l{rule}.l"] == "5"
    assert [row[1] for row in await acme.meters(f"k:{acme.kid}")] == [f"l{rule}"]


def test_a_proxy_reads_what_it_can_judge() -> None:
    body = orjson.dumps({
        "organisation": "o", "person": "p", "pepper": 1, "models": None,
        "meters": [
            ["k:x", "l1", "ucr", "key", 5],
            ["k:x", "l2", "slot", "key", 5],
            ["k:x", "par", "slot", "key", 5],
        ],
    })  # fmt: skip
    record = key_record("x", 3, RawRecord(1, "active", body))
    assert [(m.owner, m.name) for m in record.meters] == [
        (b"{s03}:k:x", b"l1"), (b"{s03}:k:x", b"l2"), (b"{s03}:k:x", b"par")
    ]  # fmt: skip
