"""The journal's disk is full: really, by the kernel's own ENOSPC."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.upstream import FakeUpstream
from control import settings
from control.secrets import unlock
from proxy.machine import children, listen
from tests.door_stage import HELLO, DoorStage, door, until
from tests.failures_stage import agreed, code

GRANT = 10_000_000_000
COST = 9_000  # of one hello to ops/echo
TEN = 10_000  # of one answer of ten tokens
RATES = {"input": 0, "output": 1_000_000_000}
FULL = Path("/dev/full")  # takes no byte, as a disk without room

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    async with door(home, redis_url, database_url) as stage:
        yield stage


@contextmanager
def full_disk(stage: DoorStage) -> Iterator[None]:
    journal = stage.worker.journal._fd
    kept, full = os.dup(journal), os.open(FULL, os.O_WRONLY)
    os.dup2(full, journal)
    try:
        yield
    finally:
        os.dup2(kept, journal)
        os.close(kept)
        os.close(full)


async def test_nothing_is_admitted_that_could_not_be_remembered(
    stage: DoorStage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Refused before the provider is called, the hold given back; what ran is settled directly."""
    async with FakeUpstream(ledger=tmp_path / "bills") as fake:
        await stage.add_provider(fake.url + "/v1")
        model = await stage.add_model("mock/ten", "mock/ok?in=0&out=10&latency_ms=200", rates=RATES)
        body = {**HELLO, "model": model, "max_tokens": 10}
        call = asyncio.create_task(stage.chat(body))
        await until(lambda: bool(fake.requests))
        with full_disk(stage):
            refused = await stage.chat(body)
            assert code(refused) == (503, "not_ready")
            assert refused.headers["retry-after"]
            assert (await stage.http.get("/readyz")).status_code == 503
            assert "No space left on device" in caplog.text
            assert (await call).status_code == 200
            await stage.worker.flow.settler.drain(10)
            assert await stage.pool_in_redis() == {"b": GRANT - TEN, "h": 0}
        assert len(fake.requests) == 1
        await until(lambda: stage.worker.ready)
        assert (await stage.chat()).status_code == 200
    await stage.quiesce()
    assert await stage.pool_in_redis() == {"b": GRANT - TEN - COST, "h": 0}
    assert sorted(row["kind"] for row in await stage.usage()) == ["released", "settled", "settled"]
    await agreed(stage)


def test_a_worker_that_can_make_no_journal_says_where_and_why(home: Path) -> None:
    """No trace of a program, no start without a memory; its supervisor tries again."""
    wanted = settings.load({"OPSCENTER_HOME": str(home)})
    wanted.run_dir.mkdir(mode=0o700, exist_ok=True)
    unlock(wanted)
    (home / "journal").write_text("a file where the folder should be")
    [one] = listen.at("127.0.0.1", 0, 1, "door")
    words = ["--slot", "0", "--fd", str(one.fileno())]
    with one:
        done = subprocess.run(
            [*children.module("proxy.worker"), *words],
            env=children.with_our_code({**os.environ, "OPSCENTER_HOME": str(home)}),
            pass_fds=[one.fileno()],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    assert f"{home}/journal cannot be written: File exists" in done.stderr
    assert "Traceback" not in done.stderr
