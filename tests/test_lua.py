"""The scripts on a real server: what each promises, and that a refused call changes nothing."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from control.store import Reply, Store
from proxy.redis.scripts import SHARD_KEYS

AT = SHARD_KEYS[7]
MADE = AT.prefix + b"w:made:o"
KEY, ORG = AT.key("kkkkkkkkkk"), AT.organisation("o")
CORE = (AT.meta, AT.hold, AT.lease)
OUT = (AT.meta, AT.hold, AT.out)
ADMIT = (*CORE, AT.usage, KEY, ORG)
SETTLE = (*CORE, AT.tomb, AT.usage, KEY, ORG)
POOL = (6, "pool", "pool")  # index of the organisation in admit's keys, meter, unit
JOB_AT = 7
SLOT = (5, "par", "slot")
BUDGET = (5, "bud", "ucr")
LEASE_MS = 60_000
BALANCE = 1_000
ARGUMENTS_BAD = ("-1", "-0", "1e3", "nan", "inf", "0x10", " 1", "1 ", "01", "", "9000000000000001")


class Redis:
    """One shard with a key and an organisation of BALANCE, ready to admit."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def fill(self) -> None:
        await self.store.command("HSET", AT.meta, "gen", "1", "adjseq", "0")
        await self.store.command(
            "HSET", KEY, "ver", 1, "st", "active", "digest", "00", "body", "{}", "exp", 0
        )
        await self.store.command(
            "HSET", ORG, "ver", 1, "st", "active", "body", "{}", "pool.b", BALANCE
        )

    async def admit(
        self,
        rid: str,
        *meters: Any,
        lease: Any = LEASE_MS,
        versions: Any = (1, 1),
        backlog: Any = 1000,
        ceiling: Any = "",
        job: bytes | None = None,
    ) -> Reply:
        """What is left of each meter, but the way of payment; a meter has no window unless said."""
        words: list[Any] = []
        for meter in meters:
            words += (*meter, "", ceiling if meter[0] == JOB_AT else "", 0)[:7]
        keys, made = (ADMIT, (0, 9, "")) if job is None else ((*ADMIT, job, MADE), (1, 9, "50000"))
        fixed = (rid, lease, *versions, "{}", backlog, ceiling, *made)
        reply = await self.store.run("admit", keys, *fixed, *words)
        return reply if reply[0] != b"OK" else [reply[0], *reply[2:]]

    async def settle(
        self, rid: str, cost: Any, kind: str = "settled", held: Any = 0, counts: Any = (1, 0)
    ) -> Reply:
        words = (rid, kind, cost, ORG + b":pool", "", held, "{}", *counts)
        return await self.store.run("settle", SETTLE, *words)

    async def number(self, key: bytes, field: str) -> int:
        return int(await self.store.command("HGET", key, field) or 0)

    async def everything(self) -> dict[bytes, Any]:
        """All that the server holds, to see that nothing has changed."""
        return {
            name: await self.store.command("DUMP", name)
            for name in sorted(await self.store.command("KEYS", "*"))
        }

    async def entries(self) -> list[dict[bytes, bytes]]:
        rows = await self.store.command("XRANGE", AT.usage, "-", "+")
        return [dict(zip(f[::2], f[1::2], strict=True)) for _, f in rows]


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    store = Store(redis_url)
    redis = Redis(store)
    await redis.fill()
    yield redis
    await store.close()


# admit ----------------------------------------------------------------------------


async def test_admit_takes_the_hold_and_tells_what_is_left(redis: Redis) -> None:
    assert await redis.admit("r1", (*POOL, 300)) == [b"OK", 700]
    assert await redis.number(ORG, "pool.h") == 300
    assert await redis.number(ORG, "pool.b") == BALANCE


async def test_admit_answers_a_repetition_as_the_first_time(redis: Redis) -> None:
    """A reply that was lost on the way costs no second hold."""
    first = await redis.admit("r1", (*POOL, 300))
    assert await redis.admit("r1", (*POOL, 300)) == first
    assert await redis.number(ORG, "pool.h") == 300


