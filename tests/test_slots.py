"""Clusters in values: slots, where commands have their keys, redirections, several hosts."""

import pytest

from proxy.redis.address import RedisUrlError, seeds
from proxy.redis.scripts import SHARD_KEYS
from proxy.redis.slots import SLOTS, Redirect, Word, key_of, masters, redirect, slot_of


@pytest.mark.parametrize(
    ("key", "same_as"),
    [
        (b"{user}.a", b"user"),
        (b"a{user}b{c}", b"user"),
        (b"a{{user}}", b"{user"),
        (b"{s07}:meta", b"s07"),
    ],
)
def test_keys_with_one_tag_share_a_slot(key: bytes, same_as: bytes) -> None:
    assert slot_of(key) == slot_of(same_as)


def test_slots_are_those_of_the_servers() -> None:
    """The first is the check value of the cluster specification; an empty tag is none."""
    assert slot_of(b"123456789") == 0x31C3 % SLOTS
    assert slot_of(b"foo{}{bar}") != slot_of(b"bar")
    assert slot_of(b"foo{bar") != slot_of(b"bar")
    for at in SHARD_KEYS:
        assert len({slot_of(k) for k in (at.meta, at.hold, at.lease, at.tomb, at.usage)}) == 1


@pytest.mark.parametrize(
    ("command", "key"),
    [
        ((b"HGET", b"k", b"f"), b"k"),
        (("XRANGE", "k", "-", "+"), b"k"),
        (("EVALSHA", "sha", 2, b"k", b"l", "arg"), b"k"),
        ((b"EVAL", b"text", 0, b"arg"), None),
        (("XGROUP", "CREATE", "k", "g", "0"), b"k"),
        (("PING",), None),
        ((b"script", b"LOAD", b"text"), None),
        (("TIME",), None),
    ],
)
def test_the_key_of_a_command(command: tuple[Word, ...], key: bytes | None) -> None:
    assert key_of(command) == key


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("MOVED 3999 127.0.0.1:6381", Redirect(False, "127.0.0.1", 6381)),
        ("ASK 3999 host:1", Redirect(True, "host", 1)),
        ("MOVED 3999 ::1:6381", Redirect(False, "::1", 6381)),
        ("MOVED 3999 :6381", Redirect(False, "", 6381)),
        ("ASK 3999 ?:6381", Redirect(True, "", 6381)),
        ("MOVED 3999 host:port", None),
        ("TRYAGAIN Multiple keys", None),
        ("ERR MOVED", None),
    ],
)
def test_what_a_redirection_says(said: str, means: Redirect | None) -> None:
    assert redirect(said) == means


def test_masters_are_read_from_cluster_slots() -> None:
    """A node that does not know its name is the one that was asked."""
    reply = [
        [0, 9, [b"h", 1, b"id"], [b"r", 2, b"id"]],
        [10, 19, [b"", 3, b"id"]],
        [20, 20, [None, 4]],
    ]
    assert list(masters(reply, "me")) == [(0, 9, "h", 1), (10, 19, "me", 3), (20, 20, "me", 4)]


@pytest.mark.parametrize(
    ("url", "means"),
    [
        ("redis://a", ("redis://a",)),
        ("redis://u:p%2C@a:1,b:2/3", ("redis://u:p%2C@a:1/3", "redis://u:p%2C@b:2/3")),
        ("rediss://:p,q@a,b?db=1", ("rediss://:p,q@a?db=1", "rediss://:p,q@b?db=1")),
        ("redis://[::1]:1,[::1]:2", ("redis://[::1]:1", "redis://[::1]:2")),
        ("unix:///run/a,b.sock", ("unix:///run/a,b.sock",)),
    ],
)
def test_a_url_may_name_several_hosts(url: str, means: tuple[str, ...]) -> None:
    assert seeds(url) == means


@pytest.mark.parametrize("hosts", ["a,", ",a", "a,,b", ",".join("a" * 33)])
def test_a_list_of_hosts_with_a_hole_is_refused(hosts: str) -> None:
    with pytest.raises(RedisUrlError, match="with a comma between each two") as caught:
        seeds(f"redis://:hunter2@{hosts}/0")
    assert "hunter2" not in str(caught.value)
