"""Who pays: a request is paid by the first pool of its key that carries it, wholly by that one, and
what is not used goes back where it came from.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from bench.upstream import FakeUpstream
from control.books import ledger
from control.books.ledger import Purse
from control.books.verify import verify
from proxy.redis.scripts import SHARD_KEYS
from tests.door_stage import HELLO, DoorStage, door, until

RATES = {"input": 0, "output": 1_000_000_000}  # 1,000 ucr for each token out
TEN = 10_000  # ucr of a request of TEN_TOKENS
SLICE = 100  # tokens
NOBODY_PAYS = ("insufficient_credits", "budget_reached")  # as of the way that has most left


@dataclass
class Payers:
    """The organisation's pool and what its first member has of his own."""

    stage: DoorStage
    pool: Purse
    own: Purse

    async def have(self, pool: int, own: int) -> None:
        for purse, amount in ((self.pool, pool), (self.own, own)):
            if amount:
                async with self.stage.pool.acquire() as conn, conn.transaction():
                    given = (amount, "for this test", "test")
                    await ledger.grant(conn, purse.organisation, *given, person=purse.person)
        while await self.stage.drain.pusher.push_once():
            pass

    async def in_redis(self) -> tuple[int, int]:
        """What both have left; nothing is held when all is at rest."""
        return (await self._of(self.pool))[0], (await self._of(self.own))[0]

    async def held(self) -> tuple[int, int]:
        return (await self._of(self.pool))[1], (await self._of(self.own))[1]

    async def _of(self, purse: Purse) -> tuple[int, int]:
        shard = await self.stage.pool.fetchval("SELECT shard FROM organisation WHERE platform")
        owner = SHARD_KEYS[shard].prefix + purse.owner.rpartition(":")[0].encode()
        found = await self.stage.redis.command("HMGET", owner, "pool.b", "pool.h")
        return int(found[0] or 0), int(found[1] or 0)

    async def paid(self) -> list[tuple[str, int]]:
        """Of each row of usage: which pool, what."""
        names = {self.pool.owner: "organisation", self.own.owner: "own"}
        rows = await self.stage.pool.fetch(
            "SELECT a.owner, CASE WHEN a.id = u.debit THEN u.cost ELSE -u.cost END AS cost "
            "FROM usage_event u JOIN account a ON a.id IN (u.debit, u.credit) "
            "WHERE a.kind = 'pool' ORDER BY u.rid, u.phase"
        )
        return [(names[row["owner"]], row["cost"]) for row in rows]

    async def allocate(self, amount: int) -> None:
        await self.stage.pool.execute("UPDATE membership SET budget_ucr = $1", amount)
        await self.stage.drain.pusher.push_once()

    async def rest(self) -> None:
        await self.stage.quiesce()
        assert await self.held() == (0, 0)
        report = await verify(self.stage.pool, self.stage.redis)
        assert report.ok, report


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    settings = {"OPSCENTER_SLICE_TOKENS": str(SLICE), "OPSCENTER_GRANT_CREDITS": "0"}
    async with door(home, redis_url, database_url, **settings) as stage:
        yield stage


@pytest.fixture
async def fake(stage: DoorStage, tmp_path: Path) -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream(ledger=tmp_path / "bills") as upstream:
        await stage.add_provider(upstream.url + "/v1")
        yield upstream


@pytest.fixture
async def payers(stage: DoorStage, fake: FakeUpstream) -> Payers:
    organisation = await stage.organisation()
    person = await stage.pool.fetchval("SELECT person FROM membership")
    await stage.add_model("mock/ten", "mock/ok?in=0&out=10", rates=RATES)
    return Payers(stage, Purse(organisation), Purse(organisation, person))


async def ask(stage: DoorStage, key: str, **more: Any) -> str:
    """A request that holds and costs TEN; its status, or the code of its error."""
    answer = await stage.chat({**HELLO, "model": "mock/ten", "max_tokens": 10, **more}, key)
    return "200" if answer.status_code == 200 else str(answer.json()["error"]["code"])


# Which one ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pay", "expected"),
    [
        (("organisation",), ["organisation"] * 2),
        (("own",), ["own"] * 3),
        (("organisation", "own"), ["organisation"] * 2 + ["own"] * 3),
        (("own", "organisation"), ["own"] * 3 + ["organisation"] * 2),
    ],
    ids="-".join,
)
async def test_the_first_that_carries_it_pays(
    stage: DoorStage, payers: Payers, pay: tuple[str, ...], expected: list[str]
) -> None:
    await payers.have(pool=2 * TEN + 1, own=3 * TEN + 1)
    key = await stage.new_key(pay=pay)
    for _ in expected:
        assert await ask(stage, key) == "200"
        await payers.rest()
    assert await ask(stage, key) == "insufficient_credits"
    await payers.rest()
    assert await payers.paid() == [(payer, TEN) for payer in expected]


