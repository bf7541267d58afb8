"""The checker of chaos runs must not be what is broken: each of its rules is shown a small
installation in which that one thing is wrong, in a real Postgres and a real Redis, and must say so.
"""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest
import redis.asyncio

from bench.chaos import checker

SEED = 7
REQUESTS = 12
GRANT, TOPUP = 1_000_000_000, 5_000_000
PRICE = {"input": 3_000_000_007, "output": 15_000_000_011}
MODEL, KID = "chaos/plain", "K" * 10
NOW_S = 1_800_000_000
TOKENS = {"input": 200, "output": 340}
COST = 5_700_001  # 200 x 3000.000007 + 340 x 15000.000011, rounded up
Fields = Mapping[str | bytes | bytearray | memoryview | int | float, Any]
ESTIMATE = {"input": 40, "output": 60}


@dataclass(slots=True)
class Scene:
    """A ledger, a Redis and the truth, which agree until a test changes one of them."""

    pg: "asyncpg.Connection[asyncpg.Record]"
    redis: "redis.asyncio.Redis"
    truth: Path
    dsn: str
    url: str
    organisation: UUID
    rids: list[str]
    dice: random.Random

    async def differences(self) -> set[str]:
        verdict = await checker.check(self.truth, self.dsn, self.url, self.truth)
        assert verdict.ok == (not any(verdict.differences.values()))
        return {name for name, count in verdict.differences.items() if count}

    @property
    def pool(self) -> str:
        return f"o:{self.organisation}:pool"

    @property
    def own(self) -> str:
        return f"w:m:{self.organisation}:{self.organisation}:pool"

    @property
    def owner(self) -> str:
        return f"{{s05}}:o:{self.organisation}"

    def any_rid(self) -> str:
        return self.dice.choice(self.rids)

    def bills(self) -> list[dict[str, object]]:
        return [
            orjson.loads(line) for line in (self.truth / "bills.jsonl").read_bytes().splitlines()
        ]

    def write_bills(self, bills: list[dict[str, object]]) -> None:
        (self.truth / "bills.jsonl").write_bytes(b"".join(orjson.dumps(b) + b"\n" for b in bills))

    def add_event(self, kind: str, at: float) -> None:
        with (self.truth / "events.jsonl").open("ab") as file:
            file.write(orjson.dumps({"kind": kind, "from": at, "to": at, "which": ""}) + b"\n")

    async def account(self, kind: str) -> int:
        return int(await self.pg.fetchval("SELECT id FROM account WHERE kind = $1", kind))

    async def window(self, used: int, in_redis: int) -> None:
        """A limit of calls a day of the organisation."""
        await self.pg.execute(
            "INSERT INTO meter_use VALUES (5, $1, $2, 'call', 5000)",
            f"o:{self.organisation}:l3",
            used,
        )
        fields: Fields = {"l3.w": 5000, "l3.u": in_redis, "l3.h": 0}
        await self.redis.hset(self.owner, mapping=fields)

    async def charge(
        self, rid: str, cost: int, kind: str = "settled", phase: int = 0, source: str = "provider"
    ) -> None:
        """A row with its totals and its place in Redis: consistent, whatever it says."""
        pool, revenue = await self.account("pool"), await self.account("revenue")
        await self.pg.execute(
            "INSERT INTO usage_event (rid, phase, kind, debit, credit, cost, organisation, kid,"
            " person, model, tokens, usage_source, price_version, hold, late, shard, sid)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $7, $9, $10, $11, 1, 0, false, 5, '1-1')",
            UUID(rid),
            phase,
            kind,
            pool,
            revenue,
            cost,
            self.organisation,
            KID,
            MODEL,
            orjson.dumps(TOKENS if source == "provider" else ESTIMATE).decode(),
            source,
        )
        await self.move(pool, revenue, cost)
        await self.redis.hincrby(self.owner, "pool.b", -cost)

    async def move(self, debit: int, credit: int, amount: int) -> None:
        await self.pg.execute(
            "UPDATE account SET debits = debits + $2 WHERE id = $1", debit, amount
        )
        await self.pg.execute(
            "UPDATE account SET credits = credits + $2 WHERE id = $1", credit, amount
        )

    async def grant(self, amount: int, code: str, ref: str) -> None:
        pool, promo = await self.account("pool"), await self.account("promo")
        id = self.dice.randbytes(16)
        await self.pg.execute(
            "INSERT INTO transfer (id, debit, credit, amount, code, ref, actor)"
            " VALUES ($1, $2, $3, $4, $5, $6, 'test')",
            *(id, promo, pool, amount, code, ref),
        )
        await self.move(promo, pool, amount)
        seq = await self.pg.fetchval(
            "UPDATE shard SET outseq = outseq + 1 WHERE id = 5 RETURNING outseq"
        )
        await self.pg.execute(
            "INSERT INTO outbox_redis (shard, seq, owner, field, delta, ref)"
            " VALUES (5, $1, $2, 'b', $3, $4)",
            *(seq, self.pool, amount, ref),
        )
        await self.redis.hincrby(self.owner, "pool.b", amount)
        await self.redis.hset("{s05}:meta", "adjseq", seq)


