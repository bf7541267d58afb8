"""The root key and what is made from it: one key per purpose, files for their owner alone."""

import stat
from pathlib import Path

import pytest

from control import secrets
from control.roots import SecretError
from control.settings import ControlSettings, load
from proxy.who.keyfile import KeyFile

GOOD = "q8Zr3vT1xWm5KpL0aBcDeFgHiJkNsUyV2t4y6u8i"
OTHER = GOOD[::-1]


def settings(home: Path, root_key: str = "") -> ControlSettings:
    return load({"OPSCENTER_HOME": str(home), "OPSCENTER_ROOT_KEY": root_key})


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_start_makes_both_files_for_their_owner_alone(home: Path) -> None:
    wanted = settings(home)
    secrets.unlock(wanted)
    assert mode(wanted.root_key_path) == mode(wanted.proxy_keys) == 0o600
    assert mode(home / "secrets") == 0o700
    assert secrets.verify(wanted) == ""


def test_a_second_start_finds_the_same_secrets(home: Path) -> None:
    first, second = secrets.unlock(settings(home)), secrets.unlock(settings(home))
    assert first.proxy_file == second.proxy_file


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ("tooshort", "shorter"),
        ("ab" * 30, "repeats"),
        ("ChangeMe-q8Zr3vT1xWm5KpL0aBcDeFgHiJkNs", "example"),
        ("this-is-an-example-key-0123456789abcdef", "example"),
        ("my-secret-key-for-production-0123456789", "example"),
    ],
)
def test_a_weak_root_key_is_refused_and_not_shown(home: Path, bad: str, sentence: str) -> None:
    with pytest.raises(SecretError, match=sentence) as refused:
        secrets.unlock(settings(home, bad))
    assert bad not in str(refused.value)


def test_a_root_key_that_others_can_read_is_refused(home: Path) -> None:
    wanted = settings(home)
    secrets.unlock(wanted)
    wanted.root_key_path.chmod(0o644)
    with pytest.raises(SecretError, match="chmod 600"):
        secrets.unlock(wanted)


def test_a_lost_root_key_is_not_replaced_by_a_new_one(home: Path) -> None:
    """With a new one every API key would die and no provider's key could be read."""
    wanted = settings(home)
    secrets.unlock(wanted)
    wanted.root_key_path.unlink()
    with pytest.raises(SecretError, match="from your backup"):
        secrets.unlock(wanted)


def test_another_root_key_does_not_overwrite_the_proxies_file(home: Path) -> None:
    secrets.unlock(settings(home, GOOD))
    with pytest.raises(SecretError, match="another root key"):
        secrets.unlock(settings(home, OTHER))


def test_proxies_get_two_keys_and_never_the_root(home: Path) -> None:
    wanted = settings(home, GOOD)
    secrets.unlock(wanted)
    content = wanted.proxy_keys.read_bytes()
    assert GOOD.encode() not in content
    assert KeyFile.load(wanted.proxy_keys).pepper_version == 1


def test_each_purpose_has_a_key_of_its_own(home: Path) -> None:
    made = secrets.unlock(settings(home, GOOD))
    purposes = ("pepper v1", "provider secrets v1", "idempotency v1", "anything else")
    assert len({made.derive(purpose) for purpose in purposes}) == len(purposes)


def test_a_box_opens_only_what_was_sealed_under_the_same_root() -> None:
    one, other = secrets.Secrets(GOOD.encode()).answers, secrets.Secrets(OTHER.encode()).answers
    sealed = one.seal(b"an answer")
    assert (one.open(sealed), other.open(sealed)) == (b"an answer", None)
    assert b"an answer" not in sealed


def test_no_secret_shows_in_a_repr(home: Path) -> None:
    wanted = settings(home, GOOD)
    assert GOOD not in repr(wanted)
    assert GOOD not in repr(secrets.unlock(wanted))


# Another root key -----------------------------------------------------------------------


def lines(wanted: ControlSettings) -> list[str]:
    return wanted.root_key_path.read_text().splitlines()


def test_a_further_root_key_stands_beside_the_former_one(home: Path) -> None:
    """The proxies' file has the keys of both; API keys of both times work."""
    wanted = settings(home)
    before = secrets.unlock(wanted)
    assert secrets.new_root(wanted) == 2
    after = secrets.unlock(wanted)
    assert (len(lines(wanted)), lines(wanted)[0].encode()) == (2, before.root)
    assert mode(wanted.root_key_path) == mode(wanted.proxy_keys) == 0o600
    file = KeyFile.load(wanted.proxy_keys)
    assert (file.pepper_version, file.peppers[1]) == (2, before.keys.peppers[1])
    assert file.open("p", "u", before.keys.seal("p", "u", "x")) == "x"
    for one in (before.answers, before.plugins, before.providers):
        assert one.is_newest(one.seal(b"x"))
    sealed = before.plugins.seal(b"x")
    assert (after.plugins.open(sealed), after.plugins.is_newest(sealed)) == (b"x", False)
    with pytest.raises(SecretError, match="former root key yet"):
        secrets.new_root(wanted)
    assert secrets.verify(wanted) == ""


def test_of_a_dropped_root_key_its_pepper_stays(home: Path) -> None:
    wanted = settings(home)
    before = secrets.unlock(wanted)
    secrets.new_root(wanted)
    assert secrets.drop_old(wanted, 2) == 1
    after = secrets.unlock(wanted)
    assert before.root not in wanted.root_key_path.read_bytes()
    assert after.keys.peppers[1] == before.keys.peppers[1]
    with pytest.raises(ValueError, match="another key"):
        after.keys.open("p", "u", before.keys.seal("p", "u", "x"))
    assert secrets.drop_old(wanted, 2) == 0
    assert secrets.new_root(wanted) == 3
    assert set(KeyFile.load(wanted.proxy_keys).peppers) == {1, 2, 3}


def test_a_root_key_of_the_environment_gets_a_further_line_there(home: Path) -> None:
    wanted, both = settings(home, GOOD), settings(home, f"{GOOD}\n{OTHER}")
    first = secrets.unlock(wanted)
    with pytest.raises(SecretError, match="a further line"):
        secrets.new_root(wanted)
    assert "from before the newest" in secrets.verify(both)
    assert secrets.unlock(both).keys.peppers[1] == first.keys.peppers[1]
    with pytest.raises(SecretError, match="another root key"):
        secrets.unlock(wanted)  # API keys of the second's time would die
    for bad, why in ((f"{GOOD}\n{GOOD}", "twice"), (f"pepper:AAAA\n{GOOD}", "none")):
        with pytest.raises(SecretError, match=why):
            secrets.unlock(settings(home, bad))
