"""Amounts as people write them, in and out: strict decimals, no float anywhere."""

import re
from typing import Final

from proxy.costs.pricing import AMOUNT_MAX_UCR

UCR_PER_CREDIT: Final = 1_000_000
UCR_PER_DOLLAR: Final = 1_000_000_000
CREDITS_PATTERN: Final = r"^(0|[1-9][0-9]{0,9})(\.[0-9]{1,6})?$"
DOLLARS_PATTERN: Final = r"^(0|[1-9][0-9]{0,5})(\.[0-9]{1,9})?$"

_credits = re.compile(CREDITS_PATTERN.strip("^$")).fullmatch
_dollars = re.compile(DOLLARS_PATTERN.strip("^$")).fullmatch


def credits_to_ucr(text: object) -> int:
    """Micro-credits of an amount of credits such as `250` or `0.000001`; more than nothing."""
    if not isinstance(text, str) or _credits(text) is None:
        raise ValueError('write credits as text with at most 6 decimals, such as "250" or "0.5"')
    amount = _scaled(text, 6)
    if amount == 0:
        raise ValueError("the amount must be more than 0")
    if amount > AMOUNT_MAX_UCR:
        raise ValueError(f"an amount is at most {AMOUNT_MAX_UCR // UCR_PER_CREDIT} credits")
    return amount


def signed_credits_to_ucr(text: object) -> int:
    """The same, with a minus before what is taken."""
    if isinstance(text, str) and text.startswith("-"):
        return -credits_to_ucr(text[1:])
    return credits_to_ucr(text)


def dollars_to_rate(text: object) -> int:
    """Micro-credits per million tokens of a price in dollars per million tokens; may be 0."""
    if not isinstance(text, str) or _dollars(text) is None:
        raise ValueError('write dollars as text with at most 9 decimals, such as "0.15"')
    return _scaled(text, 9)


def rate_to_dollars(rate: int) -> str:
    """A rate as dollars per million tokens, without needless zeros."""
    whole, rest = divmod(rate, UCR_PER_DOLLAR)
    decimals = f"{rest:09d}".rstrip("0")
    return f"{whole}.{decimals}" if decimals else str(whole)


def _scaled(text: str, decimals: int) -> int:
    whole, _, part = text.partition(".")
    return int(whole + part.ljust(decimals, "0"))
