"""The bench's programs: the fake provider as processes, the load generator against it."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bench.bills import read_bills
from bench.histogram import Histogram
from bench.load import Load, main, run
from bench.upstream import FakeUpstream

STOP_S = 10.0


@asynccontextmanager
async def program(*arguments: str) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """The fake provider as a program, and the URL that it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.upstream", *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        assert line.startswith("listening on http://127.0.0.1:")
        yield line.removeprefix("listening on ").strip(), process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), STOP_S) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_every_answer_of_every_process_is_billed_in_one_file(
    tmp_path: Path, workers: str
) -> None:
    ledger = tmp_path / "bills.jsonl"
    async with program("--ledger", str(ledger), "--workers", workers) as (url, _):
        result = await run(Load(url, "mock/ok?out=3", connections=8, requests=200))
        assert (result.answered, dict(result.errors)) == (200, {})
        assert [bill.completion_tokens for bill in read_bills(ledger)] == [3] * 200


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_it_stops_by_itself(workers: str) -> None:
    async with program("--seconds", "0.1", "--workers", workers) as (_, process):
        assert await asyncio.wait_for(process.wait(), STOP_S) == 0


@pytest.mark.parametrize("rate", [None, 2000.0])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_load_sends_exactly_its_requests(rate: float | None, stream: bool) -> None:
    """Closed or open loop: so many are sent, answered, timed and billed, none more."""
    async with FakeUpstream() as upstream:
        load = Load(upstream.url, "mock/ok", connections=4, requests=100, rate=rate, stream=stream)
        result = await run(load)
        assert (result.answered, result.latency.count, len(upstream.billed())) == (100, 100, 100)
        assert not result.errors


async def test_a_load_of_a_time_ends_what_it_began() -> None:
    """No request is cut, so the provider bills what the generator counts."""
    async with FakeUpstream() as upstream:
        model = "mock/ok?latency_ms=5"
        result = await run(Load(upstream.url, model, connections=4, starts_s=0.05))
        assert not result.errors
        assert 4 <= result.answered == len(upstream.billed())


async def test_a_load_ends_with_its_time() -> None:
    async with FakeUpstream() as upstream:
        result = await run(Load(upstream.url, "mock/hang", connections=2, seconds=0.05))
        assert (result.answered, dict(result.errors)) == (0, {})


@pytest.mark.parametrize(
    ("model", "stream", "kind"),
    [
        ("mock/500", False, "status 500"),
        ("mock/reset", False, "connection reset"),
        ("mock/close", True, "connection closed"),
        ("mock/garbage", False, "wrong answer: no choices"),
        ("mock/nodone", True, "wrong answer: no [DONE]"),
        ("mock/truncate", True, "connection closed"),
    ],
)
async def test_errors_are_counted_by_kind(model: str, stream: bool, kind: str) -> None:
    async with FakeUpstream() as upstream:
        result = await run(Load(upstream.url, model, connections=1, requests=2, stream=stream))
        assert (result.answered, dict(result.errors)) == (0, {kind: 2})


async def test_nobody_listening_is_an_error() -> None:
    async with FakeUpstream() as upstream:
        url = upstream.url
    result = await run(Load(url, "mock/ok", connections=1, requests=1))
    assert dict(result.errors) == {"no connection": 1}


async def test_a_load_waits_as_it_is_told_and_tries_again() -> None:
    async with FakeUpstream() as upstream:
        model = "mock/429?times=1"
        result = await run(
            Load(upstream.url, model, connections=1, requests=1, wait_when_told=True)
        )
        assert (result.answered, result.retried, dict(result.errors)) == (1, 1, {})
        assert result.latency.max_s >= 1.0


async def test_the_program_reports_and_fails_on_errors(capsys: pytest.CaptureFixture[str]) -> None:
    async with FakeUpstream() as upstream:
        arguments = ["--url", upstream.url, "--requests", "3", "--connections", "1"]
        good = await asyncio.to_thread(main, [*arguments, "--model", "mock/ok", "--json"])
        bad = await asyncio.to_thread(main, [*arguments, "--model", "mock/500"])
    assert (good, bad) == (0, 1)
    assert '"answered": 3' in (shown := capsys.readouterr().out)
    assert "status 500 3" in shown


def test_percentiles_are_exact_to_one_percent() -> None:
    histogram = Histogram()
    for millisecond in range(1, 1001):
        histogram.add(millisecond / 1000)
    assert histogram.percentile(50) == pytest.approx(0.5, rel=0.011)
    assert histogram.percentile(99) == pytest.approx(0.99, rel=0.011)
    assert histogram.percentile(100) == histogram.max_s == 1.0
    assert Histogram().percentile(50) == 0.0
