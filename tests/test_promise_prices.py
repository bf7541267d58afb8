"""P06: no price, no call."""

from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path

import pytest

from bench.upstream import FakeUpstream
from proxy.costs.price import KINDS, NEEDED, Rates
from proxy.redis.scripts import SHARD_KEYS
from tests.door_stage import DoorStage, door
from tests.test_promise_routes import EVERY, METERED, ask

RATE = 1_000_000
SOLD = {path: served for path, served in METERED.items() if not served.free}


def gaps(kind: str) -> list[Rates | None]:
    """Prices of a model that lack something such a call may use: none, none that means anything,
    and those with one class missing of each way in which it could be complete."""
    every = dict.fromkeys({*EVERY, *frozenset().union(*NEEDED[kind])}, RATE)
    lacking = {frozenset(one) for one in product(*NEEDED[kind])}
    partial = [{n: r for n, r in every.items() if n not in lacks} for lacks in lacking]
    unknown = {**every, "guesses": RATE}
    return [None, unknown, {"cache_read": RATE}, *partial]


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    async with door(home, redis_url, database_url) as stage:
        yield stage


async def test_p06_fail_closed(stage: DoorStage) -> None:
    """Every route that is sold refuses every gap, says which command closes it, holds nothing, and
    no provider hears of it."""
    refused = 0
    async with FakeUpstream() as fake:
        await stage.add_provider(fake.url + "/v1")
        for kind in KINDS:
            for nth, rates in enumerate(gaps(kind)):
                model = await stage.add_model(f"{kind}/{nth}", "mock/ok", rates=rates)
                for path in (path for path, served in SOLD.items() if served.kind == kind):
                    answer = await ask(stage, path, SOLD[path], model)
                    assert answer.status_code == 400, (path, rates, answer.text)
                    assert "price_unknown" in answer.text, (path, rates, answer.text)
                    assert f"opscenter models price {model}" in answer.text
                    refused += 1
        assert not fake.requests
    assert refused >= len(SOLD) * 4
    await stage.quiesce()
    assert (await stage.pool_in_redis())["h"] == 0
    assert await stage.usage() == []


async def test_p06_fail_closed_but_what_is_free_is_served_to_an_empty_pool(
    stage: DoorStage,
) -> None:
    id = await stage.organisation()
    shard = await stage.pool.fetchval("SELECT shard FROM organisation WHERE id = $1", id)
    owner = SHARD_KEYS[shard].organisation(str(id))
    async with FakeUpstream() as fake:
        await stage.add_provider(fake.url + "/v1")
        free = await stage.add_model("fake/free", "mock/ok", rates={"input": 0, "output": 0})
        sold = await stage.add_model("fake/sold", "mock/ok", rates={"input": RATE, "output": RATE})
        await stage.redis.command("HSET", owner, "pool.b", 0)
        path = "/v1/chat/completions"
        served = await ask(stage, path, SOLD[path], free)
        assert (served.status_code, served.headers["x-ops-cost"]) == (200, "0.000000")
        assert (await ask(stage, path, SOLD[path], sold)).status_code == 402
        assert len(fake.requests) == 1