async def test_admit_gives_exactly_what_there_is(redis: Redis) -> None:
    for nth in range(3):
        assert (await redis.admit(f"r{nth}", (*POOL, 333)))[0] == b"OK"
    assert (await redis.admit("r4", (*POOL, 2)))[:3] == [b"LIMIT", b"1", b"1"]
    assert (await redis.admit("r5", (*POOL, 1)))[0] == b"OK"


async def test_admit_takes_all_meters_or_none(redis: Redis) -> None:
    """The second meter refuses: the first one has lost nothing."""
    await redis.store.command("HSET", KEY, "par.l", 1, "par.h", 1)
    before = await redis.everything()
    assert (await redis.admit("r1", (*POOL, 300), (*SLOT, 1)))[:3] == [b"LIMIT", b"2", b"0"]
    assert await redis.everything() == before


async def test_admit_keeps_to_a_floor(redis: Redis) -> None:
    await redis.store.command("HSET", ORG, "pool.f", 400)
    assert (await redis.admit("r1", (*POOL, 601)))[:3] == [b"LIMIT", b"1", b"600"]


async def test_a_free_request_passes_an_empty_pool(redis: Redis) -> None:
    await redis.store.command("HSET", ORG, "pool.b", 0)
    assert await redis.admit("r1", (*POOL, 0)) == [b"OK", 0]
    await redis.store.command("HDEL", ORG, "pool.b")  # it never had a credit
    assert await redis.admit("r2", (*POOL, 0)) == [b"OK", 0]
    assert await redis.settle("r2", 0, held=0) == [b"OK", b"0"]


@pytest.mark.parametrize("balance", ["nan", "-nan", "", "x", "inf"])
async def test_a_balance_that_is_no_number_admits_nothing(redis: Redis, balance: str) -> None:
    """A NaN makes every comparison false: the check must be written so that false refuses."""
    await redis.store.command("HSET", ORG, "pool.b", balance)
    before = await redis.everything()
    assert (await redis.admit("r1", (*POOL, 1)))[:3] == [b"LIMIT", b"1", b"0"]
    assert await redis.everything() == before


async def test_a_pool_or_limit_that_is_not_there_refuses(redis: Redis) -> None:
    await redis.store.command("HDEL", ORG, "pool.b")
    assert (await redis.admit("r1", (*POOL, 1)))[:3] == [b"LIMIT", b"1", b"0"]
    assert (await redis.admit("r1", (*SLOT, 1)))[0] == b"LIMIT"


@pytest.mark.parametrize("amount", ARGUMENTS_BAD)
async def test_admit_takes_amounts_of_plain_digits_alone(redis: Redis, amount: str) -> None:
    before = await redis.everything()
    assert (await redis.admit("r1", (*POOL, amount)))[0] == b"BAD"
    assert (await redis.admit("r1", (*POOL, 1), lease=amount))[0] == b"BAD"
    assert await redis.everything() == before


async def test_admit_wants_the_newest_versions(redis: Redis) -> None:
    """STALE brings the records, so that one more trip is enough."""
    reply = await redis.admit("r1", (*POOL, 1), versions=(0, 1))
    assert reply == [b"STALE", b"1", b"active", b"{}", b"00", b"0", b"1", b"active", b"{}"]
    assert (await redis.admit("r1", (*POOL, 1), versions=(1, 2)))[0] == b"STALE"
    assert await redis.number(ORG, "pool.h") == 0


@pytest.mark.parametrize(
    ("name", "fields", "answer"),
    [
        (KEY, ("st", "revoked"), b"KEY"),
        (KEY, ("exp", 1), b"KEY"),
        (KEY, ("exp", "rubbish"), b"KEY"),
        (ORG, ("st", "suspended"), b"ORG"),
        (AT.meta, ("fenced", 1), b"NOTREADY"),
    ],
)
async def test_admit_refuses_the_dead(
    redis: Redis, name: bytes, fields: Any, answer: bytes
) -> None:
    await redis.store.command("HSET", name, *fields)
    assert (await redis.admit("r1", (*POOL, 1)))[0] == answer
    assert await redis.number(ORG, "pool.h") == 0


