"""The money's protocol in a deterministic simulation: the scripts' own text, every crash at any
step, thousands of seeds; and mutants, because a simulation that catches nothing proves nothing.
"""

import pytest

from tests.simulation.lua import Scripts, product_texts
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.run import simulate

SEEDS, PARTS = 1_200, 4
MUTANT_SEEDS_MAX = 1_500


@pytest.mark.parametrize("part", range(PARTS))
def test_the_money_is_exact_whatever_dies_and_whenever(part: int) -> None:
    """Conservation, one end for each request, exact amounts, Redis equal to the ledger, nothing
    held for ever, no drift that a loss does not explain: for every seed.
    """
    scripts = Scripts(product_texts())
    for seed in range(part, SEEDS, PARTS):
        simulate(seed, scripts)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_caught(mutant: Mutant) -> None:
    """One thing taken away that keeps the money exact: some seed must fail."""
    assert seeds_to_catch(mutant) is not None, f"{mutant.name}: {MUTANT_SEEDS_MAX} seeds survived"


def test_a_seed_tells_the_same_story_again() -> None:
    """What failed once can be looked at as often as it takes."""
    stories: list[list[str]] = [[], []]
    for story in stories:
        simulate(7, Scripts(product_texts()), story=story)
    assert stories[0] == stories[1]
    assert len(stories[0]) > 100


def test_a_job_that_redis_has_forgotten_keeps_to_its_ceiling() -> None:
    """Its use comes back by a rebuild, its ceiling with its next request."""
    scripts = Scripts(product_texts())
    for seed in range(SEEDS // 2):
        simulate(seed, scripts, counts_jobs=True)


def seeds_to_catch(mutant: Mutant) -> int | None:
    scripts = Scripts(mutant.texts())
    for seed in range(MUTANT_SEEDS_MAX):
        try:
            simulate(seed, scripts, mutant.protocol, mutant.rule)
        except Exception:
            return seed + 1
    return None
