"""The supervisor of the proxies: workers come and go, the door's sockets stay."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proxy.machine import backoff, children, fleet, health, listen

SECONDS = 20.0  # the longest any of these tests waits for one thing

# Answers every connection with its process id and counts it; drains at SIGTERM.
WORKER = """
import argparse, os, pathlib, signal, socket, sys, time
from proxy import metrics
given = argparse.ArgumentParser()
given.add_argument("--slot", type=int); given.add_argument("--fd", type=int)
given = given.parse_args()
run = pathlib.Path(os.environ["OPSCENTER_RUN_DIR"])
if (run / "broken").exists(): sys.exit(3)
stubborn = (run / "stubborn").exists()
over = []
signal.signal(signal.SIGTERM, lambda *_: None if stubborn else over.append(1))
cells = metrics.open_slot(run, given.slot)
door = socket.socket(fileno=given.fd)
door.settimeout(0.05)
while not over:
    cells.beat(not (run / "lazy").exists())
    try: client, _ = door.accept()
    except TimeoutError: continue
    client.settimeout(5); client.recv(4096); cells.add(cells.requests)
    body = str(os.getpid()).encode()
    client.sendall(b"HTTP/1.1 200 OK\\r\\nconnection: close\\r\\ncontent-length: %d\\r\\n\\r\\n%s"
                   % (len(body), body))
    client.close()
