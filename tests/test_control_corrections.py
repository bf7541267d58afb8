"""Adjustments, expiry and refunds: each a transfer, booked once, in force when it is answered."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from control.books.verify import verify
from control.money import credits_to_ucr, signed_credits_to_ucr
from proxy.redis.scripts import SHARD_KEYS
from tests.control_stage import Json, Reply, Stage, stage

ORGANISATIONS = "/api/v1/admin/organisations"
REFUNDS = "/api/v1/admin/credits/refunds"
TRANSACTIONS = "/api/v1/credits/transactions"
REQUEST = "01930000-0000-7000-8000-000000000001"


@pytest.fixture
async def api(home: Path, database_url: str, redis_url: str) -> AsyncIterator[Stage]:
    async with stage(home, database_url, redis_url) as made:
        yield made


@pytest.fixture
async def acme(api: Stage) -> str:
    made = await api.organisation()
    grant = {"amount": "100", "reason": "first"}
    assert (await api.post(f"{ORGANISATIONS}/{made}/credits", grant)).status == 201
    return made


async def adjust(api: Stage, organisation: str, amount: str, **more: Json) -> Reply:
    wanted = {"amount": amount, "reason": "counted twice", **more}
    return await api.post(f"{ORGANISATIONS}/{organisation}/credits/adjustments", wanted)


async def test_credits_are_added_and_taken(api: Stage, acme: str) -> None:
    up = await adjust(api, acme, "2.5")
    down = await adjust(api, acme, "-5", ref="note 7")
    gone = await adjust(api, acme, "-7.5", kind="expiry")
    assert [one.status for one in (up, down, gone)] == [201] * 3
    assert [one.json["balance"] for one in (up, down, gone)] == [
        "102.500000",
        "97.500000",
        "90.000000",
    ]
    assert await _free(api, acme) == 90_000_000
    rows = (await api.get(f"{TRANSACTIONS}?organisation={acme}")).json["data"]
    assert sorted((row["type"], row["amount"]) for row in rows) == [
        ("adjustment", "-5.000000"),
        ("adjustment", "2.500000"),
        ("expiry", "-7.500000"),
        ("grant", "100.000000"),
    ]
    assert (await verify(api.state.pool, api.state.redis)).ok


async def test_a_ref_is_booked_once(api: Stage, acme: str) -> None:
    for _ in range(2):
        again = await adjust(api, acme, "-5", ref="note 7")
        assert (again.status, again.json["balance"]) == (201, "95.000000")
    for amount in ("-6", "5", "6"):
        refused = await adjust(api, acme, amount, ref="note 7")
        assert (refused.status, refused.code) == (409, "conflict"), amount
    assert await _free(api, acme) == 95_000_000
    assert (await verify(api.state.pool, api.state.redis)).ok


async def test_what_running_requests_hold_is_not_taken(api: Stage, acme: str) -> None:
    shard = await api.state.pool.fetchval("SELECT shard FROM organisation WHERE id = $1", acme)
    owner = SHARD_KEYS[shard].organisation(acme)
    await api.state.redis.command("HINCRBY", owner, "pool.h", 60_000_000)
    refused = await adjust(api, acme, "-41")
    assert (refused.status, refused.code) == (409, "credits_too_few")
    assert "40.000000" in refused.message
    assert (await adjust(api, acme, "-40")).status == 201
    assert int(await api.state.redis.command("HGET", owner, "pool.h")) == 60_000_000


async def test_a_member_s_own_are_adjusted(api: Stage, acme: str) -> None:
    member = await api.person("developer", acme)
    person = (await member.get("/api/v1/auth/me")).json["person"]
    assert (await adjust(api, acme, "3", user=person)).json["balance"] == "3.000000"
    assert (await adjust(api, acme, "-1", user=person)).json["balance"] == "2.000000"
    assert (await member.get("/api/v1/credits/balance")).json["own"] == "2.000000"
    assert (await adjust(api, acme, "-3", user=person)).code == "credits_too_few"


async def test_what_is_no_adjustment_is_refused(api: Stage, acme: str) -> None:
    wrong: list[Any] = ["0", "-0", "--1", "+1", -1, "9999999999", "-9999999999"]
    for amount in wrong:
        assert (await adjust(api, acme, amount)).status == 422, amount
    assert (await adjust(api, acme, "5", kind="expiry")).status == 400
    assert (await adjust(api, acme, "5", kind="refund")).status == 422
    assert (await adjust(api, acme, "5", user=REQUEST)).status == 404
    assert (await adjust(api, acme, "20000000")).status == 403
    assert await _free(api, acme) == 100_000_000


async def test_a_request_is_refunded_once_to_who_paid(api: Stage, acme: str) -> None:
    await _charged(api, acme, 40_000_000)
    wanted = {"request": REQUEST, "reason": "bad answer"}
    assert (await api.post(REFUNDS, wanted | {"amount": "41"})).status == 409
    for _ in range(2):
        back = await api.post(REFUNDS, wanted | {"amount": "30"})
        assert (back.status, back.json["balance"]) == (201, "90.000000")
        assert (back.json["organisation"], back.json["amount"]) == (acme, "30.000000")
    assert (await api.post(REFUNDS, wanted)).status == 409
    unknown = await api.post(REFUNDS, wanted | {"request": acme})
    assert (unknown.status, unknown.code) == (409, "conflict")


async def test_other_roles_correct_nothing(api: Stage, acme: str) -> None:
    admin = await api.person("admin", acme)
    assert (await adjust(admin, acme, "5")).code == "platform_only"
    assert (await admin.post(REFUNDS, {"request": REQUEST, "reason": "x"})).code == "platform_only"


def test_an_amount_has_a_bound_that_is_named() -> None:
    assert credits_to_ucr("9000000000") == 9 * 10**15
    for text in ("9000000000.000001", "9999999999"):
        with pytest.raises(ValueError, match="at most 9000000000 credits"):
            credits_to_ucr(text)
        with pytest.raises(ValueError, match="at most 9000000000 credits"):
            signed_credits_to_ucr("-" + text)


async def _free(api: Stage, organisation: str) -> int:
    """In Redis, where requests see it."""
    shard = await api.state.pool.fetchval(
        "SELECT shard FROM organisation WHERE id = $1", organisation
    )
    owner = SHARD_KEYS[shard].organisation(organisation)
    return int(await api.state.redis.command("HGET", owner, "pool.b"))


async def _charged(api: Stage, organisation: str, cost: int) -> None:
    """As the drain books it, with its totals."""
    pool = api.state.pool
    shard = await pool.fetchval("SELECT shard FROM organisation WHERE id = $1", organisation)
    await pool.execute(
        "INSERT INTO account (kind, shard) VALUES ('revenue', $1) ON CONFLICT DO NOTHING", shard
    )
    debit, credit = [
        await pool.fetchval(
            "SELECT id FROM account WHERE kind = $1 AND shard = $2 AND owner = $3", kind, shard, of
        )
        for kind, of in (("pool", f"o:{organisation}:pool"), ("revenue", ""))
    ]
    await pool.execute("UPDATE account SET debits = debits + $2 WHERE id = $1", debit, cost)
    await pool.execute("UPDATE account SET credits = credits + $2 WHERE id = $1", credit, cost)
    await pool.execute(
        "INSERT INTO usage_event (rid, phase, kind, debit, credit, cost, organisation, kid, person,"
        " model, usage_source, price_version, hold, late, shard, sid)"
        " VALUES ($1, 0, 'settled', $2, $3, $4, $5, 'k', $5, 'ops/echo', 'provider', 1, 9, false,"
        " 1, '1-1')",
        *(REQUEST, debit, credit, cost, organisation),
    )
