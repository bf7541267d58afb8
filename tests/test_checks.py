"""The doctor's findings: pure judgements by tables; the rest is seen in test_cli.py."""

import socket
from pathlib import Path

import pytest

from control import settings
from control.machine import checks, redis_health
from control.machine.finding import Finding


@pytest.mark.parametrize(
    ("found", "strangers"),
    [
        ({"proxy": ["opscenter"], "rich": ["rich"]}, []),
        ({"proxy": ["opscenter", "Other"]}, [("proxy", "Other")]),
        ({"control": ["control"], "plugins": []}, [("control", "control")]),
    ],
)
def test_others_with_our_names_are_found(
    found: dict[str, list[str]], strangers: list[tuple[str, str]]
) -> None:
    assert checks.strangers_among(found) == strangers


@pytest.mark.parametrize(
    ("info", "level"),
    [
        ({"valkey_version": "9.1.2", "redis_version": "7.2.4"}, "ok"),
        ({"valkey_version": "8.1.3"}, "warn"),
        ({"valkey_version": "8.1.4"}, "ok"),
        ({"redis_version": "7.2.4"}, "warn"),
        ({"redis_version": "8.2.2"}, "ok"),
        ({"redis_version": "9.0.0"}, "ok"),
        ({"redis_version": "5.0.1"}, "warn"),
        ({}, "warn"),
    ],
)
def test_versions_with_known_holes_are_named(info: dict[str, str], level: str) -> None:
    assert redis_health.version([{"valkey_version": "9.1.2"}, info], "").level == level


@pytest.mark.parametrize(
    ("changes", "level", "told"),
    [
        ({}, None, ""),
        ({"maxmemory_policy": "allkeys-lru"}, "fail", "credits could be evicted"),
        ({"maxmemory": "1000", "used_memory": "799"}, None, ""),
        ({"maxmemory": "1000", "used_memory": "800"}, "warn", "80 % of maxmemory"),
        ({"maxmemory": "1000", "used_memory": "1001"}, "fail", "nothing is admitted"),
    ],
)
def test_the_memory_of_every_master_is_looked_at(
    changes: dict[str, str], level: str | None, told: str
) -> None:
    good = {"maxmemory_policy": "noeviction", "maxmemory": "0", "used_memory": "800"}
    found = redis_health.memory([good, good | changes])
    assert [finding.level for finding in found] == ([level] if level else [])
    assert told in "".join(finding.says for finding in found)


async def test_open_secrets_fail_and_the_cure_closes_them(home: Path) -> None:
    (home / "secrets").mkdir(mode=0o755)
    wanted = settings.load({"OPSCENTER_HOME": str(home)})
    finding = (await checks.home(wanted))[-1]
    assert (finding.level, f"chmod 700 {home}/secrets" in finding.cure) == ("fail", True)


@pytest.mark.parametrize(
    ("given", "check", "told"),
    [
        ({"OPSCENTER_REDIS_URL": "here"}, checks.redis, "It must begin with redis://"),
        ({"OPSCENTER_REDIS_URL": "redis://:pw@h:x/0"}, checks.redis, "cannot be read"),
        ({"OPSCENTER_REDIS_URL": "redis://:pw@127.0.0.1:1/0"}, checks.redis, "mend OPSC"),
        (
            {"OPSCENTER_REDIS_URL": "redis://:pw@127.0.0.1:1,127.0.0.1:2/0"},
            checks.redis,
            "Redis at 127.0.0.1:1, 127.0.0.1:2 cannot be reached",
        ),
        ({"OPSCENTER_REDIS_URL": "redis://:pw@127.0.0.1:1,/0"}, checks.redis, "cannot be read"),
        ({"OPSCENTER_DATABASE_URL": "here"}, checks.postgres, "It must begin with postgresql://"),
        (
            {"OPSCENTER_DATABASE_URL": "postgresql://u:pw@127.0.0.1:1/d"},
            checks.postgres,
            "mend OPSC",
        ),
        ({}, checks.redis, "the embedded Valkey does not answer"),
        ({}, checks.postgres, "the embedded PostgreSQL does not answer"),
    ],
)
async def test_a_server_that_is_not_there_is_told_by_its_setting(
    home: Path, given: dict[str, str], check: checks.Check, told: str
) -> None:
    wanted = settings.load({"OPSCENTER_HOME": str(home), **given})
    (finding,) = await check(wanted)
    assert finding.level == "fail"
    assert told in f"{finding.says} {finding.cure}"
    assert ":pw@" not in finding.says


def test_a_port_that_is_chosen_at_each_start_is_not_asked() -> None:
    assert checks._port("door", "127.0.0.1", 0, "/healthz", "X").level == "ok"


def test_a_stranger_on_our_port_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "WAIT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        stranger.listen()
        assert checks._port("door", "127.0.0.1", port, "/healthz", "X").level == "fail"


async def test_a_check_that_breaks_is_a_finding_itself(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(settings: object) -> list[Finding]:
        raise RuntimeError("out of order")

    monkeypatch.setattr(checks, "CHECKS", (broken,))
    wanted = settings.load({"OPSCENTER_HOME": str(home)})
    finding = (await checks.examine(wanted))[0]
    assert (finding.level, finding.name) == ("fail", "broken")
    assert "out of order" in finding.says
