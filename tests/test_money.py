"""Amounts have one grammar: strict decimals as text; nothing else is money."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.money import credits_to_ucr, dollars_to_rate, rate_to_dollars
from proxy.costs.pricing import credits_text

NO_MONEY: list[object] = [
    *("-1", "-0", "1e3", "NaN", "Infinity", "0x10", "1_000", "1 ", " 1", "+1", "", ".5", "5."),
    *("01", "1,5", "٣", "1.0000001", str(2**63), "1" + "0" * 400, "1\n", "1.5.5"),
    *(True, 1, 1.5, None, [], {}),
]


@pytest.mark.parametrize("bad", NO_MONEY, ids=repr)
def test_what_is_no_amount_is_refused(bad: object) -> None:
    with pytest.raises(ValueError):
        credits_to_ucr(bad)


@pytest.mark.parametrize("nothing", ["0", "0.0", "0.000000"])
def test_an_amount_is_more_than_nothing(nothing: str) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        credits_to_ucr(nothing)


@pytest.mark.parametrize(
    ("text", "ucr"), [("1", 1_000_000), ("0.000001", 1), ("250.5", 250_500_000)]
)
def test_an_amount_is_exact(text: str, ucr: int) -> None:
    assert credits_to_ucr(text) == ucr


@given(st.integers(min_value=1, max_value=9_000_000_000_000_000))
def test_every_amount_survives_the_way_out_and_in(ucr: int) -> None:
    assert credits_to_ucr(credits_text(ucr)) == ucr


@pytest.mark.parametrize("bad", ["-1", "1e-6", "0.0000000001", "1234567", 1, None, True])
def test_what_is_no_price_is_refused(bad: object) -> None:
    with pytest.raises(ValueError):
        dollars_to_rate(bad)


@given(st.integers(min_value=0, max_value=999_999_999_999_999))
def test_every_price_survives_the_way_out_and_in(rate: int) -> None:
    assert dollars_to_rate(rate_to_dollars(rate)) == rate


def test_a_dollar_per_million_tokens_is_a_thousand_credits() -> None:
    assert dollars_to_rate("0.15") == 150_000_000
