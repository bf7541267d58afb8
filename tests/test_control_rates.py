"""How often the control API may be asked: by an address, a key, a person; never the socket."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control import rates, settings
from control.errors import AskedTooOften
from control.rates import Rates
from plugins.access import Caller
from tests.control_stage import Reply, Stage, stage

ME = "/api/v1/auth/me"
ERROR = "/errors/conflict"
PERSON = uuid.uuid4()
KEY, OTHER = (Caller(f"key:{n}", "admin", None, PERSON, False) for n in "ab")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def made(clock: Clock, **given: str) -> Rates:
    environ = {f"OPSCENTER_CONTROL_{name.upper()}_RATE_MAX": text for name, text in given.items()}
    return Rates(settings.load(environ), clock)


def admitted(one: Rates, caller: Caller, tries: int) -> int:
    count = 0
    for _ in range(tries):
        try:
            one.of_caller(caller)
        except AskedTooOften:
            continue
        count += 1
    return count


def test_a_minute_holds_so_many_and_time_makes_room() -> None:
    clock = Clock()
    one = made(clock, key="6", person="9")
    assert admitted(one, KEY, 20) == 6
    assert admitted(one, OTHER, 20) == 3  # of the same person
    clock.now += 10
    assert admitted(one, KEY, 20) == 1  # the person has room for 1.5
    clock.now += 3600
    assert admitted(one, KEY, 20) == 6


def test_a_refusal_costs_nothing_and_says_when_there_is_room() -> None:
    clock = Clock()
    one = made(clock, key="2", person="0")
    [limit, left, reset] = one.of_caller(KEY)
    assert (limit[1], left[1], reset[1]) == ("2", "1", "30s")
    one.of_caller(KEY)
    for _ in range(50):
        with pytest.raises(AskedTooOften) as refused:
            one.of_caller(KEY)
    assert refused.value.retry_after_s == 30
    clock.now += 30
    assert one.of_caller(KEY)[1][1] == "0"


def test_zero_is_no_limit_and_an_ipv6_customer_is_one_address() -> None:
    one = made(Clock(), address="3", key="0", person="0")
    assert admitted(one, KEY, 2000) == 2000
    for last in range(3):
        one.of_address(f"2001:db8::{last}")
    with pytest.raises(AskedTooOften):
        one.of_address("2001:db8::99")
    one.of_address("2001:db8:0:1::1")


def test_a_bounded_number_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "NAMES_MAX", 10)
    one = made(Clock())
    for n in range(100):
        one.of_address(f"192.0.2.{n}")
    assert len(one._paid_at) == 10


@pytest.fixture
async def api(home: Path, database_url: str, redis_url: str) -> AsyncIterator[Stage]:
    limits = {"address": "3", "key": "4", "person": "6"}
    given = {f"control_{name}_rate_max": most for name, most in limits.items()}
    async with stage(home, database_url, redis_url, drained=False, **given) as made:
        made.app._rates._now = Clock()  # stands still, however long a call takes here
        yield made


async def test_a_key_and_its_person_are_limited(api: Stage) -> None:
    """Told on every answer; 429 says when to come again and which setting it was."""
    me = (await api.at_home.get(ME)).json
    path = f"/api/v1/admin/users/{me['person']}/api-keys"
    second = api.of((await api.at_home.post(path, {"name": "second"})).json["key"])
    answers = [await api.get(ME) for _ in range(5)]
    assert [one.status for one in answers] == [200, 200, 200, 200, 429]
    assert [_left(one) for one in answers] == ["3", "2", "1", "0", "0"]
    refused = answers[-1]
    assert (refused.code, refused.headers["x-ratelimit-limit-requests"]) == (
        "control_rate_limited",
        "4",
    )
    assert 1 <= int(refused.headers["retry-after"]) <= 15
    assert "OPSCENTER_CONTROL_KEY_RATE_MAX" in refused.message
    assert [(await second.get(ME)).status for _ in range(3)] == [200, 200, 429]
    assert [(await api.at_home.get(ME)).status for _ in range(10)] == [200] * 10


async def test_an_address_that_shows_nothing_good_is_limited(api: Stage) -> None:
    """Failed sign-ins count on it like no sign-in; who shows a good one is not concerned."""
    nobody, wrong = api.of(None), api.of("ses_wrong")
    assert [(await wrong.get(ME)).status for _ in range(2)] == [401, 401]
    assert (await nobody.get(ERROR)).headers["x-ratelimit-remaining-requests"] == "0"
    for caller, path in ((nobody, ERROR), (wrong, ME), (nobody, "/api/v1/nothing")):
        refused = await caller.get(path)
        assert (refused.status, refused.code) == (429, "control_rate_limited")
    assert (await nobody.get("/healthz")).status == 200
    assert (await api.get(ME)).status == 200


def _left(reply: Reply) -> str:
    return reply.headers["x-ratelimit-remaining-requests"]