@pytest.fixture
async def scene(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Scene]:
    pg = await asyncpg.connect(database_url)
    await pg.execute("SET session_replication_role = replica")  # the tables are append only
    client = redis.asyncio.Redis.from_url(redis_url)
    dice = random.Random(SEED)
    rids = [_rid(dice) for _ in range(REQUESTS)]
    made = Scene(pg, client, tmp_path, database_url, redis_url, uuid4(), rids, dice)
    try:
        await _make(made)
        yield made
    finally:
        await pg.close()
        await client.aclose()


def _rid(dice: random.Random, at_s: float = NOW_S) -> str:
    """A version 7 id of that moment."""
    number = (int(at_s * 1000) << 80) | (7 << 76) | dice.getrandbits(76)
    return str(UUID(int=number & ~(3 << 62) | (2 << 62)))


async def _make(scene: Scene) -> None:
    await scene.redis.flushdb()
    for kind, owner in (("pool", scene.pool), ("revenue", ""), ("promo", "")):
        await scene.pg.execute(
            "INSERT INTO account (kind, shard, owner) VALUES ($1, 5, $2)", kind, owner
        )
    for shard in range(64):
        await scene.redis.hset(f"{{s{shard:02d}}}:meta", mapping={"gen": 1, "adjseq": 0})
    await scene.redis.hset(scene.owner, mapping={"pool.b": 0, "pool.h": 0, "st": "active"})
    fleet = {
        "models": {MODEL: {"rates": PRICE, "factor_ppm": 1_000_000, "tells_usage": True}},
        "organisations": {
            str(scene.organisation): {"shard": 5, "kids": [KID], "grant": GRANT},
        },
    }
    (scene.truth / "fleet.json").write_bytes(orjson.dumps(fleet))
    topup = {"organisation": str(scene.organisation), "amount": TOPUP, "ref": "payment 1"}
    (scene.truth / "topups.jsonl").write_bytes(orjson.dumps(topup) + b"\n")
    await scene.grant(GRANT, "grant", "first")
    await scene.grant(TOPUP, "purchase", "payment 1")
    scene.write_bills([_bill(rid) for rid in scene.rids])
    for rid in scene.rids:
        await scene.charge(rid, COST)
    told = "".join(f"{rid} 200 5.700001\n" for rid in scene.rids)
    (scene.truth / "answers.txt").write_text(told)


def _bill(rid: str, end: str = "finished", completion: int = 340) -> dict[str, object]:
    tokens = {"prompt_tokens": 200, "completion_tokens": completion, "cached_tokens": 0}
    rest = {"cache_write_tokens": 0, "reasoning_tokens": 0, "stream": False, "status": 200}
    return {"request_id": rid, "model": "mock/ok", "end": end, **tokens, **rest}


async def test_what_agrees_passes(scene: Scene) -> None:
    assert await scene.differences() == set()


# Each of these does one wrong thing, and names the rules that must see it.


async def a_row_is_missing(scene: Scene) -> None:
    await scene.pg.execute("DELETE FROM usage_event WHERE rid = $1", UUID(scene.any_rid()))


async def a_charge_never_came(scene: Scene) -> None:
    scene.write_bills([*scene.bills(), _bill(_rid(scene.dice))])


async def a_request_is_charged_twice(scene: Scene) -> None:
    await scene.charge(scene.any_rid(), COST, phase=1)


async def a_correction_has_no_orphan(scene: Scene) -> None:
    await scene.charge(scene.any_rid(), COST, "correction", phase=1)


async def a_charge_is_one_too_high(scene: Scene) -> None:
    rid = UUID(scene.any_rid())
    await scene.pg.execute("UPDATE usage_event SET cost = cost + 1 WHERE rid = $1", rid)
    await scene.move(await scene.account("pool"), await scene.account("revenue"), 1)
    await scene.redis.hincrby(scene.owner, "pool.b", -1)


