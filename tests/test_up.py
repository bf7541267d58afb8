"""`opscenter up`: from an empty folder to a paid answer, and nothing left behind afterwards."""

import http.client
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from control import settings as control_settings
from control.machine import ports, processes, servers
from control.machine.embedded.base import ServerError, alive
from proxy.machine import children, listen

ROOT = Path(__file__).parent.parent
SECONDS = 60.0  # the longest any of these tests waits for one thing
COMMAND = [sys.executable, "-m", "control", "up"]
PASSWORD = "canary-of-this-test"


@dataclass
class Up:
    """A running `opscenter up` and what it said."""

    process: subprocess.Popen[bytes]
    out: Path
    log: Path

    def said(self) -> str:
        return self.out.read_text()

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return "Ops-Center is ready" in self.said()

    def address(self, name: str) -> str:
        found = re.search(rf"{name} +http://([^/\s]+)", self.said())
        assert found, self.said()
        return found[1]

    def family(self) -> dict[int, str]:
        """Every process beneath it, with its command line."""
        found: dict[int, str] = {}
        ask = [self.process.pid]
        while ask:
            pid = ask.pop()
            try:
                listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            except FileNotFoundError:
                continue
            for child in map(int, listed):
                found[child] = command_line(child)
                ask.append(child)
        return found

    def one(self, word: str) -> int:
        """The only process beneath whose command line has that word."""
        pids = [pid for pid, line in self.family().items() if word in line]
        assert len(pids) == 1, self.family()
        return pids[0]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except FileNotFoundError:
        return ""


def gone(pids: Iterable[int]) -> bool:
    return not any(map(alive, pids))


def environment(**more: str) -> dict[str, str]:
    free = {f"OPSCENTER_{name}_PORT": "0" for name in ("DOOR", "CONTROL", "HEALTH")}
    return {**os.environ, **free, "OPSCENTER_WORKERS": "1", **more}