async def test_one_pool_carries_the_whole_or_nothing(stage: DoorStage, payers: Payers) -> None:
    """Both together would carry it; neither does."""
    await payers.have(pool=TEN - 1, own=TEN - 1)
    key = await stage.new_key(pay=("own", "organisation"))
    assert await ask(stage, key) == "insufficient_credits"
    assert await payers.held() == (0, 0)


async def test_another_order_holds_for_the_next_request(stage: DoorStage, payers: Payers) -> None:
    await payers.have(pool=5 * TEN, own=5 * TEN)
    key = await stage.new_key()
    assert await ask(stage, key) == "200"
    kid = await stage.pool.fetchval("UPDATE api_key SET pay = '{own}' RETURNING kid", timeout=5)
    await stage.drain.pusher.push_once()
    assert kid
    assert await ask(stage, key) == "200"
    await payers.rest()
    assert await payers.paid() == [("organisation", TEN), ("own", TEN)]


async def test_who_names_no_maximum_gets_what_the_richest_way_carries(
    stage: DoorStage, payers: Payers
) -> None:
    await payers.have(pool=7_500, own=3_500)
    key = await stage.new_key(pay=("organisation", "own"))
    answer = await stage.chat({**HELLO, "model": "mock/ten"}, key)
    assert (answer.status_code, answer.headers["x-ops-max-tokens"]) == (200, "7")
    await payers.rest()
    assert [payer for payer, _ in await payers.paid()] == ["organisation"]


async def test_a_key_tells_all_that_can_pay_for_it(stage: DoorStage, payers: Payers) -> None:
    await payers.have(pool=7 * TEN, own=3 * TEN)
    key = await stage.new_key(pay=("own", "organisation"))
    answer = await stage.http.get("/v1/me/limits", headers={"authorization": f"Bearer {key}"})
    rows = [row for row in answer.json()["data"] if row["name"] == "credits"]
    assert [(row["of"], row["left"]) for row in rows] == [
        ("person", "0.030000"),
        ("organisation", "0.070000"),
    ]


# Allocations and budgets ----------------------------------------------------------------------


async def test_an_allocation_limits_the_pool_and_not_ones_own(
    stage: DoorStage, payers: Payers
) -> None:
    """Used up, it sends requests on to the member's own credits, which it never counts."""
    await payers.have(pool=9 * TEN, own=2 * TEN)
    await payers.allocate(2 * TEN)
    key = await stage.new_key(pay=("organisation", "own"))
    assert [await ask(stage, key) for _ in range(4)] == ["200"] * 4
    assert await ask(stage, key) in NOBODY_PAYS
    await payers.rest()
    assert [payer for payer, _ in await payers.paid()] == ["organisation"] * 2 + ["own"] * 2
    used = await stage.pool.fetchval("SELECT used FROM meter_use WHERE owner LIKE 'w:m:%:bud'")
    assert used == 2 * TEN
    await payers.allocate(3 * TEN)
    assert await ask(stage, key) == "200"
    await payers.rest()
    assert await payers.in_redis() == (6 * TEN, 0)


async def test_own_credits_before_the_pool_leave_the_allocation_alone(
    stage: DoorStage, payers: Payers
) -> None:
    await payers.have(pool=9 * TEN, own=2 * TEN)
    await payers.allocate(TEN)
    key = await stage.new_key(pay=("own", "organisation"))
    assert [await ask(stage, key) for _ in range(3)] == ["200"] * 3
    assert await ask(stage, key) in NOBODY_PAYS
    await payers.rest()
    assert [payer for payer, _ in await payers.paid()] == ["own", "own", "organisation"]


async def test_who_pays_alone_is_not_stopped_by_an_allocation(
    stage: DoorStage, payers: Payers
) -> None:
    await payers.have(pool=0, own=2 * TEN)
    await payers.allocate(1)
    key = await stage.new_key(pay=("own",))
    assert [await ask(stage, key) for _ in range(2)] == ["200"] * 2


async def test_budgets_of_the_key_and_the_organisation_count_whoever_pays(
    stage: DoorStage, payers: Payers
) -> None:
    await payers.have(pool=9 * TEN, own=9 * TEN)
    key = await stage.new_key(pay=("own", "organisation"), budget_ucr=2 * TEN)
    assert [await ask(stage, key) for _ in range(3)] == ["200", "200", "budget_reached"]
    await stage.pool.execute("UPDATE organisation SET budget_ucr = $1", 3 * TEN)
    await stage.drain.pusher.push_once()
    other = await stage.new_key(pay=("own",))
    # it counts from the moment that it was set
    assert [await ask(stage, other) for _ in range(4)] == ["200"] * 3 + ["budget_reached"]
    await payers.rest()


# Streams, deaths, losses ----------------------------------------------------------------------

LONG = "mock/ok?in=0&out=400&chunks=40&bytes=400"


