"""Limits, teams and plans over the control API: who may, what is refused, when it is in force."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from control import sql
from control.api.limit_shapes import RULES_PER_SUBJECT_MAX
from tests.control_stage import Json, Stage, stage

ORGANISATIONS = "/api/v1/admin/organisations"
USERS = "/api/v1/admin/users"
PLANS = "/api/v1/admin/plans"
WAITING = """
SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE NOT granted AND datname = current_database()
"""
CALLS = {"unit": "calls", "amount": 60, "window": "rolling", "seconds": 60}
MONTH = {"unit": "credits", "amount": "250.5", "window": "month", "zone": "Europe/Berlin"}


@pytest.fixture
async def api(home: Path, database_url: str, redis_url: str) -> AsyncIterator[Stage]:
    async with stage(home, database_url, redis_url) as made:
        yield made


class Acme:
    """An organisation with an admin, a moderator and a developer; where its limits are."""

    def __init__(self, id: str, admin: Stage, moderator: Stage, developer: Stage) -> None:
        self.id, self.admin, self.moderator, self.developer = id, admin, moderator, developer
        self.limits, self.teams = f"{ORGANISATIONS}/{id}/limits", f"{ORGANISATIONS}/{id}/teams"


@pytest.fixture
async def acme(api: Stage) -> Acme:
    id = await api.organisation()
    roles = ("admin", "moderator", "developer")
    return Acme(id, *[await api.person(role, id) for role in roles])


async def person_of(caller: Stage) -> str:
    return str((await caller.get("/api/v1/auth/me")).json["person"])


async def kid_of(caller: Stage) -> str:
    return str((await caller.get("/api/v1/keys")).json["data"][0]["id"])


async def meters(api: Stage, organisation: str, owner: str) -> list[list[Json]]:
    """Of a record as it lies in Redis: what the next request is judged by."""
    found = "SELECT shard FROM organisation WHERE id = $1"
    shard = await api.state.pool.fetchval(found, organisation)
    body = await api.state.redis.command("HGET", f"{{s{shard:02d}}}:{owner}", "body")
    return [row for row in orjson.loads(body)["meters"] if row[1].startswith("l")]


async def test_a_limit_of_each_level_is_in_force_when_the_call_returns(
    api: Stage, acme: Acme
) -> None:
    kid, person = await kid_of(acme.developer), await person_of(acme.developer)
    team = (await acme.admin.post(acme.teams, {"name": "search"})).json["id"]
    assert (await acme.admin.put(f"{acme.teams}/{team}/members/{person}", {})).status == 200
    subjects = {"key": kid, "person": person, "team": team, "organisation": "", "end_user": ""}
    for level, subject in subjects.items():
        given = {**CALLS, "level": level, "subject": subject}
        made = await acme.admin.post(acme.limits, given)
        assert made.status == 201, made.body
        owner = f"o:{acme.id}" if level in ("organisation", "end_user") else f"k:{kid}"
        newest = (await meters(api, acme.id, owner))[-1]
        assert newest[1:] == [
            *(f"l{made.json['id']}", "call", level, 60),
            {"window": {"kind": "rolling", "ms": 60_000}},
        ]
        path = f"{acme.limits}/{made.json['id']}"
        edited = await acme.admin.patch(path, {"amount": 9})
        assert (edited.status, edited.json["amount"]) == (200, 9)
        assert (await meters(api, acme.id, owner))[-1][4] == 9
        assert (await acme.admin.delete(path)).status == 200
        assert len(await meters(api, acme.id, owner)) == 0
        assert (await acme.admin.delete(path)).status == 404


async def test_limits_are_listed_and_shown_as_they_were_given(acme: Acme) -> None:
    made = await acme.admin.post(acme.limits, {**MONTH, "level": "organisation", "anchor": 31})
    told: Json = {"seconds": None, "model": None, "warn_at": [], "by_platform": False}
    told |= {**MONTH, "amount": "250.500000", "anchor": 31}
    told |= {"level": "organisation", "subject": "", "organisation": acme.id}
    assert {name: made.json[name] for name in told} == told
    path = f"{acme.limits}/{made.json['id']}"
    edited = await acme.admin.patch(path, {"warn_at": [95, 80, 80]})
    assert (edited.json["amount"], edited.json["warn_at"]) == ("250.500000", [80, 95])
    kid = await kid_of(acme.developer)
    rate = (await acme.admin.post(acme.limits, {**CALLS, "level": "key", "subject": kid})).json
    refused = await acme.admin.patch(f"{acme.limits}/{rate['id']}", {"warn_at": [80]})
    assert (refused.status, refused.code) == (400, "invalid_value")
    listed = (await acme.moderator.get(acme.limits)).json["data"]
    assert [one["level"] for one in listed] == ["organisation", "key"]
    listed = (await acme.moderator.get(f"{acme.limits}?level=key&subject={kid}")).json["data"]
    assert [(one["unit"], one.pop("used")) for one in listed] == [("calls", None)]
    page = (await acme.moderator.get(f"{acme.limits}?limit=1")).json
    assert page["data"][0]["used"] == "0.000000"
    rest = (await acme.moderator.get(f"{acme.limits}?cursor={page['next']}")).json["data"]
    assert [one["id"] for one in rest] == [listed[0]["id"]]
    assert (await acme.developer.get("/api/v1/keys")).json["data"][0]["limits"] == listed


NONSENSE: list[Json] = [
    {"level": "key"},
    {"level": "plan", "subject": "starter"},
    {"level": "organisation", "subject": "x"},
    {"window": "rolling", "seconds": None},
    {"window": "rolling", "seconds": 86_401},
    {"window": "none"},
    {"window": "day", "seconds": None, "anchor": 1},
    {"window": "week", "seconds": None, "anchor": 8},
    {"window": "month", "seconds": None, "zone": "Mars/Olympus"},
    {"window": "month", "seconds": None, "zone": "../../etc/passwd"},
    {"window": "month", "seconds": None, "zone": "localtime"},
    {"zone": "UTC"},
    {"unit": "parallel"},
    {"unit": "credits"},
    {"amount": -1},
    {"amount": "60"},
    {"amount": 2**63},
    {"amount": True},
    {"warn_at": [50]},
    {"window": "none", "seconds": None, "warn_at": [0]},
    {"window": "none", "seconds": None, "warn_at": [101]},
    {"window": "none", "seconds": None, "warn_at": list(range(1, 10))},
    {"by_platform": False},
]


async def test_a_limit_that_makes_no_sense_is_refused(acme: Acme) -> None:
    for given in NONSENSE:
        reply = await acme.admin.post(acme.limits, {"level": "organisation", **CALLS, **given})
        assert (reply.status, reply.code) == (422, "fields_invalid"), given


async def test_what_is_not_there_cannot_be_limited(api: Stage, acme: Acme) -> None:
    stranger = await api.person("developer", await api.organisation("Other"))
    subjects = [("key", await kid_of(stranger)), ("person", await person_of(stranger))]
    subjects += [("team", acme.id), ("key", "0123456789")]
    for level, subject in subjects:
        reply = await acme.admin.post(acme.limits, {**CALLS, "level": level, "subject": subject})
        assert (reply.status, reply.code) == (404, "not_found")
    for level in ("person", "team"):
        reply = await acme.admin.post(acme.limits, {**CALLS, "level": level, "subject": "ann"})
        assert reply.status == 400
    reply = await acme.admin.post(acme.limits, {**CALLS, "level": "organisation", "model": "no/no"})
    assert (reply.status, reply.code) == (400, "invalid_value")


async def test_each_subject_has_a_bounded_number_of_limits(acme: Acme) -> None:
    given = {**CALLS, "level": "organisation"}
    for _ in range(RULES_PER_SUBJECT_MAX):
        assert (await acme.admin.post(acme.limits, given)).status == 201
    assert (await acme.admin.post(acme.limits, given)).status == 409


async def test_who_may_set_limits(acme: Acme) -> None:
    """Moderators those of the people below them; administrators all of their organisation."""
    below, above = await person_of(acme.developer), await person_of(acme.admin)
    team = (await acme.admin.post(acme.teams, {"name": "search"})).json["id"]
    subjects = [("person", below, 201), ("key", await kid_of(acme.developer), 201)]
    subjects += [("person", above, 403), ("person", await person_of(acme.moderator), 403)]
    subjects += [("key", await kid_of(acme.admin), 403), ("key", await kid_of(acme.moderator), 201)]
    subjects += [("team", team, 403), ("organisation", "", 403), ("end_user", "", 403)]
    for level, subject, status in subjects:
        given = {**CALLS, "level": level, "subject": subject}
        assert (await acme.moderator.post(acme.limits, given)).status == status, (level, status)
        assert (await acme.developer.post(acme.limits, given)).status == 403
    assert (await acme.moderator.post(acme.teams, {"name": "other"})).status == 403


async def test_nobody_sees_or_touches_limits_of_another_organisation(
    api: Stage, acme: Acme
) -> None:
    stranger = await api.person("admin", await api.organisation("Other"))
    made = (await acme.admin.post(acme.limits, {**CALLS, "level": "organisation"})).json["id"]
    team = (await acme.admin.post(acme.teams, {"name": "search"})).json["id"]
    member = await person_of(acme.developer)
    replies = [
        await stranger.get(acme.limits),
        await stranger.get(f"{ORGANISATIONS}/{acme.id}/limit-events"),
        await stranger.post(acme.limits, {**CALLS, "level": "organisation"}),
        await stranger.patch(f"{acme.limits}/{made}", {"amount": 1}),
        await stranger.delete(f"{acme.limits}/{made}"),
        await stranger.get(acme.teams),
        await stranger.post(acme.teams, {"name": "x"}),
        await stranger.patch(f"{acme.teams}/{team}", {"name": "x"}),
        await stranger.delete(f"{acme.teams}/{team}"),
        await stranger.get(f"{acme.teams}/{team}/members"),
        await stranger.put(f"{acme.teams}/{team}/members/{member}", {}),
    ]
    assert {reply.status for reply in replies} == {404}
    own = (await stranger.get("/api/v1/auth/me")).json["organisation"]
    own_path = f"{ORGANISATIONS}/{own}"
    assert (await stranger.patch(f"{own_path}/limits/{made}", {"amount": 1})).status == 404
    assert (await stranger.delete(f"{own_path}/teams/{team}")).status == 404
    for method in ("get", "post"):
        assert (await getattr(stranger, method)(PLANS)).status in (403, 422)


async def test_what_the_platform_set_is_loosened_by_the_platform_alone(
    api: Stage, acme: Acme
) -> None:
    given = {**CALLS, "level": "organisation"}
    made = (await api.at_home.post(acme.limits, given)).json
    assert made["by_platform"]
    path = f"{acme.limits}/{made['id']}"
    for reply in (await acme.admin.patch(path, {"amount": 61}), await acme.admin.delete(path)):
        assert (reply.status, reply.code) == (403, "grant_too_high")
    assert (await acme.admin.patch(path, {"amount": 30})).json["amount"] == 30
    assert (await acme.admin.post(acme.limits, given)).status == 201  # a further one only tightens
    team = (await acme.admin.post(acme.teams, {"name": "search"})).json["id"]
    member = f"{acme.teams}/{team}/members/{await person_of(acme.developer)}"
    await acme.admin.put(member, {})
    await api.at_home.post(acme.limits, {**CALLS, "level": "team", "subject": team})
    assert (await acme.admin.delete(f"{acme.teams}/{team}")).status == 403
    assert (await acme.admin.delete(member)).status == 403
    assert (await api.at_home.delete(member)).status == 200
    assert (await api.at_home.delete(path)).status == 200


async def test_a_team_is_made_joined_left_and_removed(api: Stage, acme: Acme) -> None:
    kid, person = await kid_of(acme.developer), await person_of(acme.developer)
    search, other = [
        (await acme.admin.post(acme.teams, {"name": name})).json["id"] for name in ("a", "b")
    ]
    assert (await acme.admin.post(acme.teams, {"name": "a"})).status == 409
    for team in (search, other):
        await acme.admin.post(acme.limits, {**CALLS, "level": "team", "subject": team})
        joined = await acme.admin.put(f"{acme.teams}/{team}/members/{person}", {})
        assert joined.json["members"] == 1
        assert [row[0] for row in await meters(api, acme.id, f"k:{kid}")] == [f"w:t:{team}"]
    assert (await acme.moderator.get(f"{acme.teams}/{search}/members")).json["data"] == []
    listed = (await acme.moderator.get(f"{acme.teams}/{other}/members")).json["data"]
    assert [(one["id"], one["role"]) for one in listed] == [(person, "developer")]
    assert (await acme.admin.delete(f"{acme.teams}/{search}/members/{person}")).status == 404
    assert (await acme.admin.patch(f"{acme.teams}/{other}", {"name": "c"})).json["name"] == "c"
    assert (await acme.admin.delete(f"{acme.teams}/{other}")).status == 200
    assert await meters(api, acme.id, f"k:{kid}") == []
    assert [one["name"] for one in (await acme.admin.get(acme.teams)).json["data"]] == ["a"]
    nobody = f"{acme.teams}/{search}/members/{acme.id}"
    assert (await acme.admin.put(nobody, {})).status == 404


async def test_a_plan_limits_each_organisation_that_has_it(api: Stage, acme: Acme) -> None:
    root = api.at_home
    assert (await root.post(PLANS, {"name": "starter", "note": "small"})).status == 201
    assert (await root.post(PLANS, {"name": "starter"})).status == 409
    path, organisation = f"{PLANS}/starter", f"{ORGANISATIONS}/{acme.id}"
    assert (await root.patch(organisation, {"plan": "none"})).status == 404
    assert (await root.patch(organisation, {"plan": "starter"})).json["plan"] == "starter"
    given = {"unit": "calls", "amount": 1000, "window": "month"}
    made = (await root.post(f"{path}/limits", given)).json
    assert (made["level"], made["subject"], made["zone"]) == ("plan", "starter", "UTC")
    found = await meters(api, acme.id, f"o:{acme.id}")
    assert [(row[0], row[3], row[4]) for row in found] == [(f"o:{acme.id}", "plan", 1000)]
    assert [one["id"] for one in (await acme.admin.get(acme.limits)).json["data"]] == [made["id"]]
    limit = f"{path}/limits/{made['id']}"
    assert (await acme.admin.patch(limit, {"amount": 1})).status == 403
    assert (await acme.admin.delete(f"{acme.limits}/{made['id']}")).status == 404
    await root.patch(limit, {"amount": 2000})
    assert (await meters(api, acme.id, f"o:{acme.id}"))[0][4] == 2000
    assert (await root.delete(path)).status == 409
    shown = (await root.get(PLANS)).json["data"]
    assert [(one["name"], one["organisations"], one["limits"]) for one in shown] == [
        ("starter", 1, 1)
    ]
    assert (await root.patch(path, {"note": "other"})).json["note"] == "other"
    await root.patch(organisation, {"plan": None})
    assert await meters(api, acme.id, f"o:{acme.id}") == []
    assert (await root.delete(path)).status == 200
    assert (await root.get(PLANS)).json["data"] == []


async def test_one_plan_is_what_organisations_are_made_with(api: Stage, acme: Acme) -> None:
    root = api.at_home
    for name in ("free", "trial"):
        made = await root.post(PLANS, {"name": name})
        assert (made.status, made.json["for_new"]) == (201, False)
    given = {"unit": "calls", "amount": 100, "window": "month"}
    await root.post(f"{PLANS}/free/limits", given)
    assert (await root.patch(f"{PLANS}/trial", {"for_new": True})).json["for_new"] is True
    edited = (await root.patch(f"{PLANS}/free", {"for_new": True})).json
    assert (edited["for_new"], edited["note"]) == (True, "")
    shown = (await root.get(PLANS)).json["data"]
    assert [(one["name"], one["for_new"]) for one in shown] == [("free", True), ("trial", False)]
    made = (await root.post(ORGANISATIONS, {"name": "New"})).json
    assert made["plan"] == "free"
    assert len(await meters(api, made["id"], f"o:{made['id']}")) == 1
    assert (await acme.admin.get("/api/v1/credits/balance")).json["tier"] is None
    balance = (await root.get(f"/api/v1/credits/balance?organisation={made['id']}")).json
    assert balance["tier"] == "free"
    assert "-01T00:00:00Z" in balance["last_reset"]
    await root.patch(f"{PLANS}/free", {"for_new": False})
    assert (await root.post(ORGANISATIONS, {"name": "Newer"})).json["plan"] is None


async def test_an_organisation_that_is_not_there_has_no_lists(api: Stage, acme: Acme) -> None:
    nowhere = f"{ORGANISATIONS}/{uuid.uuid4()}"
    for caller in (api.at_home, acme.admin):
        for name in ("limits", "limit-events", "teams"):
            reply = await caller.get(f"{nowhere}/{name}")
            assert (reply.status, reply.code) == (404, "not_found")


async def test_a_refusal_of_a_field_says_why_in_our_words(api: Stage, acme: Acme) -> None:
    given = {**CALLS, "level": "organisation", "window": "day", "seconds": 5}
    reply = await acme.admin.post(acme.limits, given)
    assert reply.status == 422
    assert "Value error" not in reply.message
    path = f"{ORGANISATIONS}/{acme.id}"
    for budget in ("9000000001", "9999999999.999999"):
        reply = await api.at_home.patch(path, {"budget": budget})
        assert (reply.status, reply.json["error"]["param"]) == (422, "budget")
        assert "at most 9000000000 credits" in reply.message
    assert (await api.at_home.patch(path, {"budget": "9000000000"})).status == 200


async def test_a_key_is_made_with_its_limits(api: Stage, acme: Acme) -> None:
    given = {"name": "app", "limits": [CALLS, MONTH]}
    made = (await acme.developer.post("/api/v1/keys", given)).json
    assert [one["unit"] for one in made["limits"]] == ["calls", "credits"]
    found = await meters(api, acme.id, f"k:{made['id']}")
    assert [(row[2], row[4]) for row in found] == [("call", 60), ("ucr", 250_500_000)]


async def test_a_key_that_is_made_meanwhile_knows_of_the_limit(api: Stage, acme: Acme) -> None:
    """Or its requests would not count on the team until something else changed."""
    team = (await acme.admin.post(acme.teams, {"name": "search"})).json["id"]
    member = f"{acme.teams}/{team}/members/{await person_of(acme.developer)}"
    await acme.admin.put(member, {})
    async with api.state.pool.acquire() as conn, conn.transaction():
        await conn.execute(sql.load()["organisation_lock"], acme.id)
        terms: tuple[object, ...] = ("calls", "rolling", 60, None, None, None, 5, [], False)
        await conn.fetchrow(sql.load()["limit_add"], acme.id, "team", team, *terms)
        making = asyncio.create_task(acme.developer.post("/api/v1/keys", {"name": "new"}))
        async with asyncio.timeout(30):
            while not await api.state.pool.fetchval(WAITING):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    kid = (await making).json["id"]
    assert [row[0] for row in await meters(api, acme.id, f"k:{kid}")] == [f"w:t:{team}"]


async def test_limits_of_a_revoked_key_are_listed_no_more(acme: Acme) -> None:
    kid = await kid_of(acme.moderator)
    await acme.admin.post(acme.limits, {**CALLS, "level": "key", "subject": kid})
    assert len((await acme.admin.get(acme.limits)).json["data"]) == 1
    await acme.moderator.delete(f"/api/v1/keys/{kid}")
    assert (await acme.admin.get(acme.limits)).json["data"] == []


async def test_a_key_with_limits_gives_none_that_are_wider(api: Stage, acme: Acme) -> None:
    """Otherwise it would make itself a second one without."""
    made = (await acme.admin.post("/api/v1/keys", {"name": "app", "limits": [CALLS]})).json
    bound = api.of(made["key"])
    assert (await bound.post("/api/v1/keys", {"name": "free"})).code == "grant_too_high"
    wider = {"name": "wide", "limits": [{**CALLS, "amount": 61}]}
    assert (await bound.post("/api/v1/keys", wider)).code == "grant_too_high"
    narrower = {"name": "narrow", "limits": [{**CALLS, "amount": 59}]}
    assert (await bound.post("/api/v1/keys", narrower)).status == 201
    path = f"{acme.limits}/{made['limits'][0]['id']}"
    for reply in (await bound.patch(path, {"amount": 61}), await bound.delete(path)):
        assert reply.code == "grant_too_high"
    assert (await bound.patch(path, {"amount": 59})).status == 200
    assert (await acme.admin.delete(path)).status == 200


async def test_warnings_are_listed_page_by_page(api: Stage, acme: Acme) -> None:
    made = (await acme.admin.post(acme.limits, {**MONTH, "level": "organisation"})).json["id"]
    for percent in (80, 95):
        await api.state.pool.execute(
            "INSERT INTO limit_event (rule, organisation, owner, window_start, percent, used,"
            " amount) VALUES ($1, $2, 'o', 0, $3, 2000000, 250500000)",
            *(made, acme.id, percent),
        )
    path = f"{ORGANISATIONS}/{acme.id}/limit-events"
    page = (await acme.moderator.get(f"{path}?limit=1")).json
    rest = (await acme.moderator.get(f"{path}?cursor={page['next']}")).json["data"]
    told = [(one["percent"], one["used"], one["level"]) for one in page["data"] + rest]
    assert told == [(percent, "2.000000", "organisation") for percent in (95, 80)]


async def test_a_repeated_call_makes_one_limit(acme: Acme) -> None:
    given = {**CALLS, "level": "organisation"}
    replies = [await acme.admin.post(acme.limits, given, idempotency_key="1") for _ in range(2)]
    assert replies[0].json == replies[1].json
    assert len((await acme.admin.get(acme.limits)).json["data"]) == 1
