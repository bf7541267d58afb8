"""Usage and rates in, micro-credits out. Integers only, one rounding per charge; no I/O."""

from collections.abc import Mapping

from proxy.types import WITHIN, Price

AMOUNT_MAX_UCR = 9_000_000_000_000_000  # below 2^53, because Lua's numbers are doubles
PER_MILLION = 1_000_000
_SCALE = PER_MILLION * 1_000_000  # rates are per million, the factor is in parts per million


def cost_ucr(tokens: Mapping[str, int], price: Price) -> int:
    """What these tokens cost, rounded up once, by at most one micro-credit."""
    rates = price.rates
    total = 0
    for name, count in tokens.items():
        rate = rates.get(name)
        if rate is None:
            rate = rates[WITHIN[name]]
        total += count * rate
    return min(-(-total * price.factor_ppm // _SCALE), AMOUNT_MAX_UCR)


def worst_ucr(input_max: int, output_max: int, price: Price) -> int:
    """The most that so many tokens in and out can cost, whatever classes they turn out to be."""
    total = input_max * price.dearest_in + output_max * price.dearest_out
    return min(-(-total * price.factor_ppm // _SCALE), AMOUNT_MAX_UCR)


def credits_text(ucr: int) -> str:
    """Micro-credits as credits with six decimals, for people and headers."""
    sign = "-" if ucr < 0 else ""
    whole, rest = divmod(abs(ucr), 1_000_000)
    return f"{sign}{whole}.{rest:06d}"