async def test_a_stream_goes_on_with_the_pool_that_it_began_with(
    stage: DoorStage, payers: Payers
) -> None:
    """Where that one ends, the stream ends, although the other is full."""
    model = await stage.add_model("mock/long", LONG + "&chunk_ms=1", rates=RATES)
    await payers.have(pool=900_000, own=150_000)
    key = await stage.new_key(pay=("own", "organisation"))
    answer = await stage.chat({**HELLO, "model": model, "stream": True}, key)
    last = orjson.loads(answer.text.split("data: ")[-1])
    assert last["error"]["code"] == "insufficient_credits"
    await until(lambda: not stage.worker.flow.settler.running)
    await payers.rest()
    [(payer, cost)] = await payers.paid()
    assert (payer, 0 < cost <= 150_000) == ("own", True)
    assert await payers.in_redis() == (900_000, 150_000 - cost)


async def test_a_stream_is_extended_from_its_pool(stage: DoorStage, payers: Payers) -> None:
    model = await stage.add_model("mock/long", LONG, rates=RATES)
    await payers.have(pool=900_000, own=900_000)
    key = await stage.new_key(pay=("own", "organisation"))
    answer = await stage.chat({**HELLO, "model": model, "stream": True}, key)
    assert "[DONE]" in answer.text
    await payers.rest()
    assert await payers.paid() == [("own", 400_000)]
    assert await payers.in_redis() == (900_000, 500_000)


async def test_what_fails_is_given_back_where_it_came_from(
    stage: DoorStage, payers: Payers
) -> None:
    model = await stage.add_model("mock/broken", "mock/500", rates=RATES)
    await payers.have(pool=TEN, own=TEN)
    key = await stage.new_key(pay=("own", "organisation"))
    answer = await stage.chat({**HELLO, "model": model, "max_tokens": 10}, key)
    assert answer.status_code >= 500
    await payers.rest()
    assert await payers.in_redis() == (TEN, TEN)


async def test_a_dead_workers_request_and_its_late_truth_are_paid_by_one_pool(
    stage: DoorStage, payers: Payers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hold ends as an orphan; then what it had used comes after all, as a correction."""
    from proxy.redis.pipe import RedisDown
    from proxy.redis.shards import SettleCall

    await payers.have(pool=TEN, own=5 * TEN)
    key = await stage.new_key(pay=("own", "organisation"))
    begin = SettleCall.begin

    def away(call: SettleCall) -> Any:
        raise RedisDown("cut")

    monkeypatch.setattr(SettleCall, "begin", away)
    assert await ask(stage, key) == "200"
    assert await payers.held() == (0, TEN)
    shard = await stage.pool.fetchval("SELECT shard FROM organisation WHERE platform")
    lease = SHARD_KEYS[shard].lease
    [rid] = await stage.redis.command("ZRANGE", lease, 0, -1)
    await stage.redis.command("ZADD", lease, 1, rid)
    assert await stage.drain.reaper.reap_once() == 1
    await payers.rest()
    assert await payers.paid() == [("own", 0)]
    monkeypatch.setattr(SettleCall, "begin", begin)
    stage.worker.flow.settler._send_again(rid.decode())
    await payers.rest()
    await stage.drain.pusher.push_once()
    assert await payers.paid() == [("own", 0), ("own", TEN)]
    assert await payers.in_redis() == (TEN, 4 * TEN)


async def test_redis_is_filled_anew_with_both(stage: DoorStage, payers: Payers) -> None:
    await payers.have(pool=2 * TEN, own=2 * TEN)
    await payers.allocate(TEN)
    key = await stage.new_key(pay=("organisation", "own"))
    assert [await ask(stage, key) for _ in range(2)] == ["200"] * 2
    await payers.rest()
    await stage.redis.command("FLUSHDB")
    await stage.drain.prepare()
    assert await stage.drain.publisher.snapshot()
    assert await payers.in_redis() == (TEN, TEN)
    assert await ask(stage, key) == "200"
    assert await ask(stage, key) != "200"
    await payers.rest()
    assert [payer for payer, _ in await payers.paid()] == ["organisation", "own", "own"]


async def test_many_at_one_time_overdraw_neither(stage: DoorStage, payers: Payers) -> None:
    """Exactly as many pass as both carry, whichever key's order finds which pool."""
    await stage.add_model("mock/ten", "mock/ok?in=0&out=10&latency_ms=5", rates=None)
    await payers.have(pool=11 * TEN + 5, own=7 * TEN + 5)
    orders = (("own", "organisation"), ("organisation", "own"))
    keys = [await stage.new_key(pay=pay) for pay in orders]
    answers = await asyncio.gather(*(ask(stage, keys[nth % 2]) for nth in range(60)))
    assert sorted(answers) == ["200"] * 18 + ["insufficient_credits"] * 42
    await payers.rest()
    assert await payers.in_redis() == (5, 5)
    paid = await payers.paid()
    assert (paid.count(("organisation", TEN)), paid.count(("own", TEN))) == (11, 7)
