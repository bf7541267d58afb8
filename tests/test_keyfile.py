"""The proxy key file: peppers and the key of provider secrets; a proxy holds no more of them."""

import base64
import hashlib
import hmac
from pathlib import Path

import orjson
import pytest
from cryptography.fernet import Fernet

from proxy.who import keys
from proxy.who.keyfile import KeyFile, KeyFileError, render

PEPPER, NEW_PEPPER = b"p" * 32, b"q" * 32
SECRET, NEW_SECRET = b"s" * 32, b"t" * 32
FILE = KeyFile.parse(render({1: PEPPER}, {1: SECRET}))
ROTATED = KeyFile.parse(render({1: PEPPER, 2: NEW_PEPPER}, {1: SECRET, 2: NEW_SECRET}))
KEY_TEXT = base64.b64encode(PEPPER).decode()


def test_a_digest_is_the_keyed_hash_of_the_whole_key() -> None:
    """Who can write the database, but has no pepper, cannot make a key that is accepted."""
    key = keys.mint(5).text
    assert FILE.digest(key, 1) == hmac.new(PEPPER, key.encode(), hashlib.sha256).digest()
    assert ROTATED.digest(key, 2) != ROTATED.digest(key, 1) == FILE.digest(key, 1)


def test_the_newest_pepper_is_for_new_keys_and_older_ones_still_check() -> None:
    assert ROTATED.pepper_version == 2
    assert set(ROTATED.peppers) == {1, 2}
    tenth = KeyFile.parse(render({9: PEPPER, 10: NEW_PEPPER}, {1: SECRET}))
    assert tenth.pepper_version == 10


def test_a_secret_comes_back_only_for_the_provider_and_the_address_it_was_entered_for() -> None:
    """A row copied to another provider, or an address changed under it, opens nothing."""
    sealed = FILE.seal("openai", "https://api.openai.com/v1", "sk-provider")
    assert FILE.open("openai", "https://api.openai.com/v1", sealed) == "sk-provider"
    for provider, url in [("evil", "https://api.openai.com/v1"), ("openai", "https://evil/v1")]:
        with pytest.raises(ValueError, match="another address") as caught:
            FILE.open(provider, url, sealed)
        assert "sk-provider" not in str(caught.value)


def test_rotation_reads_the_old_and_seals_with_the_new() -> None:
    old = FILE.seal("p", "u", "x")
    assert ROTATED.open("p", "u", old) == "x"
    with pytest.raises(ValueError, match="sealed by another key"):
        FILE.open("p", "u", ROTATED.seal("p", "u", "x"))


def test_two_seals_of_one_secret_differ() -> None:
    """Nobody sees from the database that two providers share a key."""
    assert FILE.seal("p", "u", "x") != FILE.seal("p", "u", "x")


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b"no json",
        b"[]",
        b"{}",
        b'{"provider":"p","base_url":"u","secret":7}',
        b"\xff",
        b"null",
    ],
)
def test_a_sealed_value_of_any_other_shape_is_a_value_error(plain: bytes) -> None:
    """One row that cannot be read leaves one deployment out, not the whole snapshot."""
    box = Fernet(base64.urlsafe_b64encode(SECRET))
    with pytest.raises(ValueError, match="sealed by another key"):
        FILE.open("p", "u", box.encrypt(plain))


@pytest.mark.parametrize("sealed", [b"", b"x", "gAAAAé".encode(), b"gAAAA" * 30])
def test_garbage_instead_of_a_sealed_value_is_a_value_error(sealed: bytes) -> None:
    with pytest.raises(ValueError, match="sealed by another key"):
        FILE.open("p", "u", sealed)


def test_no_secret_shows_in_a_repr() -> None:
    shown = repr(FILE)
    assert "pppp" not in shown
    assert "ssss" not in shown
    assert KEY_TEXT not in shown


def test_the_file_is_found_and_read(tmp_path: Path) -> None:
    path = tmp_path / "proxy.json"
    path.write_bytes(render({1: PEPPER}, {1: SECRET}))
    assert KeyFile.load(path).peppers == {1: PEPPER}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        b"\xff\xfe",
        orjson.dumps({"pepper": {"1": KEY_TEXT}}),
        orjson.dumps({"pepper": "text", "provider": "text"}),
        orjson.dumps({"pepper": [KEY_TEXT], "provider": {"1": KEY_TEXT}}),
        orjson.dumps({"pepper": {}, "provider": {}}),
        orjson.dumps({"pepper": {"1": "c2hvcnQ="}, "provider": {"1": KEY_TEXT}}),
        orjson.dumps({"pepper": {"1": "é" * 44}, "provider": {"1": KEY_TEXT}}),
        orjson.dumps({"pepper": {"1": None}, "provider": {"1": KEY_TEXT}}),
        orjson.dumps({"pepper": {"one": KEY_TEXT}, "provider": {"1": KEY_TEXT}}),
        orjson.dumps({"pepper": {"0": KEY_TEXT}, "provider": {"1": KEY_TEXT}}),
        orjson.dumps({"pepper": {"-1": KEY_TEXT}, "provider": {"1": KEY_TEXT}}),
        orjson.dumps({"pepper": {"١": KEY_TEXT}, "provider": {"1": KEY_TEXT}}),
    ],
)
def test_a_file_that_is_none_is_refused_with_its_cure_and_without_its_content(
    tmp_path: Path, data: bytes
) -> None:
    path = tmp_path / "proxy.json"
    path.write_bytes(data)
    with pytest.raises(KeyFileError, match="is not a proxy key file") as caught:
        KeyFile.load(path)
    assert "opscenter secrets proxy-file" in str(caught.value)
    assert KEY_TEXT not in str(caught.value)


def test_a_missing_file_and_a_folder_in_its_place_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="There is no proxy key file at"):
        KeyFile.load(tmp_path / "nowhere" / "proxy.json")
    with pytest.raises(KeyFileError, match="cannot be read"):
        KeyFile.load(tmp_path)
