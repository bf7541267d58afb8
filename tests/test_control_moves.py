"""Credits of members, and moves of credits, over the control API: who may, what is refused, and
what the books show afterwards.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control.books import outflows
from control.books.outflows import RedisNotReady
from control.books.verify import verify
from tests.control_stage import Json, Stage, stage

MOVES = "/api/v1/admin/credits/moves"
BALANCE = "/api/v1/credits/balance"
DONE = (201, 202)  # the latter where a busy machine's drain takes its time
PATIENCE_S = 30


@pytest.fixture
async def api(home: Path, database_url: str, redis_url: str) -> AsyncIterator[Stage]:
    async with stage(home, database_url, redis_url) as made:
        yield made


async def grant(api: Stage, organisation: str, amount: str, user: str | None = None) -> Json:
    path = f"/api/v1/admin/organisations/{organisation}/credits"
    made = await api.post(path, {"amount": amount, "reason": "r", "user": user})
    assert made.status in DONE, made.body
    async with asyncio.timeout(PATIENCE_S):
        while not await api.state.publisher.pool(organisation):
            pass
    return made.json


async def member(api: Stage, organisation: str, role: str = "developer") -> tuple[Stage, str]:
    caller = await api.person(role, organisation)
    return caller, (await caller.get("/api/v1/auth/me")).json["person"]


def wanted(source: str, target: str, amount: str = "10", **more: Json) -> Json:
    places = {"source": {"organisation": source}, "target": {"organisation": target}}
    return {**places, "amount": amount, "reason": "one contract", **more}


async def balance(api: Stage, organisation: str, user: str | None = None) -> Json:
    of = f"&user={user}" if user else ""
    return (await api.get(f"{BALANCE}?organisation={organisation}{of}")).json


async def test_credits_move_between_organisations(api: Stage) -> None:
    acme, beta = await api.organisation("Acme"), await api.organisation("Beta")
    await grant(api, acme, "25")
    moved = await api.post(MOVES, wanted(acme, beta, "10.5", ref="contract 7"))
    assert (moved.status in DONE, moved.json["ref"]) == (True, "contract 7")
    assert [moved.json[side]["balance"] for side in ("source", "target")] == [
        "14.500000",
        "10.500000",
    ]
    again = await api.post(MOVES, wanted(acme, beta, "10.5", ref="contract 7"))
    assert (again.status in DONE, again.json) == (True, moved.json)
    assert (await balance(api, acme))["remaining"] == "14.500000"
    other = await api.post(MOVES, wanted(acme, beta, "11", ref="contract 7"))
    assert (other.status, other.code) == (409, "conflict")
    for one, amount in ((acme, "-10.500000"), (beta, "10.500000")):
        rows = (await api.get(f"/api/v1/credits/transactions?organisation={one}")).json["data"]
        assert (rows[0]["type"], rows[0]["amount"], rows[0]["ref"]) == (
            "move",
            amount,
            "contract 7",
        )
    assert (await verify(api.state.pool, api.state.redis)).ok


async def test_a_key_of_idempotency_moves_once(api: Stage) -> None:
    acme, beta = await api.organisation("Acme"), await api.organisation("Beta")
    await grant(api, acme, "25")
    first = await api.post(MOVES, wanted(acme, beta), idempotency_key="m1")
    assert (await api.post(MOVES, wanted(acme, beta), idempotency_key="m1")).json == first.json
    assert (await balance(api, acme))["remaining"] == "15.000000"


async def test_what_cannot_be_moved_is_refused_and_changes_nothing(api: Stage) -> None:
    acme, beta = await api.organisation("Acme"), await api.organisation("Beta")
    await grant(api, acme, "5")
    _, stranger = await member(api, beta)
    not_there = {"target": {"organisation": acme, "user": stranger}}
    nobody = "00000000-0000-4000-8000-000000000000"
    for body, expected in (
        (wanted(acme, beta, "5.000001"), (409, "credits_too_few")),
        (wanted(acme, acme), (409, "conflict")),
        (wanted(acme, nobody), (404, "not_found")),
        (wanted(nobody, beta), (404, "not_found")),
        (wanted(acme, beta, "0"), (422, "fields_invalid")),
        (wanted(acme, beta, reason=""), (422, "fields_invalid")),
        (wanted(acme, beta, floor="1"), (422, "fields_invalid")),
        (
            wanted(acme, beta) | not_there,
            (404, "not_found"),
        ),
    ):
        reply = await api.post(MOVES, body)
        assert (reply.status, reply.code) == expected, body
    assert (await balance(api, acme))["remaining"] == "5.000000"
    message = (await api.post(MOVES, wanted(acme, beta, "5.000001"))).message
    assert "5.000000 credits are free" in message


async def test_without_redis_nothing_is_moved(api: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    acme, beta = await api.organisation("Acme"), await api.organisation("Beta")
    await grant(api, acme, "25")

    async def away(*_: object) -> int:
        raise RedisNotReady("cut")

    monkeypatch.setattr(outflows, "reserve", away)
    reply = await api.post(MOVES, wanted(acme, beta))
    assert (reply.status, reply.code) == (503, "redis_unavailable")
    assert (await balance(api, acme))["remaining"] == "25.000000"


async def test_only_the_platforms_administrators_move_credits(api: Stage) -> None:
    acme, beta = await api.organisation("Acme"), await api.organisation("Beta")
    await grant(api, acme, "25")
    for caller, code in (
        (await api.person("admin", acme), "platform_only"),
        (await api.person("moderator"), "role_missing"),
    ):
        reply = await caller.post(MOVES, wanted(acme, beta))
        assert (reply.status, reply.code) == (403, code)
    row = await api.state.pool.fetchrow("SELECT * FROM audit WHERE action = 'credits.move'")
    assert row is None


async def test_a_move_is_on_the_audit_log(api: Stage) -> None:
    acme, beta = await api.organisation("Acme"), await api.organisation("Beta")
    await grant(api, acme, "25")
    await api.post(MOVES, wanted(acme, beta, ref="contract 7"))
    row = await api.state.pool.fetchrow("SELECT * FROM audit WHERE action = 'credits.move'")
    assert row is not None
    assert row["detail"] == {
        "source": {"organisation": acme, "user": None},
        "target": {"organisation": beta, "user": None},
        "amount": "10.000000",
        "reason": "one contract",
        "ref": "contract 7",
    }


# Members' own -----------------------------------------------------------------------------


async def test_a_member_has_credits_of_his_own(api: Stage) -> None:
    acme = await api.organisation("Acme")
    ann, person = await member(api, acme)
    await grant(api, acme, "25")
    assert (await grant(api, acme, "5", person))["balance"] == "5.000000"
    await api.put(
        f"/api/v1/admin/users/{person}/allocation", {"allocation": "3", "organisation": acme}
    )
    place = {"target": {"organisation": acme, "user": person}}
    moved = await api.post(MOVES, wanted(acme, acme, "2") | place)
    assert moved.json["target"] == {"organisation": acme, "user": person, "balance": "7.000000"}
    found = (await ann.get(BALANCE)).json
    assert found == await balance(api, acme, person)
    assert (found["remaining"], found["own"], found["user"]) == ("23.000000", "7.000000", person)
    assert (found["allocation"], found["allocation_used"]) == ("3.000000", "0.000000")
    assert found["allocated"] == "3.000000"
    assert (await verify(api.state.pool, api.state.redis)).ok


async def test_movements_tell_whose_pool_they_touched(api: Stage) -> None:
    """A move within an organisation has two sides, and pages lose neither."""
    acme = await api.organisation("Acme")
    _, person = await member(api, acme)
    await grant(api, acme, "25")
    await grant(api, acme, "5", person)
    place = {"target": {"organisation": acme, "user": person}}
    await api.post(MOVES, wanted(acme, acme, "2", ref="m") | place)
    path, rows, cursor = f"/api/v1/credits/transactions?organisation={acme}", [], ""
    while True:
        page = (await api.get(f"{path}&limit=1{cursor}")).json
        rows += [(r["type"], r["pool"], r["amount"], r["user"]) for r in page["data"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert sorted(rows, key=str) == [
        ("grant", "organisation", "25.000000", None),
        ("grant", "own", "5.000000", person),
        ("move", "organisation", "-2.000000", None),
        ("move", "own", "2.000000", person),
    ]
    own = (await api.get(f"{path}&user={person}")).json["data"]
    assert [(row["type"], row["amount"]) for row in own] == [
        ("move", "2.000000"),
        ("grant", "5.000000"),
    ]


async def test_who_may_see_what_another_member_has(api: Stage) -> None:
    acme, beta = await api.organisation("Acme"), await api.organisation("Beta")
    (ann, ann_id), (mod, _) = await member(api, acme), await member(api, acme, "moderator")
    other, stranger = await member(api, beta)
    assert (await ann.get(f"{BALANCE}?user={ann_id}")).status == 200
    assert (await mod.get(f"{BALANCE}?user={ann_id}")).status == 200
    assert (await ann.get(f"{BALANCE}?user={stranger}")).code == "role_missing"
    assert (await mod.get(f"{BALANCE}?user={stranger}")).status == 404
    assert (await other.get(f"{BALANCE}?organisation={acme}")).status == 404
    assert (await api.get(f"{BALANCE}?organisation={acme}&user={stranger}")).status == 404


async def test_credits_are_given_to_members_alone(api: Stage) -> None:
    acme, beta = await api.organisation("Acme"), await api.organisation("Beta")
    _, stranger = await member(api, beta)
    path = f"/api/v1/admin/organisations/{acme}/credits"
    reply = await api.post(path, {"amount": "5", "reason": "r", "user": stranger})
    assert (reply.status, reply.code) == (404, "not_found")


# Who pays ---------------------------------------------------------------------------------


async def keys_of(api: Stage, organisation: str) -> tuple[str, Json]:
    """Where the keys of a new member are, and what makes one."""
    _, person = await member(api, organisation)
    return f"/api/v1/admin/users/{person}/api-keys", {"name": "a", "organisation": organisation}


async def test_a_key_names_who_pays_in_their_order(api: Stage) -> None:
    keys, wanted = await keys_of(api, await api.organisation("Acme"))
    made = (await api.at_home.post(keys, wanted)).json
    assert made["pay"] == ["organisation"]
    path = f"{keys}/{made['id']}"
    edited = (await api.at_home.patch(path, {"pay": ["own", "organisation"]})).json
    assert edited["pay"] == ["own", "organisation"]
    assert (await api.at_home.patch(path, {"name": "b"})).json["pay"] == ["own", "organisation"]
    for wrong in ([], ["other"], ["own", "organisation", "own"], "own", None):
        assert (await api.at_home.patch(path, {"pay": wrong})).status == 422


async def test_a_key_gives_none_that_others_pay(api: Stage) -> None:
    """Neither the organisation's credits to one that pays itself, nor the other way round."""
    keys, wanted = await keys_of(api, await api.organisation("Acme"))
    for pay, other in ((["own"], ["organisation"]), (["organisation"], ["own"])):
        key = (await api.at_home.post(keys, wanted | {"pay": pay})).json["key"]
        narrow = api.of(key)
        for refused in (other, ["own", "organisation"]):
            reply = await narrow.post("/api/v1/keys", {"name": "b", "pay": refused})
            assert (reply.status, reply.code) == (403, "grant_too_high")
        assert (await narrow.post("/api/v1/keys", {"name": "b", "pay": pay})).status == 201