async def test_every_script_refuses_a_shard_without_a_generation(redis: Redis) -> None:
    await redis.store.command("HDEL", AT.meta, "gen")
    run = redis.store.run
    assert await redis.admit("r1", (*POOL, 1)) == [b"NOTREADY"]
    assert await redis.settle("r1", 0) == [b"NOTREADY"]
    assert await run("renew", (*CORE, KEY, ORG), LEASE_MS, "r1", 4, 5, 0, 0) == [b"NOTREADY"]
    assert await run("reap", SETTLE, "r1") == [b"NOTREADY"]
    assert await run("ack", (AT.meta, AT.usage, AT.tomb), 1, "1-0", "1-1", "r1") == [b"NOTREADY"]
    assert await run("adjust", (*OUT, ORG), 1, 1, 1, 4, "pool.b", 5, 0, "") == [b"NOTREADY"]


# settle ----------------------------------------------------------------------------


async def test_settle_gives_back_the_hold_and_takes_the_cost(redis: Redis) -> None:
    await redis.store.command("HSET", KEY, "par.l", 1)
    await redis.admit("r1", (*POOL, 300), (*SLOT, 1))
    assert await redis.settle("r1", 120, held=300) == [b"OK", b"0"]
    assert await redis.number(ORG, "pool.b") == BALANCE - 120
    assert await redis.number(ORG, "pool.h") == 0
    assert await redis.number(KEY, "par.h") == 0
    [entry] = await redis.entries()
    assert (entry[b"r"], entry[b"c"], entry[b"l"], entry[b"h"]) == (b"r1", b"120", b"0", b"300")


async def test_settle_happens_once(redis: Redis) -> None:
    await redis.admit("r1", (*POOL, 300))
    await redis.settle("r1", 120)
    before = await redis.everything()
    assert await redis.settle("r1", 120) == [b"DUP"]
    assert await redis.everything() == before


async def test_settle_of_nothing_held_touches_no_count(redis: Redis) -> None:
    """The hold has ended already: the ledger decides what a late truth means."""
    assert await redis.settle("r1", 120) == [b"OK", b"1"]
    assert await redis.number(ORG, "pool.b") == BALANCE
    assert [entry[b"l"] for entry in await redis.entries()] == [b"1"]


async def test_settle_at_no_cost_ends_a_hold_of_nothing(redis: Redis) -> None:
    """Redis refuses '-0': free models must not die of it half way."""
    await redis.admit("r1", (*POOL, 0))
    assert await redis.settle("r1", 0) == [b"OK", b"0"]
    assert await redis.store.command("HLEN", AT.hold) == 0


async def test_settle_may_cost_more_than_was_held(redis: Redis) -> None:
    """The provider has billed it already; the pool then admits nothing more that costs."""
    await redis.admit("r1", (*POOL, 10))
    await redis.settle("r1", BALANCE + 5)
    assert await redis.number(ORG, "pool.b") == -5
    assert (await redis.admit("r2", (*POOL, 1)))[0] == b"LIMIT"
    assert (await redis.admit("r3", (*POOL, 0)))[0] == b"OK"


async def test_settle_takes_the_largest_amount(redis: Redis) -> None:
    top = 9_000_000_000_000_000
    await redis.store.command("HSET", ORG, "pool.b", top)
    assert await redis.admit("r1", (*POOL, top)) == [b"OK", 0]
    assert await redis.settle("r1", top, held=top) == [b"OK", b"0"]
    assert await redis.number(ORG, "pool.b") == 0


@pytest.mark.parametrize("amount", ARGUMENTS_BAD)
async def test_settle_takes_amounts_of_plain_digits_alone(redis: Redis, amount: str) -> None:
    await redis.admit("r1", (*POOL, 10))
    before = await redis.everything()
    assert (await redis.settle("r1", amount))[0] == b"BAD"
    assert (await redis.settle("r1", 1, held=amount))[0] == b"BAD"
    assert await redis.everything() == before


async def test_settle_wants_every_owner_declared(redis: Redis) -> None:
    """In a slot that moves, a key that was not declared would stop the script half way."""
    await redis.admit("r1", (*POOL, 10))
    before = await redis.everything()
    keys = (*CORE, AT.tomb, AT.usage, KEY)
    words = ("r1", "settled", 1, ORG + b":pool", "", 10, "{}", 1, 0)
    reply = await redis.store.run("settle", keys, *words)
    assert reply == [b"BAD", b"hold"]
    assert await redis.everything() == before


