"""Credits and usage over the control API: exact, booked once, paged, each in its organisation."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.control_stage import Stage, book, stage

ORGANISATIONS = "/api/v1/admin/organisations"


@pytest.fixture
async def api(home: Path, database_url: str, redis_url: str) -> AsyncIterator[Stage]:
    async with stage(home, database_url, redis_url) as made:
        yield made


async def test_credits_are_exact_and_on_the_record(api: Stage) -> None:
    acme = await api.organisation()
    grant = {"amount": "0.000001", "reason": "a test", "ref": "order 1"}
    made = await api.post(f"{ORGANISATIONS}/{acme}/credits", grant)
    assert (made.status, made.json["balance"]) == (201, "0.000001")
    balance = (await api.get(f"/api/v1/credits/balance?organisation={acme}")).json
    assert balance["remaining"] == "0.000001"
    rows = (await api.get(f"/api/v1/credits/transactions?organisation={acme}")).json["data"]
    assert [(row["type"], row["amount"], row["ref"]) for row in rows] == [
        ("grant", "0.000001", "order 1")
    ]


async def test_one_cause_is_booked_once(api: Stage) -> None:
    acme = await api.organisation()
    path, grant = f"{ORGANISATIONS}/{acme}/credits", {"amount": "5", "reason": "r", "ref": "o"}
    await api.post(path, grant)
    assert (await api.post(path, grant)).json["balance"] == "5.000000"
    assert (await api.post(path, grant | {"amount": "6"})).status == 409


@pytest.mark.parametrize(
    "amount", ["-1", "0", "1e3", "NaN", "1_0", "٣", "1.0000001", 1, True, None]
)
async def test_what_is_no_amount_is_not_granted(api: Stage, amount: object) -> None:
    acme = await api.organisation()
    grant = {"amount": amount, "reason": "r"}
    assert (await api.post(f"{ORGANISATIONS}/{acme}/credits", grant)).status == 422


async def test_one_grant_has_a_highest_amount(api: Stage) -> None:
    acme = await api.organisation()
    grant = {"amount": "10000000.000001", "reason": "r"}
    assert (await api.post(f"{ORGANISATIONS}/{acme}/credits", grant)).code == "grant_too_high"


async def test_an_organisations_admin_cannot_grant_to_himself(api: Stage) -> None:
    acme = await api.organisation()
    admin = await api.person("admin", acme)
    reply = await admin.post(f"{ORGANISATIONS}/{acme}/credits", {"amount": "1", "reason": "r"})
    assert (reply.status, reply.code) == (403, "platform_only")


async def test_transactions_are_paged_newest_first(api: Stage) -> None:
    acme = await api.organisation()
    for number in range(5):
        grant = {"amount": "1", "reason": "r", "ref": f"o{number}"}
        await api.post(f"{ORGANISATIONS}/{acme}/credits", grant)
    await book(api, acme, str(uuid.uuid4()), 7)
    path, seen, cursor = f"/api/v1/credits/transactions?organisation={acme}&limit=2", [], ""
    while True:
        page = (await api.get(path + cursor)).json
        seen += [row["ref"] or row["type"] for row in page["data"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert sorted(seen[:5]) == ["o0", "o1", "o2", "o3", "o4"]
    assert seen[5:] == ["usage"]
    assert (await api.get(f"{path}&cursor=nonsense")).status == 400


async def test_a_viewer_sees_only_his_own_usage(api: Stage) -> None:
    acme = await api.organisation()
    viewer, analyst = await api.person("viewer", acme), await api.person("analyst", acme)
    mine = (await viewer.get("/api/v1/auth/me")).json["person"]
    await book(api, acme, mine, 1)
    await book(api, acme, str(uuid.uuid4()), 2)
    assert [one["user"] for one in (await viewer.get("/api/v1/usage")).json["data"]] == [mine]
    assert len((await analyst.get("/api/v1/usage")).json["data"]) == 2


async def test_usage_is_paged_both_ways(api: Stage) -> None:
    acme, person = await api.organisation(), str(uuid.uuid4())
    ids = [await book(api, acme, person, number) for number in range(1, 6)]
    path = f"/api/v1/usage?organisation={acme}"
    page = (await api.get(f"{path}&limit=2")).json
    assert [one["id"] for one in page["data"]] == [ids[4], ids[3]]
    assert (page["data"][0]["cost"], page["next"]) == ("0.000005", ids[3])
    older = (await api.get(f"{path}&limit=9&before={page['next']}")).json
    assert ([one["id"] for one in older["data"]], older["next"]) == (ids[2::-1], None)
    newer = (await api.get(f"{path}&after={ids[2]}")).json
    assert [one["id"] for one in newer["data"]] == [ids[4], ids[3]]
