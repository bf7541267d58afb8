"""`./opscenter`: makes the environment that it needs once, whatever the machine is like."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SECONDS = 30.0

# Stands in for Python: makes environments that hold itself, and notes what it was asked.
PYTHON = """#!/bin/sh
echo "$*" >>"$PYTHON_LOG"
case "$*" in
*version_info*) exit "${IS_OLD:-0}" ;;
*"import ensurepip"*) exit "${LACKS_ENSUREPIP:-0}" ;;
*"import pip"*) exit "${LACKS_PIP:-0}" ;;
*--version*) echo "Python 3.10.12" ;;
*"-m venv"*)
    for folder; do :; done
    mkdir -p "$folder/bin" && cp "$0" "$folder/bin/python" && touch "$folder/pyvenv.cfg" ;;
*install*--require-hashes*) [ ! -e "$PYTHON_LOG.fails" ] ;;
*"-m control"*) echo "runs: $*" ;;
esac
"""


@pytest.fixture
def checkout(home: Path) -> Path:
    """A fresh clone, with a stand-in for Python on the PATH and nothing else that installs."""
    place = home / "clone"
    place.mkdir()
    shutil.copy(ROOT / "opscenter", place)
    for name in ("requirements.lock", "pyproject.toml"):
        (place / name).write_text(f"{name}\n")
    tools = home / "bin"
    tools.mkdir()
    (tools / "python3").write_text(PYTHON)
    (tools / "python3").chmod(0o755)
    needed = ("sh", "cat", "cksum", "chmod", "cp", "dirname", "flock", "mkdir", "readlink", "rm")
    for name in (*needed, "rmdir", "sleep", "touch"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    return place


@pytest.fixture
def run(checkout: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    def start(
        *words: str, script: Path = checkout / "opscenter", **more: str
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [script, *words],
            cwd="/",
            env=environment(checkout, **more),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    return start


Run = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(checkout: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": str(checkout.parent / "bin"),
        "HOME": str(checkout.parent / "user"),
        "PYTHON_LOG": str(checkout.parent / "asked"),
        **more,
    }


def asked(checkout: Path) -> list[str]:
    return (checkout.parent / "asked").read_text().splitlines()


def installs(checkout: Path) -> int:
    return sum("--require-hashes" in line for line in asked(checkout))


def test_it_installs_once_with_hashes_and_then_only_runs(checkout: Path, run: Run) -> None:
    for _ in range(2):
        done = run("up", "two words")
        assert done.returncode == 0, done.stderr
        assert done.stdout == "runs: -P -m control up two words\n"
    assert installs(checkout) == 1
    assert any("--no-deps --no-build-isolation -e" in line for line in asked(checkout))
    assert not (checkout / ".venv.lock").exists()


def test_a_changed_lock_installs_again(checkout: Path, run: Run) -> None:
    run("up")
    (checkout / "requirements.lock").write_text("another\n")
    run("up")
    run("up")
    assert installs(checkout) == 2


def test_it_is_found_through_a_symbolic_link(checkout: Path, run: Run) -> None:
    link = checkout.parent / "link"
    link.symlink_to("clone/opscenter")
    assert run("up", script=link).returncode == 0
    assert (checkout / ".venv" / "opscenter.stamp").exists()


def test_without_ensurepip_the_outer_pip_installs(checkout: Path, run: Run) -> None:
    assert run("up", LACKS_ENSUREPIP="1").returncode == 0
    assert any("venv --without-pip" in line for line in asked(checkout))


def test_an_interrupted_installation_begins_again(checkout: Path, run: Run) -> None:
    failing = checkout.parent / "asked.fails"
    failing.touch()
    done = run("up")
    assert done.returncode == 1
    assert "installing failed" in done.stderr
    failing.unlink()
    assert run("up").returncode == 0
    assert sum("-m venv" in line for line in asked(checkout)) == 2


def test_two_at_once_install_once(checkout: Path) -> None:
    both = [
        subprocess.Popen(
            [checkout / "opscenter", "up"],
            cwd="/",
            env=environment(checkout),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    for one in both:
        with one:
            out, _ = one.communicate(timeout=SECONDS)
            assert out == b"runs: -P -m control up\n"
    assert installs(checkout) == 1


def test_without_flock_a_folder_locks_and_a_dead_holder_is_passed_over(
    checkout: Path, run: Run
) -> None:
    (checkout.parent / "bin" / "flock").unlink(missing_ok=True)
    ended = subprocess.Popen(["true"])
    ended.wait()
    (checkout / ".venv.lock.d").mkdir()
    (checkout / ".venv.lock.d" / "pid").write_text(f"{ended.pid}\n")
    assert run("up").returncode == 0
    assert not (checkout / ".venv.lock.d").exists()


def test_an_old_python_is_told_with_uv_and_apt(run: Run) -> None:
    done = run("up", IS_OLD="1")
    assert done.returncode == 1
    assert "needs Python 3.11 or newer; here is Python 3.10.12" in done.stderr
    assert "uv" in done.stderr
    assert "apt install" in done.stderr


def test_a_python_that_cannot_install_is_told_with_apt(run: Run) -> None:
    done = run("up", LACKS_ENSUREPIP="1", LACKS_PIP="1")
    assert done.returncode == 1
    assert "apt install python3-venv" in done.stderr


def test_a_folder_of_the_users_is_never_emptied(checkout: Path, run: Run) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "precious").touch()
    done = run("up")
    assert done.returncode == 1
    assert "is no Python environment" in done.stderr
    assert (checkout / ".venv" / "precious").exists()


def test_a_place_that_cannot_be_written_is_told_in_our_words(
    checkout: Path, run: Run, home: Path
) -> None:
    (home / "taken").touch()
    done = run("up", OPSCENTER_VENV=str(home / "taken" / "venv"))
    assert done.returncode == 1
    assert "OPSCENTER_HOME" in done.stderr
    (home / "there.lock").mkdir()
    done = run("up", OPSCENTER_VENV=str(home / "there"))
    assert done.returncode == 1
    assert "OPSCENTER_HOME" in done.stderr
    assert "line " not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_checkout_that_cannot_be_written_gets_its_environment_at_home(
    checkout: Path, home: Path
) -> None:
    for folder in (home, checkout, home / "bin"):
        folder.chmod(0o755)
    user = home / "user"
    user.mkdir()
    (home / "asked").touch()
    for path in (user, home / "asked"):
        os.chown(path, 65534, 65534)
    done = subprocess.run(
        [checkout / "opscenter", "up"],
        cwd="/",
        env=environment(checkout),
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (user / ".opscenter" / "venv" / "opscenter.stamp").exists()
    assert not (checkout / ".venv").exists()
