"""Keys of one's own over the control API: whose they are, who sees them, what the proxies are told,
and where none of them is sent.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from control import sql
from proxy.redis.replies import RawRecord
from proxy.redis.scripts import SHARD_KEYS
from proxy.types import OwnKey
from proxy.who.keyfile import KeyFile
from proxy.who.records import key_record, organisation_record
from tests.control_stage import Stage, stage
from tests.http_stage import OK, saying, serving

BYOK = "/api/v1/byok/keys"
SECRET = "sk-proj-0123456789abcdef"
MINE = {"provider": "openai", "key": SECRET}


@pytest.fixture
async def api(home: Path, database_url: str, redis_url: str) -> AsyncIterator[Stage]:
    async with stage(home, database_url, redis_url, drained=False) as made:
        yield made


async def of_organisation(api: Stage, id: str) -> tuple[OwnKey, ...]:
    """What Redis has of it."""
    shard = await api.state.pool.fetchval("SELECT shard FROM organisation WHERE id = $1", id)
    raw = await raw_record(api, SHARD_KEYS[shard].organisation(id))
    return organisation_record(id, shard, raw).own


async def of_key(api: Stage, secret: str | None) -> tuple[OwnKey, ...]:
    assert secret is not None
    shard, kid = int(secret[7:9]), secret[9:19]
    return key_record(kid, shard, await raw_record(api, SHARD_KEYS[shard].key(kid))).own


async def raw_record(api: Stage, name: bytes) -> RawRecord:
    version, body = await api.state.redis.commands([("HGET", name, "ver"), ("HGET", name, "body")])
    return RawRecord(int(version), "active", body, b"")


def secret_of(keys: KeyFile, own: OwnKey) -> str:
    return keys.open(f"{own.owner}:{own.kind}", own.base_url, own.sealed)


async def test_a_persons_key_is_told_to_the_proxies_with_all_his_keys(api: Stage) -> None:
    """Masked in every answer, sealed in the database and in Redis, never in the audit log."""
    acme = await api.organisation()
    ann = await api.person("developer", acme)
    made = await ann.post(BYOK, {**MINE, "name": "work", "fallback": True})
    assert made.status == 201, made.body
    assert (made.json["key"], made.json["scope"]) == ("…cdef", "person")
    [warning] = made.json["warnings"]
    assert "opscenter provider add openai" in warning
    [own] = await of_key(api, ann.token)
    assert (own.kind, own.base_url) == ("openai", "https://api.openai.com/v1")
    assert (own.name, own.fallback) == ("`work` (…cdef)", True)
    assert secret_of(api.state.keys, own) == SECRET
    assert await of_organisation(api, acme) == ()
    assert await of_key(api, (await api.person("developer", acme)).token) == ()
    again = await ann.post(BYOK, MINE)
    assert (again.status, "already" in again.message) == (409, True)
    listed = await ann.get(BYOK)
    audit = await api.state.pool.fetchval("SELECT string_agg(a::text, '') FROM audit a")
    assert SECRET.encode() not in made.body + listed.body + audit.encode()
    await ann.delete(f"{BYOK}/{made.json['id']}")
    assert await of_key(api, ann.token) == ()


async def test_an_organisations_key_is_its_administrators_to_change(api: Stage) -> None:
    acme = await api.organisation()
    boss, ann = await api.person("admin", acme), await api.person("developer", acme)
    theirs = {**MINE, "scope": "organisation"}
    assert (await ann.post(BYOK, theirs)).code == "role_missing"
    made = await boss.post(BYOK, theirs)
    [own] = await of_organisation(api, acme)
    assert secret_of(api.state.keys, own) == SECRET
    path = f"{BYOK}/{made.json['id']}"
    assert [row["key"] for row in (await ann.get(BYOK)).json["data"]] == ["…cdef"]
    for refused in (
        await ann.patch(path, {"enabled": False}),
        await ann.delete(path),
        await ann.post(f"{path}/test"),
    ):
        assert refused.code == "role_missing"
    off = await boss.patch(path, {"enabled": False, "name": "off"})
    assert (off.json["enabled"], off.json["name"]) == (False, "off")
    assert await of_organisation(api, acme) == ()
    moved = await boss.patch(path, {"enabled": True, "base_url": "https://gw.test/v1"})
    assert moved.status == 422  # a key is sent nowhere that it was not entered for
    new = {"enabled": True, "base_url": "https://gw.test/v1", "key": SECRET[:-4] + "9876"}
    assert (await boss.patch(path, new)).json["key"] == "…9876"
    [own] = await of_organisation(api, acme)
    assert secret_of(api.state.keys, own) == SECRET[:-4] + "9876"


async def test_nobody_sees_or_changes_anothers(api: Stage) -> None:
    """An administrator sees those of his members, masked; other organisations' are not there."""
    acme, other = await api.organisation(), await api.organisation("Other")
    ann, bob = await api.person("developer", acme), await api.person("developer", acme)
    boss, stranger = await api.person("admin", acme), await api.person("admin", other)
    made = await ann.post(BYOK, MINE)
    path = f"{BYOK}/{made.json['id']}"
    for who in (bob, stranger):
        assert (await who.get(BYOK)).json["data"] == []
        assert (await who.patch(path, {"enabled": False})).status == 404
        assert (await who.post(f"{path}/test")).status == 404
        assert (await who.delete(path)).status == 404
    assert [row["user"] for row in (await boss.get(BYOK)).json["data"]] == [made.json["user"]]
    assert (await boss.delete(path)).status == 200
    assert await of_key(api, ann.token) == ()