@pytest.mark.parametrize("broken", [AT.lease, AT.tomb, AT.usage, AT.hold, ORG])
async def test_a_key_of_the_wrong_type_stops_settle_before_it_writes(
    redis: Redis, broken: bytes
) -> None:
    await redis.admit("r1", (*POOL, 10))
    await redis.store.command("DEL", broken)
    await redis.store.command("SET", broken, "rubbish")
    before = await redis.everything()
    with pytest.raises(Exception, match=r"WRONGTYPE|wrong kind"):
        await redis.settle("r1", 1)
    assert await redis.everything() == before


@pytest.mark.parametrize("broken", [AT.lease, AT.hold, KEY, ORG, AT.meta])
async def test_a_key_of_the_wrong_type_stops_admit_before_it_writes(
    redis: Redis, broken: bytes
) -> None:
    await redis.store.command("DEL", broken)
    await redis.store.command("SET", broken, "rubbish")
    before = await redis.everything()
    with pytest.raises(Exception, match=r"WRONGTYPE|wrong kind"):
        await redis.admit("r1", (*POOL, 10))
    assert await redis.everything() == before


@pytest.mark.parametrize(("name", "field"), [(ORG, "pool.h"), (ORG, "pool.b")])
async def test_a_count_that_is_no_number_stops_settle_before_it_writes(
    redis: Redis, name: bytes, field: str
) -> None:
    await redis.admit("r1", (*POOL, 10))
    await redis.store.command("HSET", name, field, "1.5")
    before = await redis.everything()
    assert await redis.settle("r1", 1) == [b"BAD", b"hold"]
    assert await redis.everything() == before


# renew and reap ------------------------------------------------------------------------


async def expire(redis: Redis, rid: str) -> None:
    await redis.store.command("ZADD", AT.lease, 1, rid)


async def renew(redis: Redis, rid: str, cost: Any = 0, extra: Any = 0) -> Reply:
    return await redis.store.run("renew", (*CORE, KEY, ORG), LEASE_MS, rid, 4, 5, cost, extra)


async def test_reap_ends_what_nobody_renewed(redis: Redis) -> None:
    await redis.admit("r1", (*POOL, 300))
    await redis.admit("r2", (*POOL, 300))
    await expire(redis, "r1")
    assert await redis.store.run("reap", SETTLE, "r1", "r2") == [b"OK", 1]
    assert await redis.number(ORG, "pool.h") == 300
    [entry] = await redis.entries()
    assert (entry[b"r"], entry[b"k"], entry[b"c"]) == (b"r1", b"orphan", b"0")
    assert entry[b"p"] == ORG + b":pool"


async def test_reap_charges_what_was_noted_last(redis: Redis) -> None:
    await redis.admit("r1", (*POOL, 300))
    assert await renew(redis, "r1", 77) == [b"OK", b"OK"]
    await expire(redis, "r1")
    await redis.store.run("reap", SETTLE, "r1")
    assert await redis.number(ORG, "pool.b") == BALANCE - 77


async def test_a_late_truth_about_an_orphan_is_one_entry_that_touches_nothing(redis: Redis) -> None:
    await redis.admit("r1", (*POOL, 300))
    await expire(redis, "r1")
    await redis.store.run("reap", SETTLE, "r1")
    await redis.store.command("HDEL", AT.tomb, "r1")  # the ledger has it
    balance = await redis.number(ORG, "pool.b")
    assert await redis.settle("r1", 50) == [b"OK", b"1"]
    assert await redis.number(ORG, "pool.b") == balance


async def test_renew_looks_again_before_reap_may_end_it(redis: Redis) -> None:
    await redis.admit("r1", (*POOL, 300))
    await expire(redis, "r1")
    await renew(redis, "r1")
    assert await redis.store.run("reap", SETTLE, "r1") == [b"OK", 0]


async def test_renew_tells_what_is_gone_and_what_is_revoked(redis: Redis) -> None:
    await redis.admit("r1", (*POOL, 300))
    assert await renew(redis, "r0") == [b"OK", b"GONE"]
    await redis.store.command("HSET", KEY, "st", "revoked")
    assert await renew(redis, "r1") == [b"OK", b"REVOKED"]
    assert await redis.number(ORG, "pool.h") == 300