async def tokens_are_not_those_of_the_bill(scene: Scene) -> None:
    tokens = orjson.dumps({**TOKENS, "output": 339}).decode()
    await scene.pg.execute(
        "UPDATE usage_event SET tokens = $2 WHERE rid = $1", UUID(scene.any_rid()), tokens
    )


async def an_estimate_exceeds_the_bill(scene: Scene) -> None:
    rid = _rid(scene.dice)
    scene.write_bills([*scene.bills(), _bill(rid, "aborted", 10)])
    await scene.charge(rid, COST, source="estimated")


async def a_usage_that_was_told_is_estimated(scene: Scene) -> None:
    rid = _rid(scene.dice)
    scene.write_bills([*scene.bills(), _bill(rid)])
    await scene.charge(rid, 100, source="estimated")


async def nobody_billed_it(scene: Scene) -> None:
    await scene.charge(_rid(scene.dice), COST)


async def a_row_names_a_strange_key(scene: Scene) -> None:
    await scene.pg.execute(
        "UPDATE usage_event SET kid = 'somebodys' WHERE rid = $1", UUID(scene.any_rid())
    )


async def a_row_names_a_strange_pool(scene: Scene) -> None:
    await scene.pg.execute("UPDATE account SET owner = 'o:x:pool' WHERE kind = 'pool'")


async def a_client_was_told_less(scene: Scene) -> None:
    with (scene.truth / "answers.txt").open("a") as file:
        file.write(f"{scene.any_rid()} 200 5.700000\n")


async def a_refused_request_costs(scene: Scene) -> None:
    with (scene.truth / "answers.txt").open("a") as file:
        file.write(f"{scene.any_rid()} 402 -\n")


async def an_orphan_without_a_killer(scene: Scene) -> None:
    rid = _rid(scene.dice)
    scene.write_bills([*scene.bills(), _bill(rid)])
    await scene.charge(rid, 0, "orphan", source="none")


async def an_orphan_costs_more_than_its_bill(scene: Scene) -> None:
    rid = _rid(scene.dice)
    scene.add_event("kill-worker", NOW_S)
    scene.write_bills([*scene.bills(), _bill(rid, "aborted", 10)])
    await scene.charge(rid, COST, "orphan", source="none")


async def an_accounts_total_is_wrong(scene: Scene) -> None:
    await scene.pg.execute("UPDATE account SET debits = debits + 1 WHERE kind = 'promo'")


async def a_topup_is_missing(scene: Scene) -> None:
    row = {"organisation": str(scene.organisation), "amount": 1, "ref": "payment 2"}
    with (scene.truth / "topups.jsonl").open("ab") as file:
        file.write(orjson.dumps(row) + b"\n")


async def a_topup_is_booked_twice(scene: Scene) -> None:
    await scene.grant(TOPUP, "purchase", "payment 1")


async def a_move_was_never_asked_for(scene: Scene) -> None:
    await _move(scene, "move 1")


async def a_move_that_was_heard_is_missing(scene: Scene) -> None:
    _asked(scene, "move 1", heard=True)


async def a_move_is_booked_twice(scene: Scene) -> None:
    _asked(scene, "move 1", heard=False)
    await _move(scene, "move 1")
    await _move(scene, "move 1")


def _asked(scene: Scene, ref: str, heard: bool) -> None:
    sides = {"source": scene.pool, "target": scene.own}
    row = {"ref": ref, **sides, "amount": 7, "heard": heard}
    with (scene.truth / "moves.jsonl").open("ab") as file:
        file.write(orjson.dumps(row) + b"\n")


async def _move(scene: Scene, ref: str) -> None:
    """To a member's own credits; all else stays consistent."""
    own = await scene.pg.fetchval(
        "INSERT INTO account (kind, shard, owner) VALUES ('pool', 5, $1) "
        "ON CONFLICT (kind, shard, owner) DO UPDATE SET debits = account.debits RETURNING id",
        scene.own,
    )
    pool = await scene.pg.fetchval("SELECT id FROM account WHERE owner = $1", scene.pool)
    await scene.pg.execute(
        "INSERT INTO transfer (id, debit, credit, amount, code, ref, actor)"
        " VALUES ($1, $2, $3, 7, 'move', $4, 'test')",
        *(scene.dice.randbytes(16), pool, own, ref),
    )
    await scene.move(pool, own, 7)
    await scene.redis.hincrby(scene.owner, "pool.b", -7)
    await scene.redis.hincrby("{s05}:" + scene.own.removesuffix(":pool"), "pool.b", 7)