async def test_a_key_goes_with_its_member(api: Stage) -> None:
    acme = await api.organisation()
    ann = await api.person("developer", acme)
    await ann.post(BYOK, MINE)
    pool = api.state.pool
    await pool.execute(
        "DELETE FROM membership WHERE organisation = $1 AND role = 'developer'", acme
    )
    assert await pool.fetchval("SELECT count(*) FROM byok_key") == 0


async def test_another_key_or_address_is_untested_and_spoken_to_in_its_own_way(api: Stage) -> None:
    made = await api.post(BYOK, {**MINE, "provider": "google"})
    path, pool = f"{BYOK}/{made.json['id']}", api.state.pool
    subject, put = f"byok:{made.json['id']}", sql.load()["key_test_put"]
    beside = "https://generativelanguage.googleapis.com/v1beta/openai"
    for change, adapter in (
        ({"key": SECRET}, "gemini"),
        ({"base_url": beside, "key": SECRET}, "compatible"),
    ):
        await pool.execute(put, subject, "accepted", "well")
        assert (await api.patch(path, {"name": "x"})).json["test"] == "accepted"
        assert (await api.patch(path, change)).json["test"] is None
        assert [own.adapter for own in await of_key(api, api.token)] == [adapter]


async def test_a_plan_may_not_include_them(api: Stage) -> None:
    """Then none is entered, and those that are there serve nobody until another plan is given;
    they can be seen and removed. The platform's own organisation has everything."""
    acme = await api.organisation()
    ann, boss = await api.person("developer", acme), await api.person("admin", acme)
    path = f"{BYOK}/{(await ann.post(BYOK, MINE)).json['id']}"
    await boss.post(BYOK, {**MINE, "scope": "organisation"})
    plans, where = "/api/v1/admin/plans", f"/api/v1/admin/organisations/{acme}"
    made = await api.post(plans, {"name": "trial", "byok": False})
    assert (made.status, made.json["byok"]) == (201, False)
    for included, put in (
        (False, api.patch(where, {"plan": "trial"})),
        (True, api.patch(f"{plans}/trial", {"byok": True})),
        (False, api.patch(f"{plans}/trial", {"byok": False})),
        (True, api.patch(where, {"plan": None})),
        (False, api.patch(where, {"plan": "trial"})),
    ):
        assert (await put).status == 200
        assert (await ann.get(path.rpartition("/")[0])).json["data"][0]["in_force"] == included
        told = (await of_key(api, ann.token), await of_organisation(api, acme))
        assert [len(keys) for keys in told] == [included, included]
    for refused in (
        await ann.post(BYOK, {**MINE, "provider": "groq"}),
        await ann.patch(path, {"key": SECRET}),
        await ann.patch(path, {"enabled": True}),
    ):
        assert (refused.status, refused.code) == (403, "plan_lacks")
        assert "`trial`" in refused.message
    assert (await ann.patch(path, {"enabled": False})).status == 200
    assert (await ann.delete(path)).status == 200
    home = (await api.get("/api/v1/auth/me")).json["organisation"]
    await api.patch(f"/api/v1/admin/organisations/{home}", {"plan": "trial"})
    assert (await api.post(BYOK, MINE)).status == 201


