"""Credits move between pools outflow first: whatever dies between the steps, none is spent twice,
none is lost, and what was reserved and never booked comes back.
"""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

from control.books import ledger, moves
from control.books.drain import Drain
from control.books.ledger import LedgerError, Purse
from control.books.moves import Balances, Move
from control.books.outflows import Outflows, RedisNotReady, TooFew
from control.books.verify import verify
from control.database import Pool
from control.store import Store
from proxy.redis.scripts import SHARD_KEYS
from tests.control_stage import Stage, stage

GRANTED = 1_000


@dataclass
class Scene:
    """Two organisations with a member each, and a drain that works when it is told to."""

    api: Stage
    drain: Drain
    acme: Purse
    beta: Purse
    member: Purse

    @property
    def pool(self) -> Pool:
        return self.api.state.pool

    @property
    def redis(self) -> Store:
        return self.api.state.redis

    async def move(self, source: Purse, target: Purse, amount: int, ref: str = "") -> Balances:
        wanted = Move(source, target, amount, ref or str(uuid.uuid4()))
        async with self.pool.acquire() as conn, conn.transaction():
            return await moves.move(conn, self.redis, wanted, "test")

    async def booked(self, purse: Purse) -> int:
        async with self.pool.acquire() as conn:
            return await ledger.balance(conn, purse.organisation, purse.person)

    async def in_redis(self, purse: Purse) -> tuple[int, int]:
        """Balance and what is held."""
        at, owner = SHARD_KEYS[await self.shard(purse)], purse.owner.rpartition(":")[0]
        name = at.prefix + owner.encode()
        found = await self.redis.command("HMGET", name, "pool.b", "pool.h")
        return int(found[0] or 0), int(found[1] or 0)

    async def shard(self, purse: Purse) -> int:
        async with self.pool.acquire() as conn:
            return await ledger.shard_of(conn, purse.organisation)

    async def push(self) -> None:
        while await self.drain.pusher.push_once():
            pass

    async def sweep(self) -> int:
        """As if every reservation were older than a lease."""
        return await Outflows(self.pool, self.redis, -1, self.drain.mine).sweep_once()

    async def proven(self) -> bool:
        report = await verify(self.pool, self.redis)
        assert report.ok, report
        return True


@pytest.fixture
async def scene(home: Path, database_url: str, redis_url: str) -> AsyncIterator[Scene]:
    async with stage(home, database_url, redis_url, drained=False) as api:
        drain = Drain(api.state.pool, api.state.redis, lease_ms=12_000)
        await drain.prepare()
        acme, beta = [UUID(await api.organisation(name)) for name in ("Acme", "Beta")]
        ann = await api.person("developer", str(acme))
        person = UUID((await ann.get("/api/v1/auth/me")).json["person"])
        made = Scene(api, drain, Purse(acme), Purse(beta), Purse(acme, person))
        async with made.pool.acquire() as conn, conn.transaction():
            await ledger.grant(conn, acme, GRANTED, "first", "test")
        await made.push()
        yield made


# What a move is ---------------------------------------------------------------------------


async def test_what_leaves_one_pool_reaches_the_other(scene: Scene) -> None:
    assert await scene.move(scene.acme, scene.beta, 300) == Balances(700, 300)
    await scene.push()
    assert await scene.in_redis(scene.acme) == (700, 0)
    assert await scene.in_redis(scene.beta) == (300, 0)
    assert await scene.proven()


async def test_members_get_credits_of_their_own_and_give_them_back(scene: Scene) -> None:
    assert await scene.move(scene.acme, scene.member, 300) == Balances(700, 300)
    await scene.push()
    assert await scene.in_redis(scene.member) == (300, 0)
    assert await scene.move(scene.member, scene.acme, 100) == Balances(200, 800)
    await scene.push()
    assert (await scene.in_redis(scene.member), await scene.in_redis(scene.acme)) == (
        (200, 0),
        (800, 0),
    )
    assert await scene.proven()


async def test_one_cause_is_moved_once(scene: Scene) -> None:
    first = await scene.move(scene.acme, scene.beta, 300, "order 1")
    await scene.push()
    assert await scene.move(scene.acme, scene.beta, 300, "order 1") == first
    for target, amount in ((scene.beta, 301), (scene.member, 300)):
        with pytest.raises(LedgerError, match="booked before"):
            await scene.move(scene.acme, target, amount, "order 1")
    assert await scene.in_redis(scene.acme) == (700, 0)


