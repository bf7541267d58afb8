"""Guessed keys: a budget per address, held in memory, that takes nothing from who has a key; and
the same answer to every key that is no good, for the same work.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxy.errors import FailedKeysTooMany
from proxy.redis.shards import Shards
from proxy.who import callers, keys
from proxy.who.keyfile import KeyFile
from proxy.who.rules import network_of
from proxy.who.tries import Tries
from tests.door_stage import DoorStage, door

BUDGET, WINDOW_S = 6, 3_600
FEW = {
    "OPSCENTER_FAILED_KEYS_MAX": str(BUDGET),
    "OPSCENTER_FAILED_KEYS_WINDOW_S": str(WINDOW_S),
    "OPSCENTER_TRUSTED_PROXIES": "127.0.0.1",
}
HERE, ELSEWHERE = {"x-forwarded-for": "192.0.2.1"}, {"x-forwarded-for": "198.51.100.1"}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def refused(tries: Tries, client: str) -> int:
    """For how many seconds; 0: not at all."""
    try:
        tries.check(client)
    except FailedKeysTooMany as problem:
        return problem.retry_after_s or 0
    return 0


# Pure ------------------------------------------------------------------------------------


def test_a_budget_is_used_up_by_guesses_and_comes_back_with_time() -> None:
    clock = Clock()
    tries = Tries(6, 60, 100, clock)
    for _ in range(6):
        assert refused(tries, "192.0.2.1") == 0
        tries.guessed("192.0.2.1")
    assert refused(tries, "192.0.2.1") == 10
    assert refused(tries, "192.0.2.2") == 0
    clock.now += 10
    assert refused(tries, "192.0.2.1") == 0
    tries.guessed("192.0.2.1")
    assert refused(tries, "192.0.2.1") == 10
    clock.now += 60
    for _ in range(6):
        assert refused(tries, "192.0.2.1") == 0
        tries.guessed("192.0.2.1")


def test_guesses_side_by_side_are_paid_for_and_nobody_waits_for_ever() -> None:
    """What passed before the budget was used up counts, up to one window more."""
    clock = Clock()
    tries = Tries(6, 60, 100, clock)
    for _ in range(8):
        tries.guessed("192.0.2.1")
    assert refused(tries, "192.0.2.1") == 30
    for _ in range(1000):
        tries.guessed("192.0.2.1")
    assert refused(tries, "192.0.2.1") == 70
    clock.now += 70
    assert refused(tries, "192.0.2.1") == 0


def test_garbage_is_counted_by_itself() -> None:
    tries = Tries(2, 60, 100, Clock())
    tries.garbage("192.0.2.1")
    tries.garbage("192.0.2.1")
    with pytest.raises(FailedKeysTooMany):
        tries.garbage("192.0.2.1")
    assert refused(tries, "192.0.2.1") == 0


def test_a_bounded_number_of_addresses_is_remembered() -> None:
    """The one that was quiet for the longest time is forgotten."""
    tries = Tries(1, 60, 3, Clock())
    for last in (1, 2, 3, 1, 4):
        tries.guessed(f"192.0.2.{last}")
    assert [refused(tries, f"192.0.2.{last}") > 0 for last in (1, 2, 3, 4)] == [
        True,
        False,
        True,
        True,
    ]


def test_without_a_budget_nobody_is_refused() -> None:
    tries = Tries(0, 60, 3, Clock())
    for _ in range(100):
        tries.guessed("192.0.2.1")
        tries.garbage("192.0.2.1")
    assert refused(tries, "192.0.2.1") == 0


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("", "x" * 1000, True),
    ],
)
def test_an_ipv6_customer_is_counted_by_his_network(one: str, other: str, together: bool) -> None:
    assert (network_of(one) == network_of(other)) is together


# At the door -----------------------------------------------------------------------------


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    async with door(home, redis_url, database_url, **FEW) as stage:
        yield stage


def code(answer: httpx2.Response) -> str:
    return str(answer.status_code if answer.is_success else answer.json()["error"]["code"])


async def test_guesses_are_refused_before_redis_is_asked(
    stage: DoorStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From their address alone; a key in use goes on there, one that nobody has used yet waits."""
    known, unused = await stage.new_key(), await stage.new_key()
    assert code(await stage.chat(key=known, **HERE)) == "200"
    for _ in range(BUDGET):
        assert code(await stage.chat(key=keys.mint(3).text, **HERE)) == "invalid_api_key"
    asked = counted(monkeypatch, Shards, "key")
    for path in ("/v1/models", "/v1/me/limits"):
        sent = {**HERE, "authorization": f"Bearer {keys.mint(3).text}"}
        assert code(await stage.http.get(path, headers=sent)) == "failed_keys_too_many"
    answer = await stage.chat(key=keys.mint(3).text, **HERE)
    assert (answer.status_code, code(answer)) == (429, "failed_keys_too_many")
    assert int(answer.headers["retry-after"]) == WINDOW_S // BUDGET
    assert asked.here == 0
    assert code(await stage.chat(key=known, **HERE)) == "200"
    assert code(await stage.chat(key=unused, **HERE)) == "failed_keys_too_many"
    assert code(await stage.chat(key=unused, **ELSEWHERE)) == "200"
    assert code(await stage.chat(key=unused, **HERE)) == "200"


