"""Usage and rates in, micro-credits out. Integers only, one rounding per charge; no I/O."""

from collections.abc import Mapping

from proxy.costs.price import SECONDS_PER_HOUR, SIDES, Price, Rates, tokens_in

AMOUNT_MAX_UCR = 9_000_000_000_000_000  # below 2^53, because Lua's numbers are doubles
PER_MILLION = 1_000_000
_SCALE = PER_MILLION * 1_000_000  # rates are per million, the factor is in parts per million
NOTHING: Mapping[str, int] = {}


def cost_ucr(counts: Mapping[str, int], price: Price) -> int:
    """What this usage costs, rounded up once, by at most one micro-credit."""
    rates = price.at(tokens_in(counts)) if price.tiers else price.charged
    total = 0
    for name, count in counts.items():
        rate = rates.get(name)
        if rate is None:
            rate = stand_in(name, rates)
        total += count * rate
    if price.is_plain:
        return min(-(-total * price.factor_ppm // _SCALE), AMOUNT_MAX_UCR)
    if counts and "requests" not in counts:
        total += rates.get("requests", 0)  # usage that does not say how many is of one
    seconds = counts.get("seconds")
    return _rounded_up(total, seconds * rates.get("seconds", 0) if seconds else 0, price)


def worst_ucr(
    input_max: int, output_max: int, price: Price, units: Mapping[str, int] = NOTHING
) -> int:
    """The most that so many tokens in and out can cost, whatever classes and tier they turn out to
    be of, and so many of what is no token."""
    total = input_max * price.dearest_in + output_max * price.dearest_out
    if not units:
        return min(-(-total * price.factor_ppm // _SCALE), AMOUNT_MAX_UCR)
    by_hour = 0
    for name, count in units.items():
        part = count * max(rate_of(name, rates) for rates in price.every)
        total += part
        by_hour += part if name == "seconds" else 0
    return _rounded_up(total, by_hour, price)


def rate_of(name: str, rates: Rates) -> int:
    rate = rates.get(name)
    return stand_in(name, rates) if rate is None else rate


def stand_in(name: str, rates: Rates) -> int:
    """The rate for a class that has none, nor lies within one that has: the dearest of its kind or
    side, else of all tokens. Of another unit there is none."""
    kind = name
    while "/" in kind:
        kind = kind.rpartition("/")[0]
        if kind in rates:
            return rates[kind]
    side = SIDES.get(name)
    if side is None:
        return max((rate for one, rate in rates.items() if one.split("/")[0] == kind), default=0)
    tokens = {one: rate for one, rate in rates.items() if one in SIDES}
    same = [rate for one, rate in tokens.items() if SIDES[one] == side]
    return max(same or tokens.values(), default=0)


def unpriced(counts: Mapping[str, int], price: Price) -> list[str]:
    """What was used and has no rate: charged by a stand-in or not at all, and told for that."""
    return [name for name, count in counts.items() if count and not has_rate(name, price.charged)]


def has_rate(name: str, rates: Rates) -> bool:
    if name in rates:
        return True
    kind, slash, _ = name.rpartition("/")
    return bool(slash) and has_rate(kind, rates)


def _rounded_up(total: int, by_hour: int, price: Price) -> int:
    """`by_hour` is the part of the total that was counted in seconds."""
    if not by_hour:
        return min(-(-total * price.factor_ppm // _SCALE), AMOUNT_MAX_UCR)
    exact = (total - by_hour) * SECONDS_PER_HOUR + by_hour
    return min(-(-exact * price.factor_ppm // (_SCALE * SECONDS_PER_HOUR)), AMOUNT_MAX_UCR)


def credits_text(ucr: int) -> str:
    """Micro-credits as credits with six decimals, for people and headers."""
    if ucr < 0:
        return "-" + credits_text(-ucr)
    whole, rest = divmod(ucr, 1_000_000)
    return f"{whole}.{rest:06d}"