async def test_repetitions_at_one_time_are_one_move(scene: Scene) -> None:
    """The pool carries it once only, so a second reservation would be refused."""
    done = await asyncio.gather(
        *(scene.move(scene.acme, scene.beta, GRANTED, "order 1") for _ in range(4))
    )
    assert done == [Balances(0, GRANTED)] * 4
    await scene.push()
    assert await scene.in_redis(scene.acme) == (0, 0)
    assert await scene.proven()


async def test_what_is_not_there_is_not_moved(scene: Scene) -> None:
    with pytest.raises(TooFew) as problem:
        await scene.move(scene.acme, scene.beta, GRANTED + 1)
    assert problem.value.left == GRANTED
    with pytest.raises(TooFew):
        await scene.move(scene.beta, scene.acme, 1)
    for target, amount in ((scene.acme, 5), (scene.beta, 0), (scene.beta, 9 * 10**15 + 1)):
        with pytest.raises(LedgerError):
            await scene.move(scene.acme, target, amount)
    assert await scene.in_redis(scene.acme) == (GRANTED, 0)


async def test_a_pool_takes_no_more_than_an_amount_can_be(scene: Scene) -> None:
    async with scene.pool.acquire() as conn, conn.transaction():
        await ledger.grant(conn, scene.beta.organisation, 9 * 10**15, "all", "test")
    with pytest.raises(LedgerError, match="more than an amount"):
        await scene.move(scene.acme, scene.beta, 1)
    assert await scene.sweep() == 1
    assert await scene.in_redis(scene.acme) == (GRANTED, 0)


# Outflow first ----------------------------------------------------------------------------


async def test_what_is_moved_cannot_be_spent_before_redis_knows(scene: Scene) -> None:
    """Booked, and the drain has not told Redis yet: it is held there, and counts once."""
    await scene.move(scene.acme, scene.beta, 900)
    assert await scene.in_redis(scene.acme) == (GRANTED, 900)
    with pytest.raises(TooFew):
        await scene.move(scene.acme, scene.beta, 101)
    assert await scene.sweep() == 0, "the pusher ends it"
    await scene.push()
    assert await scene.in_redis(scene.acme) == (100, 0)


async def test_a_death_after_the_reservation_gives_the_credits_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: object) -> None:
        raise ConnectionResetError("killed between the steps")

    for step in ("post", "outbox", "account"):
        with monkeypatch.context() as patch:
            patch.setattr(ledger, step, dies)
            with pytest.raises(ConnectionResetError):
                await scene.move(scene.acme, scene.beta, 900, "order 1")
        assert await scene.in_redis(scene.acme) == (GRANTED, 900), "kept until nobody can book it"
    assert await scene.booked(scene.acme) == GRANTED
    assert await scene.proven()
    assert await scene.sweep() == 1
    assert await scene.in_redis(scene.acme) == (GRANTED, 0)
    assert await scene.proven()


async def test_who_tries_again_takes_up_his_reservation(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: object) -> None:
        raise ConnectionResetError("killed between the steps")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "post", dies)
        with pytest.raises(ConnectionResetError):
            await scene.move(scene.acme, scene.beta, 900, "order 1")
    assert await scene.move(scene.acme, scene.beta, 900, "order 1") == Balances(100, 900)
    await scene.push()
    assert await scene.in_redis(scene.acme) == (100, 0)
    assert await scene.sweep() == 0
    assert await scene.proven()


async def test_a_young_reservation_and_one_that_is_being_booked_stay(scene: Scene) -> None:
    wanted = Move(scene.acme, scene.beta, 900, "order 1")
    async with scene.pool.acquire() as conn, conn.transaction():
        await moves.move(conn, scene.redis, wanted, "test")
        assert await scene.drain.outflows.sweep_once() == 0, "younger than a lease"
        assert await scene.sweep() == 0, "its transaction has not ended"
    await scene.push()
    assert await scene.in_redis(scene.acme) == (100, 0)


