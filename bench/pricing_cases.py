"""Is every charge the exact amount, rounded up once? Random cases against fractions.

python -m bench.pricing_cases --cases 10000000

Each case is a price (many classes, up to three tiers, a markup) and a usage; the exact amount is
the sum of fractions, class by class, by another formula than the product's. All cores work; exit
status 0 only when no case differs and nothing drifts by more than the rounding up of each case.
"""

import argparse
import os
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from math import ceil
from multiprocessing import get_context

from proxy.costs.price import SIDES, WITHIN, Price, Tier
from proxy.costs.pricing import AMOUNT_MAX_UCR, cost_ucr, worst_ucr

CASES_PER_PART = 50_000
CLASSES = (*SIDES, "seconds")
#: Where mistakes sit: nothing, one, around a million, at the edges of doubles and of amounts.
EDGES = (0, 1, 2, 999_999, 1_000_000, 1_000_001, 2**31, 2**53 - 1, 2**53, 2**53 + 1)
SHOWN_MAX = 5


def check(seed: int, cases: int) -> tuple[int, list[str]]:
    """How many cases were tried, and those that differ."""
    dice = random.Random(seed)
    wrong, drift = list[str](), Fraction(0)
    for _ in range(cases):
        price, used = _price(dice), _usage(dice)
        exact, cost = _exact(used, price), cost_ucr(used, price)
        drift += cost - (exact if exact < AMOUNT_MAX_UCR else AMOUNT_MAX_UCR)
        if cost != min(ceil(exact), AMOUNT_MAX_UCR) or not isinstance(cost, int):
            wrong.append(f"{used} at {price} costs {cost}, not {exact}")
        wrong += _not_covered(used, price, cost)
    if not 0 <= drift <= cases:  # never under the truth, and less than one ucr over it for each
        wrong.append(f"part {seed} is {float(drift)} ucr off")
    return cases, wrong[:SHOWN_MAX]


def _number(dice: random.Random, most: int) -> int:
    kind = dice.random()
    if kind < 0.1:
        return min(dice.choice(EDGES), most)
    return dice.randrange(10 ** dice.randrange(1, len(str(most))))


def _price(dice: random.Random) -> Price:
    tiers = sorted(_number(dice, 10**8) for _ in range(dice.choice((0, 0, 1, 2))))
    factor = dice.choice((1_000_000, 1_250_000, _number(dice, 10_000_000)))
    return Price(1, _rates(dice), factor, tuple(Tier(above, _rates(dice)) for above in tiers))


def _rates(dice: random.Random) -> dict[str, int]:
    classes = ["input", "output", *(name for name in WITHIN if dice.random() < 0.4), "seconds"]
    return {name: _number(dice, 10**15) for name in classes}


def _usage(dice: random.Random) -> dict[str, int]:
    return {name: _number(dice, 10**8) for name in CLASSES if dice.random() < 0.4}


def _exact(used: dict[str, int], price: Price) -> Fraction:
    into = sum(count for name, count in used.items() if SIDES.get(name) == "input")
    rates = price.rates
    for tier in price.tiers:
        rates = tier.rates if into > tier.above else rates
    total = Fraction(0)
    for name, count in used.items():
        rate = next(rates[one] for one in (name, *WITHIN.get(name, ())) if one in rates)
        total += Fraction(count * rate, 3_600_000_000 if name == "seconds" else 1_000_000)
    return total * Fraction(price.factor_ppm, 1_000_000)


def _not_covered(used: dict[str, int], price: Price, cost: int) -> Iterator[str]:
    """The hold for so many tokens in and out is enough, whatever their classes turned out to be."""
    sides = {"input": 0, "output": 0}
    units = {name: count for name, count in used.items() if name not in SIDES}
    for name, count in used.items():
        if name in SIDES:
            sides[SIDES[name]] += count
    into, out = sides["input"], sides["output"]
    hold = worst_ucr(into, out, price.reached_by(into), units)
    if hold < cost:
        yield f"{used} at {price} costs {cost}, and {hold} were held"


def run(cases: int, seed: int, processes: int) -> tuple[int, list[str]]:
    parts = [CASES_PER_PART] * (cases // CASES_PER_PART)
    if rest := cases % CASES_PER_PART:
        parts.append(rest)
    seeds = range(seed, seed + len(parts))
    if processes == 1:
        done = list(map(check, seeds, parts))
    else:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            done = list(pool.map(check, seeds, parts))
    return sum(count for count, _ in done), [line for _, wrong in done for line in wrong]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    begun = time.monotonic()
    count, wrong = run(given.cases, given.seed, given.processes)
    for line in wrong[:SHOWN_MAX]:
        print(line)
    seconds = time.monotonic() - begun
    print(f"{count:,} cases in {seconds:.0f} s, {len(wrong)} of them wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