"""
START = """
import logging, os, sys
from proxy import declared, settings
from proxy.machine import supervisor
logging.basicConfig(level="INFO")
wanted = declared.load(settings.Settings, os.environ, strict=False)
sys.exit(supervisor.run(wanted, [sys.executable, sys.argv[1]]))
"""


@dataclass
class Supervised:
    """A running supervisor and what it said."""

    process: children.Child
    run: Path
    log: Path
    door: int = 0
    health: int = 0
    pids: set[int] = field(default_factory=set)

    def answer(self) -> int:
        """The process id of the worker that served one request."""
        status, body = get(self.door, "/")
        assert status == 200
        return int(body)

    def ready(self) -> bool:
        return get(self.health, "/readyz")[0] == 200

    def workers(self) -> set[int]:
        return children_of(self.process.pid)


def get(port: int, path: str, method: str = "GET") -> tuple[int, bytes]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        client.request(method, path)
        answer = client.getresponse()
        return answer.status, answer.read()
    finally:
        client.close()


def children_of(pid: int) -> set[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(one) for one in listed}


def gone(pids: set[int]) -> bool:
    return not any(running(pid) for pid in pids)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.fixture
def start(home: Path) -> Iterator[Callable[..., Supervised]]:
    started: list[Supervised] = []
    script = home / "worker.py"
    script.write_text(WORKER)

    def begin(workers: int = 2, **more: str) -> Supervised:
        log = home / "supervisor.log"
        env = dict(
            os.environ,
            PYTHONPATH=str(Path(__file__).parent.parent),
            OPSCENTER_RUN_DIR=str(home / "run"),
            OPSCENTER_WORKERS=str(workers),
            OPSCENTER_DOOR_PORT="0",
            OPSCENTER_HEALTH_PORT="0",
            OPSCENTER_DRAIN_MS="1000",
            **more,
        )
        process = children.spawn([sys.executable, "-c", START, str(script)], env=env, log=log)
        one = Supervised(process, home / "run", log)
        started.append(one)
        assert children.until(lambda: "health http" in log.read_text(), SECONDS), log.read_text()
        ports = re.search(
            r"door http://127.0.0.1:(\d+) .* health http://127.0.0.1:(\d+)", log.read_text()
        )
        assert ports
        one.door, one.health = int(ports[1]), int(ports[2])
        return one

    (home / "run").mkdir()
    yield begin
    for one in started:
        one.pids |= one.workers() if one.process.poll() is None else set()
        children.stop(one.process, ((signal.SIGTERM, SECONDS),))
        for pid in one.pids:
            if running(pid):
                os.kill(pid, signal.SIGKILL)


def test_all_workers_share_the_door_and_are_summed(start: Callable[..., Supervised]) -> None:
    """Health tells of the machine, not of the worker that happened to be asked."""
    one = start(workers=2)
    assert children.until(one.ready, SECONDS)

    seen = {one.answer() for _ in range(40)}

    assert seen == one.workers()
    body = get(one.health, "/metrics")[1].decode()
    assert "opscenter_proxy_workers 2" in body
    assert 'opscenter_proxy_requests_total{stream="no"} 40' in body


def test_health_needs_no_ready_worker_and_readiness_needs_them_all(
    start: Callable[..., Supervised], home: Path
) -> None:
    (home / "run" / "lazy").touch()
    one = start(workers=2)
    assert children.until(lambda: len(one.workers()) == 2, SECONDS)
    assert get(one.health, "/healthz") == (200, b"ok\n")
    status, body = get(one.health, "/readyz")
    assert status == 503
    assert b"worker 0 of 2 is not ready" in body

    (home / "run" / "lazy").unlink()

    assert children.until(one.ready, SECONDS)


def test_a_dead_worker_is_replaced_on_its_socket(start: Callable[..., Supervised]) -> None:
    """A connection that waits meanwhile is served by the next worker."""
    one = start(workers=1)
    assert children.until(one.ready, SECONDS)
    first = one.answer()

    os.kill(first, signal.SIGKILL)

    assert one.answer() != first
    assert children.until(one.ready, SECONDS)
    assert f"worker 0 (process {first}) was ended by SIGKILL" in one.log.read_text()


def test_reload_replaces_every_worker_and_loses_no_request(
    start: Callable[..., Supervised],
) -> None:
    one = start(workers=2)
    assert children.until(one.ready, SECONDS)
    before = one.workers()

    one.process.send_signal(signal.SIGHUP)

    def replaced() -> bool:
        one.answer()
        return not before & one.workers()

    assert children.until(replaced, SECONDS)
    assert one.ready()
    assert len(one.workers()) == 2


def test_a_reload_that_fails_leaves_the_running_workers(
    start: Callable[..., Supervised], home: Path
) -> None:
    one = start(workers=2)
    assert children.until(one.ready, SECONDS)
    before = one.workers()
    (home / "run" / "broken").touch()

    one.process.send_signal(signal.SIGHUP)

    assert children.until(lambda: "reload stopped" in one.log.read_text(), SECONDS)
    assert one.workers() == before
    assert one.ready()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_drains_every_worker(
    start: Callable[..., Supervised], number: signal.Signals
) -> None:
    one = start(workers=2)
    assert children.until(one.ready, SECONDS)
    workers = one.workers()

    one.process.send_signal(number)

    assert one.process.wait(SECONDS) == 0
    assert gone(workers)


def test_a_signal_during_the_start_is_not_lost(start: Callable[..., Supervised]) -> None:
    one = start(workers=1)
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(SECONDS) == 0


def test_a_second_signal_kills_what_does_not_drain(
    start: Callable[..., Supervised], home: Path
) -> None:
    (home / "run" / "stubborn").touch()
    one = start(workers=1)
    assert children.until(one.ready, SECONDS)
    workers = one.workers()

    one.process.send_signal(signal.SIGTERM)
    assert children.until(lambda: get(one.health, "/readyz")[1] == b"stopping\n", SECONDS)
    one.process.send_signal(signal.SIGTERM)

    assert one.process.wait(SECONDS) == 1
    assert gone(workers)


def test_a_killed_supervisor_leaves_no_worker(start: Callable[..., Supervised]) -> None:
    one = start(workers=2)
    assert children.until(one.ready, SECONDS)
    one.pids = one.workers()

    one.process.kill()
    one.process.wait()

    assert children.until(lambda: gone(one.pids), SECONDS)


@pytest.mark.parametrize("which", ["DOOR", "HEALTH"])
def test_a_taken_port_is_told_with_its_setting(home: Path, which: str) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as stranger:
        ports = {"OPSCENTER_DOOR_PORT": "0", "OPSCENTER_HEALTH_PORT": "0"}
        ports[f"OPSCENTER_{which}_PORT"] = str(stranger.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "proxy.machine.supervisor"],
            env={**os.environ, **ports},
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    assert done.returncode == 1
    assert f"OPSCENTER_{which}_PORT to a free port" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_an_address_of_another_machine_is_told_with_its_setting(host: str) -> None:
    with pytest.raises(listen.ListenError, match="OPSCENTER_DOOR_HOST is"):
        listen.at(host, 0, 1, "OPSCENTER_DOOR")


def test_the_supervisor_imports_nothing_heavy() -> None:
    """What it imports it can fail with; it must outlive everything else."""
    script = (
        "import sys, proxy.machine.supervisor, proxy.machine.health, proxy.metrics;"
        "heavy = {'typer', 'fastapi', 'asyncpg', 'redis', 'uvicorn', 'control'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


# Limits of the health answerer ---------------------------------------------------


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"POST /healthz HTTP/1.1\r\n\r\n", b"405"),
        (b"GET /other HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /healthz HTTP/1.1\r\nx: " + b"y" * health.HEAD_BYTES_MAX, b"431"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /healthz?x=1 HTTP/1.0\r\n\r\n", b"200"),
    ],
)
def test_health_answers_only_what_it_should(
    start: Callable[..., Supervised], request_text: bytes, status: bytes
) -> None:
    one = start(workers=1)
    with socket.create_connection(("127.0.0.1", one.health), timeout=SECONDS) as client:
        client.sendall(request_text)
        assert client.recv(4096).split(b" ")[1] == status


def test_a_head_has_no_body() -> None:
    answer = health.Answer(200, b"ok\n")
    assert health.render(answer, head_only=True).endswith(b"\r\n\r\n")
    assert b"content-length: 3" in health.render(answer, head_only=True)


# The fleet's decisions, without processes ------------------------------------------


class FakeProcess:
    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None
        self.signals: list[int] = []

    def poll(self) -> int | None:
        return self.status

    def send_signal(self, sig: int) -> None:
        self.signals.append(sig)


class FakeStaff:
    def __init__(self) -> None:
        self.started: list[tuple[int, FakeProcess]] = []
        self.ready = True

    def start(self, number: int, listening: socket.socket) -> FakeProcess:
        process = FakeProcess(len(self.started) + 1)
        self.started.append((number, process))
        return process

    def is_ready(self, number: int) -> bool:
        return self.ready


@pytest.fixture
def staff() -> FakeStaff:
    return FakeStaff()


@pytest.fixture
def one_slot(staff: FakeStaff) -> Iterator[fleet.Fleet]:
    with socket.socket() as listening:
        yield fleet.Fleet([listening], staff, drain_s=30, jitter=lambda: 1.0)


def test_a_worker_that_keeps_dying_is_started_ever_more_slowly(
    one_slot: fleet.Fleet, staff: FakeStaff
) -> None:
    now, pauses = 0.0, []
    for _ in range(10):
        one_slot.step(now)
        staff.started[-1][1].status = 1
        pauses.append(round(one_slot.step(now), 3))
        now = one_slot.slots[0].start_at
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert one_slot.slots[0].start_at - now <= backoff.LONGEST_S
    assert len(staff.started) == 10


def test_a_worker_that_lived_long_is_replaced_at_once(
    one_slot: fleet.Fleet, staff: FakeStaff
) -> None:
    one_slot.slots[0].backoff.failures = 8
    one_slot.step(0.0)
    staff.started[-1][1].status = 1
    assert one_slot.step(backoff.HEALTHY_AFTER_S) == pytest.approx(backoff.FIRST_S)


@pytest.mark.parametrize("has_served", [False, True])
def test_settings_that_were_never_right_end_the_fleet(
    one_slot: fleet.Fleet, staff: FakeStaff, has_served: bool
) -> None:
    """While it serves, a file may go and come again."""
    staff.ready = has_served
    one_slot.step(0.0)
    one_slot.step(0.1)
    staff.started[-1][1].status = os.EX_CONFIG
    one_slot.step(0.2)
    assert one_slot.misconfigured is not has_served
    assert one_slot.done() is not has_served


def test_a_reload_waits_for_the_new_worker_before_the_old_one_drains(
    one_slot: fleet.Fleet, staff: FakeStaff
) -> None:
    one_slot.step(0.0)
    staff.ready = False
    one_slot.reload()
    one_slot.step(1.0)
    one_slot.step(2.0)
    (old_number, old), (new_number, new) = staff.started
    assert old_number != new_number
    assert old.signals == []

    staff.ready = True
    one_slot.step(3.0)

    assert old.signals == [signal.SIGTERM]
    assert new.signals == []


def test_a_replacement_that_never_gets_ready_is_given_up(
    one_slot: fleet.Fleet, staff: FakeStaff
) -> None:
    one_slot.step(0.0)
    staff.ready = False
    one_slot.reload()
    one_slot.step(1.0)
    one_slot.step(2.0 + fleet.READY_MAX_S)
    (_, old), (_, new) = staff.started
    assert old.signals == []
    assert new.signals == [signal.SIGTERM]
    one_slot.step(3.0 + fleet.READY_MAX_S)
    assert len(staff.started) == 2


def test_a_worker_that_does_not_drain_is_killed_at_the_deadline(
    one_slot: fleet.Fleet, staff: FakeStaff
) -> None:
    one_slot.step(0.0)
    one_slot.stop(10.0)
    process = staff.started[0][1]
    one_slot.step(10.0 + 30 + fleet.KILL_GRACE_S - 0.1)
    assert process.signals == [signal.SIGTERM]

    one_slot.step(10.0 + 30 + fleet.KILL_GRACE_S)

    assert process.signals == [signal.SIGTERM, signal.SIGKILL]
    assert not one_slot.done()
    process.status = -9
    one_slot.step(50.0)
    assert one_slot.done()
    assert one_slot.killed == 1