async def test_a_lost_commit_gives_back_what_was_reserved(scene: Scene) -> None:
    """The connection ends before the commit: the ledger has nothing, the lock is free."""
    conn = await scene.pool.acquire()
    transaction = conn.transaction()
    await transaction.start()
    wanted = Move(scene.acme, scene.beta, 900, "order 1")
    await moves.move(conn, scene.redis, wanted, "test")
    await conn.execute("SELECT 1")
    conn.terminate()
    await scene.pool.release(conn)
    async with asyncio.timeout(10):
        while not await scene.sweep():  # noqa: ASYNC110 - the server notices in its own time
            await asyncio.sleep(0.01)
    assert await scene.in_redis(scene.acme) == (GRANTED, 0)
    assert await scene.booked(scene.acme) == GRANTED


# Redis is lost ----------------------------------------------------------------------------


async def test_redis_loses_all_after_the_commit(scene: Scene) -> None:
    await scene.move(scene.acme, scene.beta, 300)
    await scene.redis.command("FLUSHDB")
    await scene.drain.prepare()
    await scene.push()
    assert await scene.in_redis(scene.acme) == (700, 0)
    assert await scene.in_redis(scene.beta) == (300, 0)
    assert await scene.proven()


async def test_a_reservation_that_a_resync_overtook_is_ended(scene: Scene) -> None:
    """The balance has the move already, so its row of the outbox is never applied."""
    await scene.move(scene.acme, scene.beta, 300)
    at = SHARD_KEYS[await scene.shard(scene.acme)]
    await scene.redis.command("HDEL", at.meta, "gen")
    await scene.drain.prepare()
    assert await scene.in_redis(scene.acme) == (700, 300)
    assert await scene.sweep() == 1
    assert await scene.in_redis(scene.acme) == (700, 0)
    assert await scene.proven()


async def test_what_was_reserved_before_a_shard_was_filled_is_not_booked(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis has lost the reservation, and requests may have spent the credits since."""
    from control.books import outflows

    reserve = outflows.reserve

    async def and_then_lost(*given: object) -> int:
        generation = await reserve(*given)  # type: ignore[arg-type]
        await scene.redis.command("FLUSHDB")
        await scene.drain.prepare()
        return generation

    monkeypatch.setattr(outflows, "reserve", and_then_lost)
    with pytest.raises(RedisNotReady):
        await scene.move(scene.acme, scene.beta, 300)
    assert await scene.in_redis(scene.acme) == (GRANTED, 0)
    assert await scene.proven()


async def test_nothing_is_reserved_while_a_shard_is_being_filled(scene: Scene) -> None:
    at = SHARD_KEYS[await scene.shard(scene.acme)]
    await scene.redis.command("HSET", at.meta, "fenced", "mine")
    with pytest.raises(RedisNotReady):
        await scene.move(scene.acme, scene.beta, 300)
    assert await scene.in_redis(scene.acme) == (GRANTED, 0)


# All at one time --------------------------------------------------------------------------


async def test_moves_in_all_directions_keep_every_credit(scene: Scene) -> None:
    """Deaths, the drain and the sweep between them; at rest both sides agree."""
    rng, purses = random.Random(7), (scene.acme, scene.beta, scene.member)
    ended = asyncio.Event()

    async def drains() -> None:
        while not ended.is_set():
            await scene.push()
            await scene.sweep()
            await asyncio.sleep(0)

    async def some() -> None:
        for _ in range(15):
            source, target = rng.sample(purses, 2)
            wanted = Move(source, target, rng.randrange(1, 600), str(rng.randrange(20)))
            try:
                async with scene.pool.acquire() as conn, conn.transaction():
                    await moves.move(conn, scene.redis, wanted, "test")
                    if rng.random() < 0.3:
                        raise ConnectionResetError
            except (TooFew, LedgerError, ConnectionResetError):
                pass

    working = asyncio.create_task(drains())
    await asyncio.gather(*(some() for _ in range(3)))
    ended.set()
    await working
    await scene.push()
    await scene.sweep()
    found = [await scene.in_redis(purse) for purse in purses]
    assert found == [(await scene.booked(purse), 0) for purse in purses]
    assert sum(balance for balance, _ in found) == GRANTED
    assert all(balance >= 0 for balance, _ in found)
    assert await scene.proven()
