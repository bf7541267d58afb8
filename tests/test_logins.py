"""Failed sign-ins are counted per name within a window, in bounded memory."""

import pytest

from control import logins
from control.errors import LoginsTooMany
from control.logins import Logins


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_too_many_tries_must_wait_until_the_window_moves_on() -> None:
    clock = Clock()
    counted = Logins(2, 60, clock)
    counted.count(["a"])
    clock.now = 10
    counted.count(["a"])
    with pytest.raises(LoginsTooMany) as refused:
        counted.count(["a"])
    assert ("retry-after", "50") in refused.value.headers
    clock.now = 61
    counted.count(["a"])


def test_a_refused_try_is_counted_under_no_name() -> None:
    counted = Logins(1, 60, Clock())
    counted.count(["address:1"])
    with pytest.raises(LoginsTooMany):
        counted.count(["address:1", "email:b"])
    counted.count(["email:b"])


def test_a_success_takes_back_its_own_try_alone() -> None:
    counted = Logins(2, 60, Clock())
    counted.count(["a"])
    counted.count(["a"])
    counted.forget(["a"])
    counted.count(["a"])
    with pytest.raises(LoginsTooMany):
        counted.count(["a"])


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "NAMES_MAX", 100)
    counted = Logins(1, 60, Clock())
    for number in range(1000):
        counted.count([f"email:{number}"])
    assert len(counted._tries) == 100