@pytest.mark.parametrize("cost", ARGUMENTS_BAD)
async def test_renew_takes_amounts_of_plain_digits_alone(redis: Redis, cost: str) -> None:
    await redis.admit("r1", (*POOL, 300))
    before = await redis.everything()
    assert (await renew(redis, "r1", cost))[0] == b"BAD"
    assert await redis.everything() == before


# ack, adjust, publish, resync ------------------------------------------------------------


async def test_ack_forgets_what_the_ledger_has(redis: Redis) -> None:
    for nth in range(3):
        await redis.settle(f"r{nth}", 1)
    ids = [sid for sid, _ in await redis.store.command("XRANGE", AT.usage, "-", "+")]
    ms, _, seq = ids[1].partition(b"-")
    keys = (AT.meta, AT.usage, AT.tomb)
    await redis.store.run("ack", keys, 1, ids[1], b"%s-%d" % (ms, int(seq) + 1), "r0", "r1")
    assert [entry[b"r"] for entry in await redis.entries()] == [b"r2"]
    assert await redis.store.command("HKEYS", AT.tomb) == [b"r2"]


async def adjust(redis: Redis, first: Any, last: Any, delta: Any) -> Reply:
    row = (4, "pool.b", delta, 0, "")
    return await redis.store.run("adjust", (*OUT, ORG), 1, first, last, *row)


async def test_adjust_applies_each_row_once_and_in_order(redis: Redis) -> None:
    assert await adjust(redis, 1, 1, 50) == [b"OK"]
    assert await adjust(redis, 1, 1, 50) == [b"GAP", b"1"]
    assert await adjust(redis, 3, 3, 50) == [b"GAP", b"1"]
    assert await adjust(redis, 2, 4, -20) == [b"OK"]
    assert await redis.number(ORG, "pool.b") == BALANCE + 30


@pytest.mark.parametrize("delta", ["-0", "1.5", "nan", "", "--1", "9000000000000001", "+1"])
async def test_adjust_takes_whole_amounts_alone(redis: Redis, delta: str) -> None:
    before = await redis.everything()
    assert (await adjust(redis, 1, 1, delta))[0] == b"BAD"
    assert await redis.everything() == before


async def reserve(redis: Redis, name: str, amount: Any) -> Reply:
    return await redis.store.run("reserve", (*OUT, ORG), name, "pool", amount)


async def test_a_reservation_holds_once_what_nobody_else_can_have_then(redis: Redis) -> None:
    await redis.admit("r1", (*POOL, 300))
    assert await reserve(redis, "a", 701) == [b"FUNDS", b"700"]
    for _ in range(2):
        assert await reserve(redis, "a", 600) == [b"OK", b"1"]
    assert await redis.number(ORG, "pool.h") == 900
    assert (await redis.admit("r2", (*POOL, 101)))[0] == b"LIMIT"
    assert await redis.store.command("ZRANGE", AT.out, 0, -1) == [b"a"]


@pytest.mark.parametrize("amount", ARGUMENTS_BAD)
async def test_a_reservation_takes_amounts_of_plain_digits_alone(redis: Redis, amount: str) -> None:
    before = await redis.everything()
    assert (await reserve(redis, "a", amount))[0] == b"BAD"
    assert await redis.everything() == before


async def test_the_change_of_a_reservation_ends_it(redis: Redis) -> None:
    """In one step: the credits are never held and taken, and never neither of both."""
    await reserve(redis, "a", 600)
    row = (4, "pool.b", -600, 0, "a")
    assert await redis.store.run("adjust", (*OUT, ORG), 1, 1, 1, *row) == [b"OK"]
    assert (await redis.number(ORG, "pool.b"), await redis.number(ORG, "pool.h")) == (400, 0)
    assert await redis.store.command("EXISTS", AT.hold, AT.out) == 0


