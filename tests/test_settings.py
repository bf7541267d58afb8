"""Settings: the environment before the file, every mistake told in a sentence."""

import logging
import os
from pathlib import Path

import pytest

from proxy import declared, settings
from proxy.declared import SettingsError, load
from proxy.redis.address import Address
from proxy.settings import LOG_LEVELS, Settings


def read(home: Path, text: str | bytes = "", **environ: str) -> Settings:
    if text:
        content = text.encode() if isinstance(text, str) else text
        (home / declared.FILE_NAME).write_bytes(content)
    return load(Settings, {"OPSCENTER_HOME": str(home), **environ})


def refused(home: Path, text: str | bytes = "", **environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        read(home, text, **environ)
    return str(caught.value)


def test_an_empty_environment_gives_the_documented_defaults(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert (found.door_host, found.door_port) == ("127.0.0.1", 8084)
    assert found.proxy_keys == tmp_path / "secrets" / "proxy.json"
    assert found.workers == 0


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    text = "OPSCENTER_DOOR_PORT=1\nOPSCENTER_WORKERS=3\n"
    found = read(tmp_path, text, OPSCENTER_DOOR_PORT="2")
    assert (found.door_port, found.workers) == (2, 3)


def test_an_empty_value_is_none_at_all(tmp_path: Path) -> None:
    """Compose files and charts set what is not set to nothing."""
    assert read(tmp_path, OPSCENTER_DOOR_PORT="", OPSCENTER_REDIS_URL="").door_port == 8084


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("OPSCENTER_REDIS_URL=redis://a", "redis://a"),
        ("  OPSCENTER_REDIS_URL = redis://a  ", "redis://a"),
        ("export OPSCENTER_REDIS_URL=redis://a", "redis://a"),
        ("OPSCENTER_REDIS_URL='redis://a'", "redis://a"),
        ('OPSCENTER_REDIS_URL="redis://a"', "redis://a"),
        ("OPSCENTER_REDIS_URL=redis://a?x=1&y=2", "redis://a?x=1&y=2"),
        ("OPSCENTER_REDIS_URL=redis://:pass'@a", "redis://:pass'@a"),
        ("OPSCENTER_REDIS_URL=redis://:p#s@a", "redis://:p#s@a"),
        ('OPSCENTER_REDIS_URL=redis://a"', 'redis://a"'),
        ("OPSCENTER_REDIS_URL='", "'"),
        ("# note\n\n\r\nOPSCENTER_REDIS_URL=redis://a\r\n", "redis://a"),
        ("\ufeffOPSCENTER_REDIS_URL=redis://a", "redis://a"),
        ("OPSCENTER_REDIS_URL=redis://é\u2028", "redis://é"),
    ],
)
def test_a_line_of_the_file_is_a_name_and_a_value(tmp_path: Path, line: str, value: str) -> None:
    """Quotes go only as a pair; a password may hold what it likes."""
    assert read(tmp_path, line).redis_url == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("PATH=/bin", "line 1: expected OPSCENTER_NAME=value"),
        ("\nOPSCENTER_WORKERS", "line 2: expected OPSCENTER_NAME=value"),
        ("OPSCENTER_HOME=/elsewhere", "line 1: OPSCENTER_HOME is set in the environment"),
        (b"OPSCENTER_REDIS_URL=\xff", "is not text in UTF-8"),
        ("OPSCENTER_WORKER=1", "Did you mean OPSCENTER_WORKERS?"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_with_its_line(
    tmp_path: Path, text: str | bytes, why: str
) -> None:
    assert why in refused(tmp_path, text)


def test_a_folder_in_place_of_the_file_is_told(tmp_path: Path) -> None:
    (tmp_path / declared.FILE_NAME).mkdir()
    assert "cannot be read" in refused(tmp_path)


def test_a_name_that_is_no_setting_is_a_mistake_with_the_nearest_right_one(tmp_path: Path) -> None:
    why = refused(tmp_path, OPSCENTER_DOOR_PROT="1")
    assert why == (
        "OPSCENTER_DOOR_PROT is not a setting of Ops-Center. Did you mean OPSCENTER_DOOR_PORT?"
    )
    assert refused(tmp_path, OPSCENTER_XYZZY="1").endswith("of Ops-Center.")


def test_a_password_does_not_show_where_settings_are_printed(tmp_path: Path) -> None:
    assert "hunter2" not in repr(read(tmp_path, OPSCENTER_REDIS_URL="redis://:hunter2@host"))


def test_a_worker_passes_over_the_names_of_the_planes_above(tmp_path: Path) -> None:
    environ = {"OPSCENTER_HOME": str(tmp_path), "OPSCENTER_DATABASE_URL": "x", "OTHER": "y"}
    assert load(Settings, environ, strict=False).home == tmp_path


@pytest.mark.parametrize(
    "value",
    ["x", "1.5", "1e3", "0x10", "--5", "-", "+5", "5 ", "1_000", "٥", "²", "true", "9" * 5_000],
)
def test_a_number_is_digits_and_nothing_else(tmp_path: Path, value: str) -> None:
    assert "OPSCENTER_WORKERS is" in refused(tmp_path, OPSCENTER_WORKERS=value)


@pytest.mark.parametrize(
    ("name", "value", "takes"),
    [
        ("DOOR_PORT", "-1", "it takes 0 to 65535"),
        ("DOOR_PORT", "65536", "it takes 0 to 65535"),
        ("WORKERS", "257", "it takes 0 to 256"),
        ("BODY_MAX_BYTES", "1023", "it takes 1024 or more"),
        ("JSON_DEPTH_MAX", "251", "it takes 1 to 250"),
    ],
)
def test_a_number_beyond_its_limits_is_told_with_them(
    tmp_path: Path, name: str, value: str, takes: str
) -> None:
    assert takes in refused(tmp_path, **{f"OPSCENTER_{name}": value})


@pytest.mark.parametrize(("value", "port"), [("0", 0), ("65535", 65535), ("007", 7)])
def test_the_limits_themselves_are_taken(tmp_path: Path, value: str, port: int) -> None:
    assert read(tmp_path, OPSCENTER_DOOR_PORT=value).door_port == port


@pytest.mark.parametrize("level", [*LOG_LEVELS, "INFO", "Warning"])
def test_a_log_level_is_one_that_logging_knows(tmp_path: Path, level: str) -> None:
    found = read(tmp_path, OPSCENTER_LOG_LEVEL=level).log_level
    assert isinstance(logging.getLevelName(found.upper()), int)


def test_another_log_level_is_told_with_those_there_are(tmp_path: Path) -> None:
    why = refused(tmp_path, OPSCENTER_LOG_LEVEL="loud")
    assert why == "OPSCENTER_LOG_LEVEL is 'loud'; it takes debug, info, warning, error."


def test_renewals_come_at_least_twice_in_a_lease(tmp_path: Path) -> None:
    """Else the holds of requests that run would end while they run."""
    assert read(tmp_path, OPSCENTER_RENEW_MS="6000").renew_ms == 6000
    why = refused(tmp_path, OPSCENTER_RENEW_MS="6001")
    assert "half of OPSCENTER_LEASE_MS" in why


@pytest.mark.parametrize("name", ["HOME", "RUN_DIR", "PROXY_KEY_FILE"])
def test_the_home_of_an_unknown_user_is_told(tmp_path: Path, name: str) -> None:
    environ = {"OPSCENTER_HOME": str(tmp_path), f"OPSCENTER_{name}": "~nobody-of-this-name/x"}
    with pytest.raises(SettingsError, match="home of an unknown user"):
        _paths(load(Settings, environ))


def _paths(found: Settings) -> tuple[Path, Path, Path]:
    return found.home, found.run_dir, found.proxy_keys


def test_every_path_is_absolute_wherever_the_process_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child may run in another folder, and a socket's URL takes no relative path."""
    monkeypatch.chdir(tmp_path)
    found = load(
        Settings,
        {
            "OPSCENTER_HOME": "home",
            "OPSCENTER_RUN_DIR": "run",
            "OPSCENTER_PROXY_KEY_FILE": "key.json",
        },
    )
    assert _paths(found) == (tmp_path / "home", tmp_path / "run", tmp_path / "key.json")
    assert Address.parse(found.redis).socket == str(tmp_path / "run" / "valkey.sock")


@pytest.mark.parametrize("name", ["a b", "100%25", "a?b", "a#b", "é"])
def test_a_home_with_any_name_gives_a_socket_that_is_found(tmp_path: Path, name: str) -> None:
    home = Path("/tmp") / name
    assert Address.parse(Settings(home=home).redis).socket == str(home / "run" / "valkey.sock")


def test_sockets_of_a_long_home_lie_in_a_short_folder_of_their_own() -> None:
    """The system takes 107 bytes; the same home always gets the same folder, another another."""
    long = Path("/tmp/" + "h" * 90)
    found = Settings(home=long).run_dir
    assert len(os.fsencode(found / ".s.PGSQL.65535.lock")) <= settings.SOCKET_PATH_MAX
    assert found == Settings(home=long).run_dir
    assert found != Settings(home=Path("/tmp/" + "i" * 90)).run_dir
    assert Settings(home=Path("/srv/ops")).run_dir == Path("/srv/ops/run")