MISTAKES: list[tuple[dict[str, object], str]] = [
    ({"base_url": "http://169.254.169.254/v1"}, "no provider lies at"),
    ({"base_url": "http://127.0.0.1:8000/v1"}, "OPSCENTER_BYOK_PRIVATE"),
    ({"base_url": "http://api.openai.com/v1"}, "https on port 443"),
    ({"base_url": "https://user:pw@x.test/v1"}, "a user"),
    ({"provider": "nobody"}, "no kind nobody"),
    ({"provider": "vllm"}, "no address of its own"),
    ({"provider": "azure", "base_url": "https://a.test/v1"}, "Name its models"),
    ({"key": "a b"}, "visible ASCII"),
]


async def test_what_makes_no_sense_is_refused(api: Stage) -> None:
    for change, why in MISTAKES:
        refused = await api.post(BYOK, MINE | change)
        assert refused.status == 400, change
        assert why in refused.message
        assert SECRET not in refused.message


async def test_a_key_for_an_address_of_ones_own_names_its_models(api: Stage) -> None:
    models = {"openai/gpt-4o": "my-deployment"}
    given = {"provider": "azure", "base_url": "https://acme.openai.azure.com/openai/v1"}
    made = await api.post(BYOK, {**given, "key": "0f" * 16, "models": models})
    assert (made.status, made.json["models"], made.json["warnings"]) == (201, models, [])
    [own] = await of_key(api, api.token)
    assert (own.models, own.quirks["key_header"]) == (models, "api-key")
    for name in ("openai/files", "openai/batches"):
        refused = await api.patch(f"{BYOK}/{made.json['id']}", {"models": {name: "x"}})
        assert (refused.status, refused.code) == (422, "fields_invalid")
        assert f"{name} is no model" in refused.message


async def test_a_test_of_a_tenants_key_asks_nobody_inside(api: Stage) -> None:
    """Also where its address was public when it was entered: a name may lead elsewhere later."""
    acme = await api.organisation()
    ann = await api.person("developer", acme)
    async with serving(saying(OK)) as server:
        made = await ann.post(BYOK, MINE)
        id = made.json["id"]
        url = server.url.removesuffix("/chat")
        row: Any = await api.state.pool.fetchrow("SELECT * FROM byok_key")
        whose = f"m:{acme}:{row['person']}:openai"
        sealed = api.state.keys.seal(whose, url, SECRET)
        await api.state.pool.execute("UPDATE byok_key SET base_url = $1, secret = $2", url, sealed)
        found = await ann.post(f"{BYOK}/{id}/test")
        assert found.json["test"] == "unreachable"
        assert "may not lie" in found.json["test_said"]
        assert server.connections == 0
        await api.state.pool.execute("UPDATE byok_key SET base_url = 'https://evil.test/v1'")
        assert "cannot be read" in (await ann.post(f"{BYOK}/{id}/test")).message
    assert SECRET not in orjson.dumps(found.json).decode()
