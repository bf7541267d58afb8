"""`measure`: times a piece with pytest-benchmark and puts its ratio before the gate."""

from collections.abc import Callable
from typing import Protocol

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro import gate
from bench.micro.gate import Gate, Work, fastest, iterations_of, nothing, reference

_gate = pytest.StashKey[Gate]()


class Measure(Protocol):
    def __call__(
        self, work: Work, prepare: Work = nothing, against: Callable[[], float] | None = None
    ) -> None: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", action="store_true", help="record the ratios of this run")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_gate] = gate.load(bool(config.getoption("record")))


@pytest.fixture(scope="session")
def reference_s() -> float:
    return fastest(reference, iterations_of(reference))


@pytest.fixture
def measure(
    benchmark: BenchmarkFixture, request: pytest.FixtureRequest, reference_s: float
) -> Measure:
    """`against`: seconds of another reference than plain Python, measured beside the piece."""
    judge = request.config.stash[_gate]

    def run(
        work: Work, prepare: Work = nothing, against: Callable[[], float] | None = None
    ) -> None:
        many = 1 if prepare is not nothing else iterations_of(work)

        def seconds_of_reference() -> float:
            # the session's own may have been measured while the machine did other things
            return min(reference_s, fastest(reference, 10)) if against is None else against()

        def again() -> float:
            return fastest(work, many, prepare) / seconds_of_reference()

        def before() -> None:
            prepare()  # whose answer would be taken for arguments

        benchmark.pedantic(  # type: ignore[no-untyped-call]
            work,
            setup=None if prepare is nothing else before,
            rounds=gate.ROUNDS,
            iterations=many,
            warmup_rounds=2,
        )
        assert benchmark.stats is not None
        ratio = benchmark.stats.stats.min / seconds_of_reference()
        wrong = judge.judge(request.node.name, ratio, again)
        benchmark.extra_info["ratio"] = judge.found[request.node.name]
        assert wrong is None, wrong

    return run


def pytest_sessionfinish(session: pytest.Session) -> None:
    judge = session.config.stash[_gate]
    if judge.recording:
        judge.record()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    judge = config.stash[_gate]
    terminalreporter.section("pieces, in multiples of their reference")
    for name, ratio in sorted(judge.found.items()):
        known = judge.recorded.get(name)
        before = "not recorded" if known is None else f"recorded {known:9.4f}"
        terminalreporter.write_line(f"{name:44} {ratio:9.4f}  {before}")