async def test_a_reservation_is_given_back_once_and_by_the_newest_state_alone(
    redis: Redis,
) -> None:
    """What was learned from the ledger holds only while Redis has not gone back behind it."""
    await reserve(redis, "a", 600)
    release = (*OUT, ORG)
    assert await redis.store.run("release", release, "a", 1) == [b"OLDER"]
    assert await redis.number(ORG, "pool.h") == 600
    for _ in range(2):
        assert await redis.store.run("release", release, "a", 0) == [b"OK"]
    assert await redis.number(ORG, "pool.h") == 0
    assert await redis.store.command("EXISTS", AT.hold, AT.out) == 0


async def test_a_reservation_that_cannot_be_read_stays_and_changes_nothing(redis: Redis) -> None:
    await reserve(redis, "a", 600)
    await redis.store.command("HSET", ORG, "pool.h", "x")
    before = await redis.everything()
    row = (4, "pool.b", -600, 0, "a")
    assert (await redis.store.run("adjust", (*OUT, ORG), 1, 1, 1, *row))[0] == b"BAD"
    assert (await redis.store.run("release", (*OUT, ORG), "a", 0))[0] == b"BAD"
    assert await redis.everything() == before


async def test_publish_never_puts_an_older_record_over_a_newer(redis: Redis) -> None:
    run = redis.store.run
    assert await run("publish", [KEY], 5, "st", "revoked") == [b"OK"]
    assert await run("publish", [KEY], 4, "st", "active") == [b"OLDER"]
    assert await redis.store.command("HGET", KEY, "st") == b"revoked"


async def test_resync_takes_off_what_was_spent_since_and_counts_living_holds(redis: Redis) -> None:
    await redis.admit("r1", (*POOL, 300))
    await redis.admit("r2", (*POOL, 100))
    await redis.settle("r1", 40)
    await redis.store.command("HSET", ORG, "pool.b", 5, "pool.h", 5)
    keys = (AT.meta, AT.hold, AT.usage, ORG)
    assert await redis.store.run("fence", [AT.meta], 1, "mine") == [b"OK"]
    figures = (4, "pool", "pool", 1000, 0)
    assert await redis.store.run("resync", keys, "0-0", 3, "mine", *figures) == [
        b"OK",
        b"955",
    ]
    assert await redis.number(ORG, "pool.b") == 960
    assert await redis.number(ORG, "pool.h") == 100
    assert await redis.store.command("HGET", AT.meta, "adjseq") == b"3"


async def test_what_was_named_is_filled_anew_for_a_while_alone(redis: Redis) -> None:
    end_user, job = AT.prefix + b"w:e:o:1", AT.prefix + b"w:j:o:1"
    await redis.store.run("fence", [AT.meta], 1, "mine")
    keys = (AT.meta, AT.hold, AT.usage, end_user, job, KEY)
    figures = (4, "l9", "call", 3, 1, 5, "bud", "ucr", 7, 0, 6, "bud", "ucr", 7, 0)
    assert (await redis.store.run("resync", keys, "0-0", 0, "mine", *figures))[0] == b"OK"
    lives = [await redis.store.command("PTTL", name) for name in (end_user, job, KEY)]
    assert lives[0] > 0
    assert lives[1] > 0
    assert lives[2] == -1


# budgets, jobs, slices ----------------------------------------------------------------------


async def test_limits_tells_how_full_meters_are_and_changes_nothing(redis: Redis) -> None:
    """Of a pool no limit and no use; it refuses whom admit refuses."""
    await redis.store.command("HSET", KEY, "bud.l", 500, "bud.u", 20)
    assert (await redis.admit("r1", (*POOL, 300), (*BUDGET, 300)))[0] == b"OK"
    keys, none = (AT.meta, KEY, ORG), ("", "")
    meters = (3, "pool", "pool", *none, 2, "bud", "ucr", *none, 2, "par", "slot", *none)
    before = await redis.everything()
    reply = await redis.store.run("limits", keys, 1, 1, *meters)
    pool, budget = (b"", b"", b"300", b"700", b""), (b"500", b"20", b"300", b"180", b"")
    assert reply == [b"OK", *pool, *budget, b"", b"0", b"0", b"0", b""]
    assert (await redis.store.run("limits", keys, 1, 2, *meters))[0] == b"STALE"
    assert (await redis.store.run("limits", keys, 1, 1, 9, "bud", "ucr", *none))[0] == b"BAD"
    assert await redis.everything() == before
    for change, answer in (("exp", 1), ("st", "blocked")):
        await redis.store.command("HSET", KEY, change, answer)
        assert await redis.store.run("limits", keys, 1, 1, *meters) == [b"KEY"]
    await redis.store.command("HSET", KEY, "st", "active", "exp", 0)
    await redis.store.command("HSET", ORG, "st", "suspended")
    assert await redis.store.run("limits", keys, 1, 1, *meters) == [b"ORG"]
    await redis.store.command("HSET", AT.meta, "fenced", 1)
    assert await redis.store.run("limits", keys, 1, 1, *meters) == [b"NOTREADY"]


