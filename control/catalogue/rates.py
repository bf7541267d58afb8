"""Dollars as others write them -> rates: integers per million, exact or refused."""

from collections.abc import Iterable
from decimal import Decimal

from control.money import UCR_PER_DOLLAR
from proxy.costs.pricing import PER_MILLION

RATE_MAX = 10**17  # ucr per million; dearer is a mistake
DOLLARS_MAX = 1_000_000
NOISE = Decimal("1e-12")  # dollars per million: what floating point adds to a price
MUST_BE_EXACT = ("input", "output")


class Inexact(Exception):
    """No integer says this price; the message says which."""


def rate(dollars: Decimal, per: int, name: str, notes: list[str]) -> int:
    """Of a price for so many. A price such as a twelfth of a dollar has no decimals that end: but
    for plain input and output it is rounded up by less than one ucr per million, and noted."""
    if not dollars.is_finite() or not 0 <= dollars <= DOLLARS_MAX:
        raise Inexact(f"its price of {name} is {dollars}")
    exact = dollars * UCR_PER_DOLLAR * PER_MILLION / per
    nearest = exact.to_integral_value()
    if abs(exact - nearest) > NOISE * UCR_PER_DOLLAR:
        if name in MUST_BE_EXACT:
            raise Inexact(f"its price of {name} is {dollars}, which no whole number says")
        nearest = exact.to_integral_value("ROUND_CEILING")
        notes.append(f"{name} rounded up from {dollars}")
    if nearest > RATE_MAX:
        raise Inexact(f"its price of {name} is {dollars}, which is no price")
    return int(nearest)


def merged(rates: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Two prices of one class must agree."""
    found: dict[str, int] = {}
    for name, one in rates:
        if found.setdefault(name, one) != one:
            raise Inexact(f"it has two prices of {name}")
    return found
