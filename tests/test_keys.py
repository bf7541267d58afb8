"""API keys as text: what is a key of ours, and what is refused before anything is looked up."""

import random
import re
import string
from collections import Counter
from math import log2

import pytest

from proxy.who import keys

KEYS = tuple(keys.mint(nth % keys.SHARDS) for nth in range(2_000))
SAMPLE = KEYS[7].text


@pytest.mark.parametrize("shard", [0, 9, 10, 59, 60, 63])
def test_a_minted_key_is_read_back_with_its_shard_and_id(shard: int) -> None:
    """The shard stands in the text, so no look-up precedes the script that checks the key."""
    key = keys.mint(shard)
    assert keys.parse(key.text) == key
    assert key.shard == shard
    assert key.text.startswith(f"sk_ops_{shard:02d}{key.kid}")


@pytest.mark.parametrize("shard", [-1, 64, 100])
def test_no_key_is_minted_for_a_shard_that_does_not_exist(shard: int) -> None:
    with pytest.raises(ValueError, match="not one of 64"):
        keys.mint(shard)


def test_random_texts_of_the_right_form_are_never_keys() -> None:
    """The check sum refuses garbage, so it costs no look-up."""
    dice = random.Random(7)
    for _ in range(20_000):
        text = f"sk_ops_{dice.randrange(64):02d}" + "".join(dice.choices(keys.ALPHABET, k=48))
        assert keys.parse(text) is None


def test_every_changed_character_is_noticed() -> None:
    """A key that was mistyped, at any place, is refused like garbage."""
    for place in range(len(SAMPLE)):
        other = "7" if SAMPLE[place] != "7" else "3"
        assert keys.parse(SAMPLE[:place] + other + SAMPLE[place + 1 :]) is None


def test_two_swapped_characters_are_noticed() -> None:
    for place in range(len(SAMPLE) - 1):
        if SAMPLE[place] != SAMPLE[place + 1]:
            swapped = SAMPLE[:place] + SAMPLE[place + 1] + SAMPLE[place] + SAMPLE[place + 2 :]
            assert keys.parse(swapped) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sk_ops_",
        SAMPLE[:-1],
        SAMPLE + "0",
        SAMPLE + "\n",
        " " + SAMPLE,
        SAMPLE.upper(),
        SAMPLE.replace("sk_ops_", "sk-ops-"),
        SAMPLE[:7] + "64" + SAMPLE[9:],
        SAMPLE[:7] + "٠١" + SAMPLE[9:],
        SAMPLE[:20] + "é" + SAMPLE[21:],
        SAMPLE[:20] + "\0" + SAMPLE[21:],
        SAMPLE[:20] + "\ud800" + SAMPLE[21:],
        "x" * 1_000_000,
    ],
    ids=lambda text: f"of-{len(text)}",
)
def test_what_looks_almost_like_a_key_is_none(text: str) -> None:
    """Never an exception: whatever stands in a header is either a key or is not."""
    assert keys.parse(text) is None


def test_the_published_pattern_finds_every_key_and_only_whole_ones() -> None:
    """Secret scanners search for PATTERN inside other text; the check sum makes a hit certain."""
    pattern = re.compile(keys.PATTERN)
    for key in KEYS[:200]:
        assert pattern.findall(f"export KEY={key.text}\n# {key.text[:-1]}") == [key.text]
    hit = pattern.search("sk_ops_00" + "a" * 48)
    assert hit is not None
    assert keys.parse(hit[0]) is None


def test_a_key_is_marked_by_one_double_click() -> None:
    """Word characters alone: no dash or dot cuts it where people copy it."""
    assert re.fullmatch(r"\w+", SAMPLE, re.ASCII)
    assert len(SAMPLE) == keys.LENGTH == 57


def test_ids_and_secrets_are_drawn_evenly_and_never_twice() -> None:
    """190 bits of the system's own chance: every character says nearly log2(62) bits."""
    assert len({key.kid for key in KEYS}) == len({key.text for key in KEYS}) == len(KEYS)
    drawn = Counter("".join(key.text[9:51] for key in KEYS))
    assert set(drawn) == set(string.ascii_letters + string.digits)
    total = drawn.total()
    entropy = -sum(n / total * log2(n / total) for n in drawn.values())
    assert entropy > log2(62) - 0.01
    assert keys.SECRET_LENGTH * log2(62) > 190


def test_a_key_shows_its_id_but_never_its_secret() -> None:
    """What is printed or logged by mistake tells which key it was, and no more."""
    key = keys.mint(3)
    assert key.kid in repr(key)
    assert key.text[19:] not in f"{key!r} {key}"