async def test_a_budget_counts_up_what_a_pool_counts_down(redis: Redis) -> None:
    await redis.store.command("HSET", KEY, "bud.l", 500)
    assert await redis.admit("r1", (*POOL, 300), (*BUDGET, 300)) == [b"OK", 700, 200]
    assert (await redis.admit("r2", (*POOL, 300), (*BUDGET, 300)))[:3] == [b"LIMIT", b"2", b"200"]
    await redis.settle("r1", 120)
    assert await redis.number(KEY, "bud.u") == 120
    assert await redis.number(KEY, "bud.h") == 0
    assert await redis.admit("r3", (*POOL, 380), (*BUDGET, 380)) == [b"OK", 500, 0]


async def test_an_orphan_counts_on_its_budgets_too(redis: Redis) -> None:
    await redis.store.command("HSET", KEY, "bud.l", 500)
    await redis.admit("r1", (*POOL, 300), (*BUDGET, 300))
    await renew(redis, "r1", 40)
    await expire(redis, "r1")
    await redis.store.run("reap", SETTLE, "r1")
    assert await redis.number(KEY, "bud.u") == 40
    [entry] = await redis.entries()
    assert entry[b"b"] == KEY + b":bud"


async def test_the_first_ceiling_of_a_job_stands(redis: Redis) -> None:
    """Its owner is made by the first request, with a life of its own."""
    job, meter = AT.prefix + b"w:j:o:1", (7, "bud", "ucr")
    assert await redis.admit("r1", (*POOL, 60), (*meter, 60), job=job, ceiling=100) == [
        b"OK",
        940,
        40,
    ]
    assert await redis.admit("r2", (*POOL, 1), (*meter, 1), job=job, ceiling=200) == [
        b"JOB",
        b"100",
    ]
    assert (await redis.admit("r3", (*POOL, 41), (*meter, 41), job=job, ceiling=100))[0] == b"LIMIT"
    assert await redis.store.command("PTTL", job) > 0


async def test_a_job_of_the_api_lives_until_it_is_closed(redis: Redis) -> None:
    """It is on no list and has no end; closed, it takes no request, and what ran settles."""
    job, meter = AT.prefix + b"w:j:o:1", (7, "bud", "ucr")
    await redis.store.run("publish", [job], 1, "bud.l", 100, "st", "active")
    assert (await redis.admit("r1", (*POOL, 60), (*meter, 60), job=job, ceiling=100))[0] == b"OK"
    assert await redis.store.command("PTTL", job) == -1
    assert await redis.store.command("EXISTS", MADE) == 0
    await redis.store.run("publish", [job], 2, "bud.l", 100, "st", "closed")
    assert await redis.store.command("PTTL", job) > 0
    again = await redis.admit("r1", (*POOL, 60), (*meter, 60), job=job, ceiling=100)
    assert again[0] == b"OK"
    assert await redis.admit("r2", (*POOL, 1), (*meter, 1), job=job, ceiling=100) == [b"CLOSED"]
    await redis.store.run("settle", (*SETTLE, job), "r1", "settled", 50, "", "", 0, "{}", 1, 0)
    assert await redis.number(job, "bud.u") == 50


async def test_a_refused_request_makes_no_job(redis: Redis) -> None:
    job, meter = AT.prefix + b"w:j:o:1", (7, "bud", "ucr")
    before = await redis.everything()
    assert (await redis.admit("r1", (*POOL, 5), (*meter, 5), job=job, ceiling=4))[0] == b"LIMIT"
    assert (await redis.admit("r1", (*POOL, 5), (*meter, 5), job=job, ceiling="x"))[0] == b"BAD"
    assert await redis.everything() == before


