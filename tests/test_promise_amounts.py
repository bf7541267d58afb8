"""P05: the grammar of amounts at every boundary, the same in Lua and in Python: an amount is a
string of digits from 0 to 9e15, or it is nothing.
"""

import re
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bench import pricing_cases
from control.money import credits_to_ucr
from control.store import Store
from proxy.costs.pricing import AMOUNT_MAX_UCR, credits_text
from proxy.redis.scripts import FOLDER

TOP = AMOUNT_MAX_UCR
AMOUNTS = ("0", "1", "9", "10", str(TOP - 1), str(TOP), "999999999999999")
NO_AMOUNTS = (
    *("", " ", "-", "+", ".", "-0", "-1", "+1", "+0", "00", "01", "007", "0.0", "1.0", "1.", ".5"),
    *("1e3", "1E3", "9e15", "0x10", "0b1", "1_000", "1,000", " 1", "1 ", "1\n", "\t1", "1\0"),
    *("nan", "NaN", "-nan", "inf", "-inf", "Infinity", "1#INF", "nil", "true", "٣", "１", "½"),
    *(str(TOP + 1), str(2**53 - 1), str(2**53), str(2**53 + 1), str(2**63), str(2**64), "9" * 400),
)
#: Anything near to a number, and things far from one.
texts = st.one_of(
    st.integers(-(10**18), 10**18).map(str),
    st.integers(TOP - 3, TOP + 3).map(str),
    st.integers(2**53 - 3, 2**53 + 3).map(str),
    st.text("0123456789+-.eExnaif _,", max_size=20),
    st.from_regex(r"0*[0-9]{1,17}", fullmatch=True),
)
calm = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# What the prelude takes an amount and a count for, by its own text.
ASK = (
    (FOLDER / "shared" / "prelude.lua").read_bytes()
    + b"""
local a, c = amount(ARGV[1]), count(ARGV[1], 0)
return { a and digits(a) or 'no', c and digits(c) or 'no', c and neg(ARGV[1]) or 'no' }
"""
)


def is_amount(text: str) -> bool:
    """The grammar, in words of its own."""
    return re.fullmatch("0|[1-9][0-9]{0,15}", text) is not None and int(text) <= TOP


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Store]:
    store = Store(redis_url)
    yield store
    await store.close()


async def ask(redis: Store, text: str) -> tuple[str, str, str]:
    said: Any = await redis.command("EVAL", ASK, 0, text)
    amount, count, negated = (part.decode() for part in said)
    return amount, count, negated


@pytest.mark.parametrize("text", AMOUNTS)
async def test_p05_exact_sum_takes_every_amount(redis: Store, text: str) -> None:
    assert is_amount(text)
    assert (await ask(redis, text))[:2] == (text, text)


@pytest.mark.parametrize("text", NO_AMOUNTS, ids=lambda text: repr(text)[:24])
async def test_p05_exact_sum_takes_nothing_else_for_an_amount(redis: Store, text: str) -> None:
    assert not is_amount(text)
    assert (await ask(redis, text))[0] == "no"


@calm
@given(texts)
@example(str(2**53))
async def test_p05_exact_sum_lua_and_the_grammar_agree(redis: Store, text: str) -> None:
    """An amount is read to the last digit; a count may be negative; negating is exact."""
    amount, count, negated = await ask(redis, text)
    assert amount == (str(int(text)) if is_amount(text) else "no")
    if re.fullmatch("-?[0-9]+", text) and abs(int(text)) <= 2**53:
        assert int(count) == int(text)
        assert int(negated) == -int(text)
        assert negated not in ("-0", "--0")
    if not re.fullmatch("-?[0-9]+", text):
        assert count == "no"


@calm
@given(st.one_of(texts, st.none(), st.booleans(), st.integers(), st.floats()))
def test_p05_exact_sum_python_takes_credits_as_text_alone(given_value: object) -> None:
    """What people write is an amount with at most six decimals, or it is refused."""
    good = isinstance(given_value, str) and re.fullmatch(
        r"(0|[1-9][0-9]{0,9})(\.[0-9]{1,6})?", given_value
    )
    if good and Decimal(str(given_value)) > 0:
        ucr = credits_to_ucr(given_value)
        assert Decimal(ucr) == Decimal(str(given_value)) * 1_000_000
        assert Decimal(credits_text(ucr)) == Decimal(str(given_value))
    else:
        with pytest.raises(ValueError):
            credits_to_ucr(given_value)


def test_p05_exact_sum_of_random_prices() -> None:
    """The short form of `python -m bench.pricing_cases`, which tries ten millions."""
    assert pricing_cases.run(20_000, seed=1, processes=1) == (20_000, [])