@pytest.fixture
def start(home: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def begin(**more: str) -> Up:
        out, log = (home / f"{len(started)}.{kind}" for kind in ("out", "err"))
        with out.open("wb") as stdout, log.open("wb") as stderr:
            process = subprocess.Popen(
                COMMAND, cwd=ROOT, env=environment(**more), stdout=stdout, stderr=stderr
            )
        started.append(Up(process, out, log))
        return started[-1]

    yield begin
    for one in started:
        left = one.family() if one.process.poll() is None else {}
        if one.process.poll() is None:
            one.process.terminate()
        try:
            one.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            one.process.kill()
            one.process.wait()
        assert children.until(partial(gone, left), SECONDS)


def refused(**more: str) -> str:
    """What a start says that must not succeed."""
    done = subprocess.run(
        COMMAND,
        cwd=ROOT,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stderr + done.stdout
    return done.stderr


def pasted(said: str) -> list[str]:
    """The words of the curl line, as a shell reads them."""
    line = said[said.index("  curl ") :].split("\n\n")[0]
    return shlex.split(line.replace("\\\n", " "))


def call(words: list[str]) -> tuple[int, dict[str, object]]:
    """Does what curl would do with these words."""
    url = urlsplit(words[1])
    flags = list(zip(words[2::2], words[3::2], strict=True))
    headers = dict(value.split(": ", 1) for flag, value in flags if flag == "-H")
    body = next(value for flag, value in flags if flag == "-d")
    client = http.client.HTTPConnection(url.netloc, timeout=SECONDS)
    try:
        client.request("POST", url.path, body, headers)
        answer = client.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        client.close()


def is_ready(address: str) -> bool:
    client = http.client.HTTPConnection(address, timeout=SECONDS)
    try:
        client.request("GET", "/readyz")
        return client.getresponse().status == 200
    except OSError:
        return False
    finally:
        client.close()


# The life of an installation ------------------------------------------------------------


def test_the_line_that_a_first_start_prints_gets_a_paid_answer(
    start: Callable[..., Up], home: Path
) -> None:
    """And the second start, on the same data, shows no secret but knows the key."""
    first = start()
    assert children.until(first.ready, SECONDS), first.log.read_text()
    assert children.until(lambda: "curl" in first.said(), SECONDS)
    said = first.said()
    words = pasted(said)
    assert call(words)[0] == 200
    assert "admin@localhost" in said
    assert first.stop() == 0, first.log.read_text()

    second = start()
    assert children.until(second.ready, SECONDS), second.log.read_text()
    words[1] = f"http://{second.address('Door')}/v1/chat/completions"
    status, body = call(words)
    assert status == 200
    assert body["object"] == "chat.completion"
    assert "sk_ops_" not in second.said()
    assert "opscenter key create" in second.said()
    assert second.stop() == 0
    key = next(word for word in words if "sk_ops_" in word).partition("Bearer ")[2]
    for log in (home / "logs").iterdir():
        assert key not in log.read_text()


def test_everything_lies_in_the_home_for_its_owner_alone(
    start: Callable[..., Up], home: Path
) -> None:
    one = start()
    assert children.until(one.ready, SECONDS), one.log.read_text()
    for folder in ("data", "logs", "secrets", "run"):
        assert (home / folder).stat().st_mode & 0o077 == 0, folder
    for file in (*(home / "secrets").iterdir(), *(home / "logs").iterdir()):
        assert file.stat().st_mode & 0o077 == 0, file


def test_proxies_are_not_given_what_they_may_not_hold(start: Callable[..., Up]) -> None:
    one = start(OPSCENTER_ADMIN_EMAIL="someone@example.com")
    assert children.until(one.ready, SECONDS), one.log.read_text()
    for word in ("proxy.machine.supervisor", "proxy.worker"):
        given = Path(f"/proc/{one.one(word)}/environ").read_text().split("\0")
        names = {line.partition("=")[0] for line in given}
        assert "OPSCENTER_REDIS_URL" in names
        assert not names & {"OPSCENTER_DATABASE_URL", "OPSCENTER_ADMIN_EMAIL"}


def test_a_killed_supervisor_leaves_no_process_and_the_next_start_goes_on(
    start: Callable[..., Up],
) -> None:
    first = start()
    assert children.until(first.ready, SECONDS), first.log.read_text()
    family = first.family()
    assert {
        "valkey",
        "postgres",
        "control",
        "drain",
        "proxy.machine.supervisor",
        "proxy.worker",
    } <= {
        word
        for line in family.values()
        for word in (
            "valkey",
            "postgres",
            "control",
            "drain",
            "proxy.machine.supervisor",
            "proxy.worker",
        )
        if word in line
    }

    first.process.kill()
    first.process.wait()
    second = start()

    assert children.until(second.ready, SECONDS), second.log.read_text()
    assert children.until(partial(gone, family), SECONDS)
    assert "sk_ops_" not in second.said()


def test_whatever_dies_is_started_again(start: Callable[..., Up]) -> None:
    one = start()
    assert children.until(one.ready, SECONDS), one.log.read_text()
    addresses = [one.address("Control"), one.address("Health")]
    for word in ("control.machine.child control", "valkey-server", "proxy.worker"):
        died = one.one(word)
        os.kill(died, signal.SIGKILL)
        assert children.until(partial(gone, [died]), SECONDS)
        assert children.until(lambda: all(map(is_ready, addresses)), SECONDS), word
    assert one.process.poll() is None


def test_a_signal_during_the_start_ends_it(start: Callable[..., Up], home: Path) -> None:
    one = start()
    assert children.until((home / "data" / "pg").exists, SECONDS)
    family = one.family()
    assert one.stop() == 0
    assert gone(family)


def test_a_second_start_in_the_same_home_is_refused(start: Callable[..., Up], home: Path) -> None:
    one = start()
    assert children.until((home / "run").exists, SECONDS)
    assert children.until(lambda: (home / "up.lock").exists(), SECONDS)
    assert children.until(lambda: (home / "up.lock").read_text() != "", SECONDS)
    told = refused()
    assert f"already runs in {home} as process {one.process.pid}" in told
    assert "OPSCENTER_HOME" in told


def test_real_servers_are_used_where_settings_name_them(
    start: Callable[..., Up], home: Path, redis_url: str, empty_database_url: str
) -> None:
    one = start(OPSCENTER_REDIS_URL=redis_url, OPSCENTER_DATABASE_URL=empty_database_url)
    assert children.until(one.ready, SECONDS), one.log.read_text()
    assert call(pasted(one.said()))[0] == 200
    assert not (home / "data" / "pg").exists()
    assert not (home / "data" / "valkey").exists()


# What keeps a start from succeeding --------------------------------------------------------


@pytest.mark.parametrize("name", ["DOOR", "CONTROL", "HEALTH"])
def test_a_taken_port_is_told_before_anything_starts(home: Path, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        told = refused(**{f"OPSCENTER_{name}_PORT": str(stranger.getsockname()[1])})
    assert f"set OPSCENTER_{name}_PORT to a free port" in told
    assert not (home / "data" / "pg").exists()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://127.0.0.1:6379", "OPSCENTER_REDIS_URL is no address of a server"),
        (f"redis://:{PASSWORD}@127.0.0.1:bad", "OPSCENTER_REDIS_URL cannot be read"),
        (f"redis://:{PASSWORD}@127.0.0.1:1/0", "Redis at 127.0.0.1:1 cannot be reached"),
        (f"unix:///no/such.sock?password={PASSWORD}", "Redis at /no/such.sock cannot be reached"),
    ],
)
def test_a_wrong_redis_url_is_told_without_its_password(
    home: Path, url: str, sentence: str
) -> None:
    told = refused(OPSCENTER_REDIS_URL=url, OPSCENTER_DATABASE_URL="postgresql://unused")
    assert sentence in told
    assert "OPSCENTER_REDIS_URL" in told


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("mysql://127.0.0.1/x", "OPSCENTER_DATABASE_URL is no address of a server"),
        (f"postgresql://u:{PASSWORD}@127.0.0.1:bad/x", "OPSCENTER_DATABASE_URL cannot be read"),
        (f"postgresql://u:{PASSWORD}@127.0.0.1:1/x", "127.0.0.1:1 cannot be reached"),
    ],
)
def test_a_wrong_database_url_is_told_without_its_password(
    home: Path, redis_url: str, url: str, sentence: str
) -> None:
    told = refused(OPSCENTER_REDIS_URL=redis_url, OPSCENTER_DATABASE_URL=url)
    assert sentence in told
    assert "OPSCENTER_DATABASE_URL" in told