async def redis_is_off_by_one(scene: Scene) -> None:
    await scene.redis.hincrby(scene.owner, "pool.b", scene.dice.choice((-1, 1)))


async def redis_has_lost_a_pool(scene: Scene) -> None:
    await scene.redis.delete(scene.owner)


async def a_budget_is_off(scene: Scene) -> None:
    fields: Fields = {"bud.l": 10**12, "bud.u": COST * REQUESTS - 1, "bud.h": 0}
    await scene.redis.hset("{s05}:k:" + KID, mapping=fields)


async def a_budget_of_the_ledger_is_off(scene: Scene) -> None:
    await scene.redis.hset("{s05}:k:" + KID, mapping={"bud.u": COST * REQUESTS})
    await scene.pg.execute("INSERT INTO meter_use VALUES (5, $1, $2)", f"k:{KID}:bud", COST)


async def redis_knows_no_budget(scene: Scene) -> None:
    used = COST * REQUESTS
    await scene.pg.execute("INSERT INTO meter_use VALUES (5, $1, $2)", f"k:{KID}:bud", used)


async def a_window_is_off(scene: Scene) -> None:
    await scene.window(used=REQUESTS, in_redis=REQUESTS - 1)


async def a_window_of_the_ledger_is_off(scene: Scene) -> None:
    await scene.window(used=REQUESTS + 1, in_redis=REQUESTS + 1)


async def a_rate_has_lost_a_part(scene: Scene) -> None:
    await scene.redis.hset(scene.owner, mapping={"l4.u": 5, "l4.7": 3})


async def a_row_names_no_account(scene: Scene) -> None:
    """What a rolled back account would leave behind: money that goes nowhere."""
    rid = UUID(scene.any_rid())
    await scene.pg.execute("UPDATE usage_event SET credit = 999999 WHERE rid = $1", rid)


async def credits_stay_held(scene: Scene) -> None:
    await scene.redis.hincrby(scene.owner, "pool.h", 1)


async def a_hold_is_left(scene: Scene) -> None:
    await scene.redis.hset("{s05}:hold", scene.any_rid(), "0||")


async def a_lease_is_left(scene: Scene) -> None:
    await scene.redis.zadd("{s05}:lease", {scene.any_rid(): 1})


async def a_tombstone_is_left(scene: Scene) -> None:
    await scene.redis.hset("{s05}:tomb", scene.any_rid(), "1")


async def an_entry_is_left(scene: Scene) -> None:
    await scene.redis.xadd("{s05}:usage", {"r": scene.any_rid()})


async def the_stream_lies_behind_the_cursor(scene: Scene) -> None:
    await scene.pg.execute("UPDATE shard SET cursor_ms = 9 WHERE id = 6")


async def a_generation_is_old(scene: Scene) -> None:
    await scene.pg.execute("UPDATE shard SET generation = 2 WHERE id = 6")


async def an_outbox_row_is_not_applied(scene: Scene) -> None:
    await scene.redis.hincrby("{s05}:meta", "adjseq", -1)


async def the_outbox_has_a_gap(scene: Scene) -> None:
    await scene.grant(1, "adjustment", "further")
    await scene.pg.execute("DELETE FROM outbox_redis WHERE shard = 5 AND seq = 2")


async def an_entry_was_put_aside(scene: Scene) -> None:
    await scene.pg.execute("INSERT INTO dead_letter VALUES (5, '1-1', '{}', 'why', now(), now())")


async def a_balance_was_corrected_without_a_cause(scene: Scene) -> None:
    scene.add_event("wipe", NOW_S)
    line = "2020-01-01 00:00:00,500 WARNING drain 2 shards rebuilt: 17 ucr of drift removed\n"
    (scene.truth / "drain0.log").write_text(line)