async def test_a_key_that_was_good_is_no_guess(stage: DoorStage) -> None:
    """An app that goes on with a revoked key takes nothing from the others at its address."""
    dead = await stage.new_key()
    await stage.pool.execute("UPDATE api_key SET status = 'revoked' WHERE kid = $1", dead[9:19])
    assert await stage.drain.publisher.key(dead[9:19])
    for _ in range(2 * BUDGET):
        assert code(await stage.chat(key=dead, **HERE)) == "invalid_api_key"
    assert code(await stage.chat(key=await stage.new_key(), **HERE)) == "200"


async def test_what_cannot_be_a_key_takes_nothing_from_keys(stage: DoorStage) -> None:
    answers = [code(await stage.chat(key="EMPTY", **HERE)) for _ in range(BUDGET + 1)]
    assert answers == ["invalid_api_key"] * BUDGET + ["failed_keys_too_many"]
    assert code(await stage.chat(key="eyJ.x.y", **HERE)) == "failed_keys_too_many"
    assert code(await stage.chat(key=await stage.new_key(), **HERE)) == "200"


async def test_keys_that_are_no_good_get_one_answer_for_the_same_work(
    stage: DoorStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown, wrong, revoked, expired, rotated away; remembered by the worker or not."""
    revoked, expired, used = [await stage.new_key() for _ in range(3)]
    rotated = await stage.new_key()
    for key, what in (
        (revoked, "status = 'revoked'"),
        (expired, "expires_at = now() - interval '1 minute'"),
        (rotated, "old_digest = digest, old_pepper = pepper, old_until = now(), digest = '\\x00'"),
    ):
        await stage.pool.execute(f"UPDATE api_key SET {what} WHERE kid = $1", key[9:19])
        assert await stage.drain.publisher.key(key[9:19])
    assert code(await stage.chat(key=used)) == "200"
    wrong = keys.mint(int(used[7:9]), used[9:19]).text
    answers = set[tuple[int, bytes, tuple[tuple[str, str], ...]]]()
    work = set[tuple[int, ...]]()
    for key in (keys.mint(int(used[7:9])).text, wrong, revoked, expired, rotated):
        counts = (
            counted(monkeypatch, KeyFile, "digest"),
            counted(monkeypatch, Shards, "key"),
            counted(monkeypatch, Shards, "organisation"),
            counted(monkeypatch, Shards, "admit"),
            counted(monkeypatch, callers, "key_record"),
        )
        answer = await stage.chat(key=key, **ELSEWHERE)
        work.add(tuple(count.here for count in counts))
        monkeypatch.undo()
        assert code(answer) == "invalid_api_key"
        rid = answer.headers["x-ops-request-id"]
        headers = tuple((n, v.replace(rid, "")) for n, v in answer.headers.items())
        answers.add((answer.status_code, answer.content.replace(rid.encode(), b""), headers))
    assert len(answers) == 1
    assert work == {(4, 1, 0, 0, 1)}


class Count:
    here = 0


def counted(monkeypatch: pytest.MonkeyPatch, where: Any, name: str) -> Count:
    count, real = Count(), getattr(where, name)

    def counting(*arguments: Any, **named: Any) -> Any:
        count.here += 1
        return real(*arguments, **named)

    monkeypatch.setattr(where, name, counting)
    return count