def test_a_password_that_a_server_refuses_is_told(
    home: Path, redis_url: str, empty_database_url: str
) -> None:
    wrong_redis = redis_url.replace("only-for-tests", PASSWORD)
    wrong_database = empty_database_url.replace("only-for-tests", PASSWORD)
    nowhere = re.sub(r"/test_\d+\?", "/no_such_database?", empty_database_url)
    told = refused(OPSCENTER_REDIS_URL=wrong_redis, OPSCENTER_DATABASE_URL=empty_database_url)
    assert "refuses the user or the password in OPSCENTER_REDIS_URL" in told
    told = refused(OPSCENTER_REDIS_URL=redis_url, OPSCENTER_DATABASE_URL=wrong_database)
    assert "refuses the user or the password in OPSCENTER_DATABASE_URL" in told
    told = refused(OPSCENTER_REDIS_URL=redis_url, OPSCENTER_DATABASE_URL=nowhere)
    assert "has no database of the name in OPSCENTER_DATABASE_URL" in told


def test_a_home_that_cannot_be_written_is_told(home: Path) -> None:
    (home / "data").touch()
    assert f"{home / 'data'} cannot be made: File exists" in refused()


def test_data_of_another_version_is_told(home: Path, redis_url: str) -> None:
    servers.password(home, servers.POSTGRES)
    (home / "data" / "pg").mkdir(parents=True)
    (home / "data" / "pg" / "PG_VERSION").write_text("16\n")
    told = refused(OPSCENTER_REDIS_URL=redis_url)
    assert "was written by PostgreSQL 16" in told


# Ports and children, without servers ---------------------------------------------------------


def settings_with(**more: str) -> control_settings.ControlSettings:
    return control_settings.load({f"OPSCENTER_{name}": value for name, value in more.items()})


def test_ports_that_are_zero_become_different_free_ones(home: Path) -> None:
    found = ports.settle(settings_with(DOOR_PORT="0", CONTROL_PORT="0", HEALTH_PORT="0"))
    chosen = {found.door_port, found.control_port, found.health_port}
    assert len(chosen) == 3
    assert 0 not in chosen


def test_two_settings_with_one_port_are_refused(home: Path) -> None:
    with pytest.raises(listen.ListenError, match=r"DOOR_PORT and OPSCENTER_HEALTH_PORT are both"):
        ports.settle(settings_with(DOOR_PORT="9", CONTROL_PORT="0", HEALTH_PORT="9"))


def test_a_child_that_keeps_dying_is_given_up_and_its_words_are_kept(home: Path) -> None:
    log = home / "logs" / "one.log"
    household = processes.Household()

    def begin() -> children.Child:
        return children.spawn([sys.executable, "-c", "raise SystemExit('no luck')"], log=log)

    unit = processes.Unit("one", begin, log, processes.FORCED)
    household.add(unit)
    now = unit.started_at
    for _ in range(processes.START_FAILURES_MAX):
        assert household.given_up() is None
        assert unit.process is not None
        unit.process.wait(SECONDS)
        household.step(now)
        now = unit.start_at
        household.step(now)
    assert household.given_up() is unit
    assert "no luck" in children.tail(log)
    household.stop()


def test_a_server_that_cannot_be_started_again_is_tried_later(home: Path) -> None:
    def begin() -> children.Child:
        raise ServerError("the disk is full")

    unit = processes.Unit("one", begin, home / "one.log", processes.FORCED)
    household = processes.Household()
    household.units.append(unit)
    household.step(1.0)
    assert unit.process is None
    assert unit.start_at > 1.0


ENDS_LOUDLY = """
import pathlib, signal, sys
home, name = pathlib.Path(sys.argv[1]), sys.argv[2]
def end(*_):
    with (home / "ended").open("a") as file: file.write(name + " ")
    sys.exit()
signal.signal(signal.SIGTERM, end)
(home / name).touch()
signal.pause()
"""


def test_children_stop_in_the_reverse_order(home: Path) -> None:
    household = processes.Household()
    for name in ("server", "proxy"):
        argv = [sys.executable, "-c", ENDS_LOUDLY, str(home), name]
        household.add(
            processes.Unit(
                name, partial(children.spawn, argv), home / "x.log", ((signal.SIGTERM, SECONDS),)
            )
        )
        assert children.until((home / name).exists, SECONDS)
    assert household.stop() == []
    assert (home / "ended").read_text().split() == ["proxy", "server"]
