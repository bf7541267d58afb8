"""What tokens cost: integers only, one rounding per charge, never less than the truth."""

from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.costs.price import KINDS, SIDES, UNITS, WITHIN, Price, Tier
from proxy.costs.pricing import AMOUNT_MAX_UCR, cost_ucr, credits_text, unpriced, worst_ucr

calm = settings(deadline=None, derandomize=True, database=None)

CLASSES = tuple(SIDES)
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
        rate = next(price.rates[n] for n in (name, *WITHIN.get(name, ())) if n in price.rates)
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
        for name in (n for n in WITHIN if SIDES[n] == side):
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
    dear = {
        which: max((n for n in price.rates if SIDES[n] == which), key=lambda n: price.rates[n])
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


@pytest.mark.parametrize(("name", "within"), [(n, SIDES[n]) for n in WITHIN])
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
    ("name", "rates", "rate"),
    [
        ("cache_write_1h", {"cache_write": 5}, 5),
        ("cache_write_1h", {"cache_write": 5, "cache_write_1h": 8}, 8),
        ("cache_audio_in", {"cache_read": 1, "audio_in": 9}, 9),
        ("cache_audio_in", {"cache_read": 1}, 1),
        ("cache_image_in", {}, 3),
    ],
)
def test_a_class_takes_the_nearest_rate_that_there_is(
    name: str, rates: dict[str, int], rate: int
) -> None:
    million = {one: each * 1_000_000 for one, each in {"input": 3, "output": 7, **rates}.items()}
    assert cost_ucr({name: 10}, Price(1, million, 1_000_000)) == 10 * rate


@pytest.mark.parametrize(
    ("rates", "covered"),
    [
        ("input output", "chat completions embeddings rerank moderation images speech"),
        ("input", "embeddings rerank moderation"),
        ("output cache_read", ""),
        ("", ""),
        ("images", "images"),
        ("input image_out", "embeddings images rerank moderation"),
        ("characters", "speech"),
        ("seconds", "transcription"),
        ("searches", "rerank"),
        ("requests", "rerank moderation"),
        ("input output nonsense", ""),
        ("input output seconds/x", ""),
    ],
)
def test_a_price_covers_the_kinds_of_calls_that_it_can_charge(rates: str, covered: str) -> None:
    """Free is a price of 0; that there is none is not."""
    wanted = set(covered.split()) | ({"transcription"} if "chat" in covered else set())
    for rate in (0, 7):
        price = Price(1, dict.fromkeys(rates.split(), rate), 1_000_000)
        assert {kind for kind in KINDS if price.covers(kind)} == wanted


def test_nobody_is_paid_for_a_call() -> None:
    rates = {"input": 1, "output": -1}
    assert not Price(1, rates, 1_000_000).covers("chat")
    free = Price(1, {"input": 1, "output": 1}, 1_000_000, (Tier(10, rates),))
    assert not free.covers("chat")


# By how much comes in -----------------------------------------------------------------

TIERED = Price(
    1,
    {"input": 3_000_000, "output": 15_000_000, "cache_read": 300_000},
    1_000_000,
    (Tier(200_000, {"input": 6_000_000, "output": 22_500_000, "cache_read": 600_000}),),
)


@pytest.mark.parametrize(
    ("used", "cost"),
    [
        ({"input": 200_000, "output": 2}, 600_030),
        ({"input": 200_001, "output": 2}, 1_200_051),
        ({"input": 100_000, "cache_read": 100_000}, 330_000),
        ({"input": 100_000, "cache_read": 100_010}, 660_006),
        ({"output": 10_000_000}, 150_000_000),
    ],
)
def test_beyond_a_tiers_edge_all_of_a_request_is_charged_by_it(
    used: dict[str, int], cost: int
) -> None:
    """A cliff, as providers bill it; what was cached counts as input."""
    assert cost_ucr(used, TIERED) == cost


@calm
@given(st.integers(0, 400_000), st.integers(0, 400_000), st.integers(0, 1000))
def test_a_hold_covers_every_tier_that_the_input_can_reach(limit: int, used: int, out: int) -> None:
    held = worst_ucr(limit, out, TIERED.reached_by(limit))
    assert held >= cost_ucr({"input": min(used, limit), "output": out}, TIERED)


def test_a_hold_knows_nothing_of_tiers_beyond_its_reach() -> None:
    assert worst_ucr(200_000, 1, TIERED.reached_by(200_000)) == 600_015
    assert worst_ucr(200_001, 1, TIERED.reached_by(200_001)) == 1_200_029


# What is no token ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("used", "cost"),
    [
        ({"images": 3}, 120_000_000),
        ({"images/hd": 1}, 80_000_000),
        ({"images/hd/1024x1792": 1}, 120_000_000),
        ({"images/hd/1024x1024": 1}, 80_000_000),
        ({"images/standard/1024x1024": 1}, 40_000_000),
        ({"seconds": 3_600}, 111_000_000),
        ({"seconds": 1}, 30_834),
        ({"seconds": 100, "characters": 1}, 3_083_334 + 15_000),
        ({"searches": 2}, 4_000_000),
    ],
)
def test_what_is_no_token_has_prices_of_its_own(used: dict[str, int], cost: int) -> None:
    """Exact also by the hour, which no number of seconds divides."""
    million = 1_000_000
    rates = {
        "images": 40_000_000 * million,
        "images/hd": 80_000_000 * million,
        "images/hd/1024x1792": 120_000_000 * million,
        "seconds": 111_000_000 * million,
        "characters": 15_000 * million,
        "searches": 2_000_000 * million,
    }
    price = Price(1, rates, million)
    assert cost_ucr(used, price) == cost
    assert worst_ucr(0, 0, price, used) == cost
    assert unpriced(used, price) == []


def test_a_price_per_request_is_taken_once() -> None:
    price = Price(1, {"input": 1_000_000, "output": 0, "requests": 5_000_000}, 1_000_000)
    assert cost_ucr({"input": 2}, price) == cost_ucr({"input": 2, "requests": 1}, price) == 7
    assert cost_ucr({"input": 2, "requests": 3}, price) == 17
    assert cost_ucr({}, price) == 0


@pytest.mark.parametrize(
    ("used", "cost"),
    [
        ({"output": 10}, 50),
        ({"audio_in": 10}, 50),
        ({"images/standard": 1}, 9),
        ({"searches": 10}, 0),
        ({"nonsense": 10}, 0),
    ],
)
def test_what_has_no_rate_is_charged_by_the_dearest_of_its_kind_and_told(
    used: dict[str, int], cost: int
) -> None:
    """It is used already: never silently free. Of a unit without a price there is no stand-in."""
    rates = {"cache_read": 1_000_000, "image_in": 5_000_000, "images/hd": 9_000_000}
    price = Price(1, rates, 1_000_000)
    assert (cost_ucr(used, price), unpriced(used, price)) == (cost, list(used))
    assert unpriced(dict.fromkeys(used, 0), price) == []


def test_every_class_is_a_token_or_none() -> None:
    assert not set(SIDES) & set(UNITS)


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
