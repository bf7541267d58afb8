"""What tokens cost: integers only, one rounding per charge, never less than the truth."""

from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.pricing import AMOUNT_MAX_UCR, cost_ucr, credits_text, worst_ucr
from proxy.types import WITHIN, Price

calm = settings(deadline=None, derandomize=True, database=None)

CLASSES = ("input", "output", *WITHIN)
counts = st.integers(0, 10_000_000)
rates = st.integers(0, 1_000_000_000_000)  # up to $1,000 per million
tokens = st.dictionaries(st.sampled_from(CLASSES), counts)
prices = st.builds(
    lambda base, more, factor: Price(1, {**more, **base}, factor),
    st.fixed_dictionaries({"input": rates, "output": rates}),
    st.dictionaries(st.sampled_from(tuple(WITHIN)), rates),
    st.integers(0, 10_000_000),
)


def exact(used: dict[str, int], price: Price) -> Fraction:
    total = Fraction(0)
    for name, count in used.items():
        rate = price.rates[name] if name in price.rates else price.rates[WITHIN[name]]
        total += Fraction(count * rate, 1_000_000)
    return total * Fraction(price.factor_ppm, 1_000_000)


@calm
@given(tokens, prices)
def test_a_charge_is_the_exact_amount_rounded_up_once(used: dict[str, int], price: Price) -> None:
    """Never under the truth, and over it by less than one micro-credit."""
    truth = exact(used, price)
    cost = cost_ucr(used, price)
    assert cost == min(ceil(truth), AMOUNT_MAX_UCR)
    assert cost >= truth or cost == AMOUNT_MAX_UCR
    assert cost - truth < 1


@calm
@given(counts, counts, prices, st.data())
def test_the_worst_case_covers_every_split_into_classes(
    input_max: int, output_max: int, price: Price, data: st.DataObject
) -> None:
    """A hold is enough whatever classes the provider finds: cached, reasoning, audio."""
    used = {}
    for side, whole in (("input", input_max), ("output", output_max)):
        left = data.draw(st.integers(0, whole))
        for name in (n for n, within in WITHIN.items() if within == side):
            used[name] = data.draw(st.integers(0, left))
            left -= used[name]
        used[side] = left
    assert worst_ucr(input_max, output_max, price) >= cost_ucr(used, price)


@calm
@given(counts, counts, prices)
def test_the_worst_case_is_reached_by_some_answer(
    input_max: int, output_max: int, price: Price
) -> None:
    """Not one micro-credit more is held than an answer may cost."""
    side = {"input": "input", "output": "output", **WITHIN}
    dear = {
        which: max((n for n in price.rates if side[n] == which), key=lambda n: price.rates[n])
        for which in ("input", "output")
    }
    used = {dear["input"]: input_max, dear["output"]: output_max}
    assert worst_ucr(input_max, output_max, price) == cost_ucr(used, price)


def test_the_known_case_costs_what_everybody_calculates() -> None:
    """Five calls of 14, 14, 14, 14 and 21 tokens at $0.003 per 1k and 25 % markup."""
    price = Price(1, {"input": 3_000_000_000, "output": 3_000_000_000}, 1_250_000)
    costs = [cost_ucr({"input": n - 7, "output": 7}, price) for n in (14, 14, 14, 14, 21)]
    assert costs == [52_500] * 4 + [78_750]
    assert sum(costs) == 288_750


def test_the_documented_case_of_a_large_model() -> None:
    """6,000 in at $0.03 and 2,000 out at $0.06 per 1k with 25 %: 375 credits."""
    price = Price(1, {"input": 30_000_000_000, "output": 60_000_000_000}, 1_250_000)
    assert cost_ucr({"input": 6_000, "output": 2_000}, price) == 375_000_000


@pytest.mark.parametrize(
    ("used", "cost"),
    [
        ({}, 0),
        ({"input": 0, "output": 0}, 0),
        ({"input": 1}, 1),
        ({"input": 1, "output": 1}, 1),
        ({"input": 999_999}, 1),
        ({"input": 1_000_000}, 1),
        ({"input": 1_000_001}, 2),
    ],
)
def test_the_smallest_price_is_rounded_up_once_for_all_classes(
    used: dict[str, int], cost: int
) -> None:
    assert cost_ucr(used, Price(1, {"input": 1, "output": 0}, 1_000_000)) == cost


@pytest.mark.parametrize(("name", "within"), WITHIN.items())
def test_a_class_without_a_rate_costs_what_its_side_costs(name: str, within: str) -> None:
    """Only a rate of its own makes it cheaper or dearer."""
    base = {"input": 2_000_000, "output": 7_000_000}
    assert cost_ucr({name: 5}, Price(1, base, 1_000_000)) == 5 * base[within] // 1_000_000
    own = Price(1, {**base, name: 1_000_000}, 1_000_000)
    assert cost_ucr({name: 5}, own) == 5


def test_a_charge_stays_below_the_cap_of_all_amounts() -> None:
    """Lua's numbers are doubles: beyond 2^53 sums would be wrong."""
    price = Price(1, {"input": 10**15, "output": 10**15}, 10**9)
    assert cost_ucr({"input": 10**9}, price) == AMOUNT_MAX_UCR < 2**53
    assert worst_ucr(10**9, 10**9, price) == AMOUNT_MAX_UCR


@pytest.mark.parametrize(
    ("rates", "complete"),
    [
        ({"input": 1, "output": 1}, True),
        ({"input": 0, "output": 0}, True),
        ({"input": 1, "output": 1, "cache_read": 0, "reasoning": 5}, True),
        ({}, False),
        ({"input": 1}, False),
        ({"output": 1, "cache_read": 1}, False),
        ({"input": 1, "output": 1, "images": 1}, False),
        ({"input": 1, "output": -1}, False),
    ],
)
def test_only_a_complete_price_can_be_sold(rates: dict[str, int], complete: bool) -> None:
    """Both sides of a call have a rate, every class is known, nothing is paid out."""
    assert Price(1, rates, 1_000_000).is_complete is complete


@pytest.mark.parametrize(
    ("ucr", "text"),
    [
        (0, "0.000000"),
        (1, "0.000001"),
        (-1, "-0.000001"),
        (999_999, "0.999999"),
        (1_000_000, "1.000000"),
        (-1_000_000, "-1.000000"),
        (-1_000_001, "-1.000001"),
        (288_750, "0.288750"),
        (AMOUNT_MAX_UCR, "9000000000.000000"),
    ],
)
def test_credits_are_written_with_six_decimals(ucr: int, text: str) -> None:
    assert credits_text(ucr) == text


@calm
@given(st.integers(-AMOUNT_MAX_UCR, AMOUNT_MAX_UCR))
def test_credits_as_text_lose_nothing(ucr: int) -> None:
    assert Fraction(credits_text(ucr)) * 1_000_000 == ucr