async def test_renew_holds_a_further_slice_on_every_payer(redis: Redis) -> None:
    await redis.store.command("HSET", KEY, "bud.l", 500)
    await redis.admit("r1", (*POOL, 100), (*BUDGET, 100))
    assert await renew(redis, "r1", 10, extra=400) == [b"OK", b"OK"]
    assert await renew(redis, "r1", 10, extra=1) == [b"OK", b"FUNDS"]
    assert (await redis.number(ORG, "pool.h"), await redis.number(KEY, "bud.h")) == (500, 500)
    await redis.settle("r1", 450)
    assert (await redis.number(ORG, "pool.h"), await redis.number(KEY, "bud.h")) == (0, 0)
    assert (await redis.number(ORG, "pool.b"), await redis.number(KEY, "bud.u")) == (550, 450)


async def test_two_slices_in_one_call_do_not_take_the_same_credits(redis: Redis) -> None:
    await redis.admit("r1", (*POOL, 100))
    await redis.admit("r2", (*POOL, 100))
    rows = ("r1", 4, 5, 0, 500, "r2", 4, 5, 0, 500)
    reply = await redis.store.run("renew", (*CORE, KEY, ORG), LEASE_MS, *rows)
    assert reply == [b"OK", b"OK", b"FUNDS"]
    assert await redis.number(ORG, "pool.h") == 700


async def test_nothing_is_admitted_while_the_ledger_is_too_far_behind(redis: Redis) -> None:
    for nth in range(3):
        await redis.settle(f"r{nth}", 0)
    assert await redis.admit("r9", (*POOL, 1), backlog=3) == [b"NOTREADY"]
    assert (await redis.admit("r9", (*POOL, 1), backlog=4))[0] == b"OK"


async def test_adjust_gives_back_what_a_budget_was_used_for(redis: Redis) -> None:
    await redis.store.command("HSET", KEY, "bud.u", 70)
    rows = (1, 1, 2, 4, "bud.u", -20, 0, "", 5, "pool.b", 20, 0, "")
    assert await redis.store.run("adjust", (*OUT, KEY, ORG), *rows) == [b"OK"]
    assert await redis.number(KEY, "bud.u") == 50
    assert await redis.number(ORG, "pool.b") == BALANCE + 20


async def test_a_server_tells_which_run_it_is(redis: Redis) -> None:
    """Another run than before has lost its newest writes, or is a replica that never had them."""
    word, run, noted, uptime = await redis.store.run("server", [AT.meta])
    assert (word, len(run), noted) == (b"OK", 40, b"")
    assert int(uptime) >= 0


async def test_a_shard_is_filled_behind_one_fence_at_a_time(redis: Redis) -> None:
    """Whoever comes late, with an earlier fence or an earlier generation, changes nothing."""
    run, keys = redis.store.run, (AT.meta, AT.hold, AT.usage, ORG)
    assert await run("fence", [AT.meta], 1, "first") == [b"OK"]
    assert await run("fence", [AT.meta], 1, "second") == [b"OK"]
    before = await redis.everything()
    assert await run("resync", keys, "0-0", 3, "first", 4, "pool", "pool", 5, 0) == [b"OTHER"]
    assert await run("open", [AT.meta], "first", 2, "run") == [b"OTHER"]
    assert await redis.everything() == before
    assert await redis.admit("r1", (*POOL, 1)) == [b"NOTREADY"]
    assert await run("open", [AT.meta], "second", 2, "run") == [b"OK"]
    assert await run("fence", [AT.meta], 1, "late") == [b"OTHER"]
    assert (await redis.admit("r1", (*POOL, 1)))[0] == b"OK"


async def test_a_job_that_was_filled_anew_keeps_what_it_has_used(redis: Redis) -> None:
    """Its use comes back from the ledger, its ceiling with the next request."""
    job, meter = AT.prefix + b"w:j:o:1", (7, "bud", "ucr")
    await redis.store.command("HSET", job, "bud.u", 70)
    reply = await redis.admit("r1", (*POOL, 31), (*meter, 31), job=job, ceiling=100)
    assert reply[:3] == [b"LIMIT", b"2", b"30"]