Wrong = Callable[[Scene], Awaitable[None]]
MUST_SEE: dict[Wrong, set[str]] = {
    a_row_is_missing: {
        *("every bill has its row", "double entry", "clients were told the truth"),
    },
    a_charge_never_came: {"every bill has its row"},
    a_request_is_charged_twice: {
        *("one end, one charge", "exact amounts", "clients were told the truth"),
    },
    a_correction_has_no_orphan: {
        *("one end, one charge", "exact amounts", "clients were told the truth"),
    },
    a_charge_is_one_too_high: {"exact amounts", "clients were told the truth"},
    tokens_are_not_those_of_the_bill: {"exact amounts"},
    an_estimate_exceeds_the_bill: {"exact amounts"},
    a_usage_that_was_told_is_estimated: {"exact amounts"},
    nobody_billed_it: {"nothing but what was billed"},
    a_row_names_a_strange_key: {"rows belong to their callers"},
    a_row_names_a_strange_pool: {
        *("rows belong to their callers", "top-ups exactly once", "pools equal the ledger"),
    },
    a_client_was_told_less: {"clients were told the truth"},
    a_refused_request_costs: {"clients were told the truth"},
    an_orphan_without_a_killer: {"orphans have a killer"},
    an_orphan_costs_more_than_its_bill: {"exact amounts"},
    an_accounts_total_is_wrong: {"double entry"},
    a_topup_is_missing: {"top-ups exactly once"},
    a_topup_is_booked_twice: {"top-ups exactly once"},
    a_move_was_never_asked_for: {"moves at most once"},
    a_move_that_was_heard_is_missing: {"moves at most once"},
    a_move_is_booked_twice: {"moves at most once"},
    redis_is_off_by_one: {"pools equal the ledger"},
    redis_has_lost_a_pool: {"pools equal the ledger"},
    a_budget_is_off: {"budgets equal the ledger"},
    a_budget_of_the_ledger_is_off: {"budgets equal the ledger"},
    redis_knows_no_budget: {"budgets equal the ledger"},
    a_window_is_off: {"windows equal the ledger"},
    a_window_of_the_ledger_is_off: {"windows equal the ledger"},
    a_rate_has_lost_a_part: {"windows equal the ledger"},
    a_row_names_no_account: {"double entry", "rows belong to their callers"},
    credits_stay_held: {"all holds released"},
    a_hold_is_left: {"all holds released"},
    a_lease_is_left: {"all holds released"},
    a_tombstone_is_left: {"streams and tombstones empty"},
    an_entry_is_left: {"streams and tombstones empty"},
    the_stream_lies_behind_the_cursor: {"streams and tombstones empty"},
    a_generation_is_old: {"streams and tombstones empty"},
    an_outbox_row_is_not_applied: {"outbox applied"},
    the_outbox_has_a_gap: {"outbox applied"},
    an_entry_was_put_aside: {"no dead letters"},
    a_balance_was_corrected_without_a_cause: {"no unexplained drift"},
}


@pytest.mark.parametrize("wrong", MUST_SEE, ids=lambda wrong: wrong.__name__)
async def test_the_checker_sees(scene: Scene, wrong: Wrong) -> None:
    """Exactly the rules that this breaks, so that a difference names its cause."""
    await wrong(scene)
    assert await scene.differences() == MUST_SEE[wrong]


async def test_every_rule_is_tested() -> None:
    assert set(checker.CHECKS) == set().union(*MUST_SEE.values())


async def test_what_has_an_explanation_passes(scene: Scene) -> None:
    """A killed proxy's orphan, its late truth, a client that left, a rebuild after a wipe."""
    orphan, corrected, left = (_rid(scene.dice) for _ in range(3))
    scene.add_event("kill-set", NOW_S + 2)
    bills = [_bill(orphan), _bill(corrected), _bill(left, "aborted", 170)]
    scene.write_bills([*scene.bills(), *bills])
    await scene.charge(orphan, 0, "orphan", source="none")
    await scene.charge(corrected, 0, "orphan", source="none")
    await scene.charge(corrected, COST, "correction", phase=1)
    await scene.charge(left, 1_000_000, source="estimated")
    assert await scene.differences() == set()


async def test_windows_that_agree_pass(scene: Scene) -> None:
    await scene.window(used=REQUESTS, in_redis=REQUESTS)
    await scene.redis.hset(scene.owner, mapping={"l4.u": 5, "l4.7": 3, "l4.60": 2})
    assert await scene.differences() == set()


async def test_budgets_that_agree_pass(scene: Scene) -> None:
    fields: Fields = {"bud.l": 10**12, "bud.u": COST * REQUESTS, "bud.h": 0}
    for owner in (
        scene.owner,
        "{s05}:k:" + KID,
        f"{{s05}}:w:m:{scene.organisation}:{scene.organisation}",
    ):
        await scene.redis.hset(owner, mapping=fields)
    assert await scene.differences() == set()
