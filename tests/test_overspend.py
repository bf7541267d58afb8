"""The command that tries to overspend pools, in its short form, and that it would see a mistake."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

from bench import overspend


def test_pools_are_never_overspent_by_concurrency() -> None:
    """P01: four processes, each pool admits exactly what it carries, the others are told 402."""
    verdict = overspend.run(admissions=8_000, proxies=4)
    assert verdict.problems == ()
    assert verdict.admitted + verdict.refused_402 == verdict.admissions == 8_000
    assert verdict.overspent_pools == verdict.underspent_pools == 0
    assert 0 < verdict.admitted < 8_000


def test_a_pool_that_is_overspent_is_found() -> None:
    """One admission more than it carries, or one too few, is a sentence and a failed run."""
    pool = overspend.Pool(0, "sk", 1_000_000, 0)
    told = {0: Counter({"admitted": 1, "402": 9})}
    client = SimpleNamespace(hmget=lambda *_: (b"0", b"%d" % pool.hold))
    assert len(list(overspend._differences(client, pool, told))) == 2  # type: ignore[arg-type]
    carried = replace(pool, balance=pool.hold)
    told = {0: Counter({"402": 10})}
    client = SimpleNamespace(hmget=lambda *_: (b"%d" % pool.hold, b"0"))
    assert len(list(overspend._differences(client, carried, told))) == 2  # type: ignore[arg-type]
